"""`make docs`: write the sources to build/docs, then let Zensical build build/site from them."""

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tools.site import commands, rest, staging

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "build" / "docs"
CONFIG = ROOT / "zensical.toml"


def write(sources: Path) -> None:
    """Everything that Zensical reads, into an empty folder.

    Raises:
        staging.BrokenLink: a page, or the site's navigation, names a file that does not exist.
    """
    shutil.rmtree(sources, ignore_errors=True)
    staging.stage(ROOT, sources)
    python = Path(__file__).with_name("python.md").read_text(encoding="utf-8")
    for path, text in {"python.md": python, **rest.pages(), **commands.pages()}.items():
        page = sources / "reference" / path
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(text, encoding="utf-8")
    for name in navigation():
        if not (sources / name).is_file():
            raise staging.BrokenLink(f"{CONFIG.name} has {name} in nav, and there is no such page.")


def navigation() -> list[str]:
    """The site's pages in their order, relative to docs/. (Zensical passes over missing ones.)"""
    return list(_names(tomllib.loads(CONFIG.read_text(encoding="utf-8"))["project"]["nav"]))


def _names(entry: Any) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
        return
    for inner in entry.values() if isinstance(entry, dict) else entry:
        yield from _names(inner)


def main() -> int:
    """Exit status: not 0 where a link is broken."""
    try:
        write(SOURCES)
    except staging.BrokenLink as error:
        print(f"docs: {error}", file=sys.stderr)
        return 1
    zensical = Path(sys.executable).with_name("zensical")
    return subprocess.run(
        [zensical, "build", "--strict", "--clean"], cwd=ROOT, env=os.environ | {"NO_COLOR": "1"}
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
