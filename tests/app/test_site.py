"""The documentation site builds, has no broken links, and asks no other host for anything."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tools.site import staging
from tools.site.__main__ import navigation

ROOT = Path(__file__).parents[2]
FETCHED = re.compile(
    r"<(?:script|img|iframe|source|audio|video)[^>]*\bsrc(?:set)?=\"((?:https?:)?//[^\"]+)"
    r"|<link[^>]*rel=\"?(?:stylesheet|preconnect|preload|icon)[^>]*href=\"((?:https?:)?//[^\"]+)"
)


def test_it_builds_and_asks_no_other_host() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.site"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    site = ROOT / "build" / "site"
    for name in navigation():
        text = (site / name).with_suffix(".html").read_text()
        assert FETCHED.findall(text) == [], name
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", sheet.read_text()), sheet


def test_what_would_be_fetched_is_found() -> None:
    for tag in (
        '<script src="https://unpkg.com/x">',
        '<link href="//fonts.example/a" rel="stylesheet" href="https://fonts.example/a">',
        '<img alt="" src="//example.org/a.png">',
    ):
        assert FETCHED.search(tag), tag


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "docs" / "how-to").mkdir(parents=True)
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "alerts.yml").write_text("groups: []")
    (tmp_path / "README.md").write_text("[The guide](docs/how-to/phone.md)")
    return tmp_path


def test_files_outside_of_docs_come_along(root: Path) -> None:
    page = root / "docs" / "how-to" / "phone.md"
    page.write_text("[alerts](../../docker/alerts.yml#a) [read](../../README.md) `[x](y.md)`")
    staging.stage(root, root / "out")
    assert (root / "out" / "how-to" / "phone.md").read_text() == (
        "[alerts](../repository/docker/alerts.yml#a) [read](../repository/README.md) `[x](y.md)`"
    )
    assert (root / "out" / "repository" / "docker" / "alerts.yml").is_file()
    assert (root / "out" / "repository" / "README.md").read_text() == (
        "[The guide](../how-to/phone.md)"
    )


def test_a_link_to_nothing_is_an_error(root: Path) -> None:
    (root / "docs" / "how-to" / "phone.md").write_text("[alerts](../../docker/none.yml)")
    with pytest.raises(staging.BrokenLink, match=r"docs/how-to/phone.md links to .*none.yml"):
        staging.stage(root, root / "out")
