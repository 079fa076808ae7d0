"""Build the page: `python -m tools.page`. `--check` needs no node: it only tells whether the page
was built since its sources changed."""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from app.main import create_app

WEB = Path(__file__).parents[1] / "app" / "web"
STAMP = WEB / "built" / "sources.json"
SOURCES = ("index.html", "package.json", "package-lock.json", "tsconfig.json", "vite.config.ts")
FOLDERS = ("src", "public")
PROSE = {"description", "summary", "example", "examples", "title"}


def sources() -> dict[str, str]:
    """SHA-256 of each source, and of the API's document without its prose."""
    files = [WEB / name for name in SOURCES]
    files += [each for name in FOLDERS for each in (WEB / name).rglob("*") if each.is_file()]
    stamp = {
        str(file.relative_to(WEB)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(files)
    }
    document = _without_prose(create_app().openapi())
    document.pop("info")
    told = json.dumps(document, sort_keys=True).encode()
    return stamp | {"the API": hashlib.sha256(told).hexdigest()}


def changed() -> list[str]:
    """Sources that are not those of the built page."""
    built = json.loads(STAMP.read_text()) if STAMP.exists() else {}
    now = sources()
    return sorted(name for name in built | now if built.get(name) != now.get(name))


def build() -> None:
    """Types from the API's document, then the page; npm installs what the lock file names."""
    if shutil.which("npm") is None:
        sys.exit("Building the page needs node 20 or newer and npm; running the service does not.")
    document = WEB / "openapi.json"
    _run("npm", "ci", "--silent")
    try:
        document.write_text(json.dumps(create_app().openapi()))
        _run("npm", "run", "--silent", "types")
    finally:
        document.unlink(missing_ok=True)
    _run("npm", "run", "--silent", "build")
    STAMP.write_text(json.dumps(sources(), indent=1) + "\n")


def _run(*command: str) -> None:
    subprocess.run(command, cwd=WEB, check=True)


def _without_prose(value: Any) -> Any:
    if isinstance(value, dict):
        # A property may be called title: what is prose is text.
        return {
            name: _without_prose(each)
            for name, each in value.items()
            if not (name in PROSE and not (isinstance(each, dict) and "type" in each))
        }
    return [_without_prose(each) for each in value] if isinstance(value, list) else value


def main() -> None:
    """Build or check."""
    parser = argparse.ArgumentParser(prog="tools.page", description=__doc__)
    parser.add_argument("--check", action="store_true")
    if not parser.parse_args().check:
        build()
    elif names := changed():
        sys.exit(f"app/web/built is older than {', '.join(names)}: run `make page`.")


if __name__ == "__main__":
    main()
