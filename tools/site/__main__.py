"""`make docs`: write the sources to build/docs, then let Zensical build build/site from them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tools.site import commands, rest, staging

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "build" / "docs"


def write(sources: Path) -> None:
    """Everything that Zensical reads, into an empty folder.

    Raises:
        staging.BrokenLink: a page names a file that does not exist.
    """
    shutil.rmtree(sources, ignore_errors=True)
    staging.stage(ROOT, sources)
    for path, text in {**rest.pages(), **commands.pages()}.items():
        page = sources / "reference" / path
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(text, encoding="utf-8")


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
