"""The reference of the command line, from typer's own help."""

import re

import typer
from typer.cli import get_docs_for_click
from typer.main import get_command

from app.cli import cli

_INTRODUCTION = """\
---
description: Every command of secateur, with its options.
---

# Command line

Made from the help that `secateur --help` and `secateur COMMAND --help` print.
"""


def pages() -> dict[str, str]:
    """Markdown by file name."""
    command = get_command(cli)
    context = typer.Context(command, info_name="secateur")
    text = get_docs_for_click(obj=command, ctx=context, name="secateur")
    # What the page says itself, lists whose sentences are cut short, and what every command has.
    text = re.sub(r"\A# .*?(?=^## )", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"\*\*Commands\*\*:\n\n(\* .*\n)+", "", text)
    text = text.replace("* `--help`: Show this message and exit.\n", "")
    text = re.sub(r"\*\*Options\*\*:\n\n(?!\*)", "", text)
    return {"commands.md": f"{_INTRODUCTION}\n{text}"}
