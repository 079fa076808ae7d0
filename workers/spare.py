"""The warm spare: a child process that has imported TensorFlow and waits for its one order."""

import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

from workers.confine import Limits, environment
from workers.protocol import LINE_LIMIT_BYTES

PROGRAM = (sys.executable, "-I", "-m", "workers.child")
"""Isolated: neither the environment nor the current folder adds modules."""


FOLDER_PREFIX = "secateur-job-"
DRAIN_PREFIX = "secateur-drain-"


def sweep_folders() -> None:
    """Delete what workers left behind that were killed: their process is gone."""
    for left in Path(tempfile.gettempdir()).glob("secateur-*-*"):
        if left.name.startswith((FOLDER_PREFIX, DRAIN_PREFIX)):
            owner = left.name.split("-")[2]
            if owner.isdigit() and not _runs(int(owner)):
                left.unlink() if left.is_file() else shutil.rmtree(left, ignore_errors=True)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class Child:
    """One child process and its folder; the parent's end of the pipes."""

    def __init__(self, limits: Limits, program: tuple[str, ...] = PROGRAM) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{os.getpid()}-"))
        self.out = self.folder / "out"
        self.scratch = self.folder / "scratch"
        self.log = self.folder / "log.txt"
        self.out.mkdir()
        self.scratch.mkdir()
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*program, limits.model_dump_json()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self.folder,
                env=environment(self.folder),
                process_group=0,
            )
        self._lines = _Lines(_pipe(self._process.stdout))

    @property
    def pid(self) -> int:
        """Process id, and the id of its process group."""
        return self._process.pid

    def order(self, line: str) -> None:
        """Hand over the order; a child that died meanwhile shows by its exit status."""
        pipe = _pipe(self._process.stdin)
        try:
            pipe.write(line.encode() + b"\n")
            pipe.close()
        except BrokenPipeError:
            pass

    def read(self, seconds: float) -> list[bytes] | None:
        """Lines that come within `seconds`; None when the child has closed its end."""
        return self._lines.read(seconds)

    def exit_status(self) -> int:
        """Wait for the end: the exit status, or minus the signal's number."""
        try:
            return self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._process.wait()

    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def kill(self) -> None:
        """End the whole process group at once."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def close(self) -> None:
        """End the process, forget its folder."""
        self.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            try:
                _pipe(pipe).close()
            except BrokenPipeError:
                pass
        shutil.rmtree(self.folder, ignore_errors=True)


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


class _Lines:
    """Lines of a pipe, without blocking and without trusting their length."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._descriptor = pipe.fileno()
        os.set_blocking(self._descriptor, False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._descriptor, selectors.EVENT_READ)
        self._rest = b""

    def read(self, seconds: float) -> list[bytes] | None:
        if not self._selector.select(seconds):
            return []
        data = os.read(self._descriptor, 1 << 16)
        if not data:
            return None
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LINE_LIMIT_BYTES:
            raise ValueError(f"a line is longer than {LINE_LIMIT_BYTES} bytes")
        return lines


class Nursery:
    """Keeps one spare child ready."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._spare: Child | None = None

    def prepare(self) -> None:
        """Start a spare unless one waits."""
        if self._spare is None or not self._spare.alive():
            self.close()
            self._spare = Child(self._limits)

    def take(self) -> Child:
        """The spare, or a fresh child; the caller closes it."""
        self.prepare()
        child, self._spare = self._spare, None
        assert child is not None
        return child

    def close(self) -> None:
        """End the spare."""
        if self._spare is not None:
            self._spare.close()
            self._spare = None
