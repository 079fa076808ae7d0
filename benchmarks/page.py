"""How long the page takes a newcomer: `python -m benchmarks.page [--runs 5]`.

Each run opens the page in a fresh browser context, takes the example, keeps the page's own goal,
narrows its layers, prunes with the quick recovery and downloads the pruned model: by clicks alone,
as fast as the page lets them. Prints the moments of each run and their medians. Needs Chromium.
"""

import argparse
import re
import tempfile
import time
from pathlib import Path
from statistics import median

from playwright.sync_api import Browser, expect

from tests.e2e.browser import chromium
from tests.e2e.service import serve

MOMENTS = ("first button", "example read", "submitted", "succeeded", "downloaded")


def main() -> None:
    """Measure, print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=5)
    asked = parser.parse_args()
    rows = []
    print(f"| Run | {' | '.join(MOMENTS)} |\n|{'---|' * (len(MOMENTS) + 1)}")
    with (
        tempfile.TemporaryDirectory(prefix="secateur-bench-") as name,
        serve(Path(name)) as service,
        chromium() as browser,
    ):
        expect.set_options(timeout=180_000)
        for run in range(asked.runs):
            rows.append(_walk(browser, service.url))
            print(_row(str(run + 1), rows[-1]), flush=True)
    print(_row("median", [median(column) for column in zip(*rows, strict=True)]))


def _row(name: str, seconds: list[float]) -> str:
    return f"| {name} | {' | '.join(f'{value:.1f} s' for value in seconds)} |"


def _walk(browser: Browser, url: str) -> list[float]:
    context = browser.new_context()
    page = context.new_page()
    began, moments = time.perf_counter(), []

    def reached() -> None:
        moments.append(time.perf_counter() - began)

    page.goto(url)
    expect(page.get_by_role("button", name="Try the example")).to_be_visible()
    reached()
    page.get_by_role("button", name="Try the example").click()
    expect(page.get_by_text("units and channels can be removed")).to_be_visible()
    reached()
    page.get_by_role("radio", name=re.compile("Narrower layers")).check()
    page.get_by_role("radio", name=re.compile("^quick")).check()
    page.get_by_role("button", name="Prune", exact=True).click()
    expect(page.locator("h1").get_by_text(re.compile("queued|running"))).to_be_visible()
    reached()
    expect(page.locator("h1").get_by_text("succeeded")).to_be_visible()
    reached()
    with page.expect_download() as told:
        page.get_by_role("button", name="Download model.keras", exact=True).click()
    told.value.path()
    reached()
    context.close()
    return moments


if __name__ == "__main__":
    main()
