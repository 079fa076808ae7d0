"""Copies docs/, and what its pages link to elsewhere in the repository.

On a git host a page may link to `../docker/prometheus/alerts.yml`. The site has only what lies in
its own folder, so such files are copied to `repository/`, and links to them are changed.
"""

import os
import re
import shutil
from pathlib import Path

_LINK = re.compile(r"(?<!`)(?P<before>\]\(|(?:src|href|srcset)=\")(?P<path>[^)\s\"#:?]+)(?=[)#\"])")
_CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.MULTILINE | re.DOTALL)


class BrokenLink(Exception):
    """A page names a file that does not exist."""


def stage(root: Path, sources: Path) -> None:
    """Copy root/docs to `sources`, with the files outside of it that its pages name."""
    pages = sorted((root / "docs").rglob("*"))
    waiting = [path for path in pages if path.is_file()]
    done: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path in done:
            continue
        done.add(path)
        target = sources / _place(root, path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix != ".md":
            shutil.copyfile(path, target)
            continue
        text, named = _moved(root, path)
        target.write_text(text, encoding="utf-8")
        waiting += named


def _place(root: Path, path: Path) -> Path:
    """Where a file of the repository lies on the site."""
    inside = path.relative_to(root)
    if inside.parts[0] == "docs":
        return inside.relative_to("docs")
    return Path("repository") / inside


def _moved(root: Path, page: Path) -> tuple[str, list[Path]]:
    """A page's text with its links as the site needs them, and the files outside docs/."""
    named: list[Path] = []

    def move(match: re.Match[str]) -> str:
        path = Path(os.path.normpath(page.parent / match["path"]))
        place = _place(root, path)
        if place.parts[0] == "reference" and page.is_relative_to(root / "docs"):
            return match[0]  # Generated; Zensical finds out whether it is there.
        if not path.is_file():
            raise BrokenLink(
                f"{page.relative_to(root)} links to {match['path']}, which is no file of the "
                "repository. Name one that exists, relative to the page."
            )
        if path.is_relative_to(root / "docs") and page.is_relative_to(root / "docs"):
            return match[0]
        named.append(path)
        return match["before"] + os.path.relpath(place, _place(root, page).parent)

    text = page.read_text(encoding="utf-8")
    pieces, at = [], 0
    for code in _CODE.finditer(text):
        pieces += [_LINK.sub(move, text[at : code.start()]), code[0]]
        at = code.end()
    return "".join([*pieces, _LINK.sub(move, text[at:])]), named
