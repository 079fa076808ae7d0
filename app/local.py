"""A whole service for one command: started, used, and gone."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.domain.errors import Unavailable
from app.embedded import end_with_parent

STOP_SECONDS = 60.0


@contextmanager
def service(data_dir: Path) -> Iterator[str]:
    """A service on a free port of loopback; gives its address. Its log is beside its data.

    It is in a session of its own: Ctrl-C reaches the command alone, which then ends it.

    Raises:
        Unavailable: it did not start.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "app.cli", "serve", "--port", "0"]
    with (data_dir / "service.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--data-dir", str(data_dir)],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            # It listens on loopback for itself, whatever the user's own service asks for.
            env=os.environ | {"SECATEUR_REQUIRE_KEYS": "auto"},
            start_new_session=True,
            preexec_fn=end_with_parent,
        )
        try:
            yield _address(process, data_dir / "service.log")
        finally:
            process.terminate()
            process.wait(timeout=STOP_SECONDS)


@contextmanager
def passing_service() -> Iterator[str]:
    """The same in a temporary folder, which goes with it; it stays where the start failed."""
    folder = Path(tempfile.mkdtemp(prefix="secateur-"))
    began = False
    try:
        with service(folder) as url:
            began = True
            yield url
    finally:
        if began:
            shutil.rmtree(folder, ignore_errors=True)


def _address(process: "subprocess.Popen[str]", log: Path) -> str:
    assert process.stdout is not None
    # One line comes when the service is ready; the end of the stream when it could not start.
    started = time.monotonic()
    for line in process.stdout:
        for word in line.split():
            if word.startswith("http://"):
                return word
    raise Unavailable(
        f"The service ended after {time.monotonic() - started:.0f} s without getting ready; its "
        f"log is {log}."
    )
