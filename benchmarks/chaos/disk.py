"""The store on a small disk of its own, which can be filled up and frozen."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MIB = 1024 * 1024
DISK_BYTES = 96 * MIB


class Disk:
    """What can be done to the store's folder; `reason` says why filling and freezing cannot."""

    def __init__(self, folder: Path, reason: str = "") -> None:
        self.folder = folder
        self.reason = reason

    def fill(self, seconds: float) -> None:
        """No byte is left, for a while."""
        filler = self.folder / "filler"
        try:
            with filler.open("wb", buffering=0) as file:
                try:
                    while True:
                        file.write(b"\0" * MIB)
                except OSError:
                    pass
            time.sleep(seconds)
        finally:
            filler.unlink(missing_ok=True)

    def freeze(self, seconds: float) -> None:
        """Writes do not return, for a while."""
        subprocess.run(["fsfreeze", "--freeze", self.folder], check=True)
        try:
            time.sleep(seconds)
        finally:
            subprocess.run(["fsfreeze", "--unfreeze", self.folder], check=True)

    def vanish(self, seconds: float) -> None:
        """The folder of unfinished writes is away, for a while: each write is an error."""
        inner, away = self.folder / "tmp", self.folder / "away"
        inner.rename(away)
        try:
            time.sleep(seconds)
        finally:
            # A worker that was started meanwhile has made a new one.
            inner.mkdir(exist_ok=True)
            for file in away.iterdir():
                file.rename(inner / file.name)
            away.rmdir()


@contextmanager
def disk(folder: Path) -> Iterator[Disk]:
    """A loop mount where that is allowed, else the folder as it is."""
    folder.mkdir(parents=True)
    image = folder.with_suffix(".img")
    if reason := _mount(folder, image):
        yield Disk(folder, reason)
        return
    try:
        yield Disk(folder)
    finally:
        for _ in range(50):
            if subprocess.run(["umount", folder], stderr=subprocess.DEVNULL).returncode == 0:
                break
            time.sleep(0.2)
        image.unlink(missing_ok=True)


def _mount(folder: Path, image: Path) -> str:
    if os.getuid() != 0:
        return "mounting a small disk needs root"
    with image.open("wb") as file:
        file.truncate(DISK_BYTES)
    for command in (["mkfs.ext4", "-q", image], ["mount", "-o", "loop", image, folder]):
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except FileNotFoundError as error:
            return f"there is no {error.filename}"
        if done.returncode:
            return f"{command[0]}: {done.stderr.strip()}"
    return ""
