"""Every snippet of the documentation runs, page by page, against one service.

A fence of bash or Python is run as it stands, in one folder, in the site's order; one with a title
is saved as that file, as the page tells its reader. Those that cannot run here are marked with
`<!-- not run: REASON -->` in the line above.
"""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from app.domain.spec import PruningSpec
from tests.e2e.service import SECATEUR, Service
from tools.site.__main__ import navigation

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
FENCE = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]+) -->\n)?"
    r"^```(?P<language>\w+)(?: title=\"(?P<title>[\w.]+)\")?\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
INLINE_SPEC = re.compile(r"`(\{\"(?:prune|schedule|evaluate)\".+?\})`")


class Snippet(NamedTuple):
    """A fence of a page."""

    language: str
    text: str
    title: str | None
    reason: str | None
    line: int


def snippets(page: str) -> list[Snippet]:
    text = (DOCS / page).read_text()
    return [
        Snippet(
            it["language"], it["text"], it["title"], it["reason"], text[: it.start()].count("\n")
        )
        for it in FENCE.finditer(text)
    ]


def runs(page: str) -> list[Snippet]:
    wanted = ("bash", "sh", "python")
    return [one for one in snippets(page) if one.language in wanted and one.reason is None]


PAGES = [name for name in navigation() if (DOCS / name).is_file()]
FIRST = "tutorial.md"


def walk(page: str) -> str:
    """Run a page's snippets in the working folder; what its commands printed."""
    said = ""
    for one in runs(page):
        if one.title:
            Path(one.title).write_text(one.text)
        elif one.language == "python":
            code = compile(one.text, f"{page}, line {one.line}", "exec")
            exec(code, {"__name__": "__main__"})
        else:
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", one.text],
                capture_output=True,
                text=True,
                env=os.environ | {"PATH": f"{SECATEUR.parent}:{os.environ['PATH']}"},
            )
            said += done.stdout
            assert done.returncode == 0, f"{page}, line {one.line}\n{done.stdout}{done.stderr}"
    return said


@pytest.fixture(scope="module")
def folder(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a reader works, after the tutorial."""
    folder = tmp_path_factory.mktemp("docs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SECATEUR_URL", service.url)
        said = walk(FIRST)
    (folder / "tutorial.txt").write_text(said)
    return folder


def test_the_tutorial_shows_what_is_printed(folder: Path) -> None:
    said = (folder / "tutorial.txt").read_text()
    shown = next(one.text for one in snippets(FIRST) if one.language == "text")
    exact = [line for line in shown.splitlines() if re.search(r"│ (parameters|MACs) ", line)]
    assert len(exact) == 2
    for line in exact:
        assert " ".join(line.split()) in " ".join(said.split())
    assert (folder / "out" / "report.html").is_file()


@pytest.mark.parametrize("page", [page for page in PAGES if page != FIRST and runs(page)])
def test_snippets_of(
    page: str, folder: Path, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SECATEUR_URL", service.url)
    walk(page)  # Each command and each line of Python is asserted to succeed.


def test_specs_between_the_lines_are_specs() -> None:
    found = [spec for page in PAGES for spec in INLINE_SPEC.findall((DOCS / page).read_text())]
    assert len(found) > 5
    for spec in found:
        body = json.loads(spec)
        body.setdefault("prune", {"target": {"kind": "macs", "keep": 0.5}})
        PruningSpec.model_validate({"model": "mdl_example", "dataset": "dts_example"} | body)
