"""A real browser for tests of the page: Debian's Chromium, driven by Playwright."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

CHROMIUM = (
    os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
)
LONGEST_MS = 60_000
HARMLESS = ("the server responded with a status of 4", "the server responded with a status of 503")
"""The browser's own words for answers that the page shows to its user, or asks again."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser; tests are skipped where there is none."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on PATH: install it (Debian: chromium), or name it in CHROMIUM")
    with sync_playwright() as playwright:
        # As root, as in containers, Chromium starts without its sandbox only.
        expect.set_options(timeout=LONGEST_MS)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Witness:
    """Hears what a page does beside what it shows."""

    def __init__(self, page: Page, home: str) -> None:
        self.home = home
        self.complaints: list[str] = []
        self.strangers: list[str] = []
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self._asked)

    def _said(self, message: Any) -> None:
        if message.type in ("error", "warning") and not any(x in message.text for x in HARMLESS):
            self.complaints.append(message.text)

    def _asked(self, request: Any) -> None:
        if not request.url.startswith((self.home, "data:", "blob:")):
            self.strangers.append(request.url)


@contextmanager
def opened(browser: Browser, url: str, **context: Any) -> Iterator[Page]:
    """A page with a context of its own; at its end nothing was asked of other hosts, and neither
    the policy nor the scripts complained."""
    within = browser.new_context(**context)
    within.set_default_timeout(LONGEST_MS)
    page = within.new_page()
    witness = Witness(page, url)
    page.goto(url)
    yield page
    within.close()
    assert witness.strangers == []
    assert witness.complaints == []


def picture(page: Page, folder: Path, name: str) -> None:
    """Kept for people to look at, where SECATEUR_SCREENSHOTS names a folder."""
    to = Path(os.environ.get("SECATEUR_SCREENSHOTS") or folder)
    to.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=to / f"{name}.png", full_page=True)
