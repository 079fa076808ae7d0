"""The parent's end of a job's process: its folder, its pipes, its end."""

import os
import resource
import selectors
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Protocol

from workers.confinement import Confines, Limits, environment
from workers.protocol import LINE_LIMIT_BYTES
from workers.users import Lease, Users

FOLDER_PREFIX = "secateur-job-"
DRAIN_PREFIX = "secateur-drain-"


def sweep_folders() -> None:
    """Delete what workers left behind that were killed: their process is gone."""
    for left in Path(tempfile.gettempdir()).glob("secateur-*-*"):
        if left.name.startswith((FOLDER_PREFIX, DRAIN_PREFIX)):
            owner = left.name.split("-")[2]
            if owner.isdigit() and not _runs(int(owner)):
                left.unlink() if left.is_file() else discard(left)


def discard(folder: Path) -> None:
    """Delete a job's folder, whatever the job made of it."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
    except RecursionError:
        pass  # Thousands of folders within each other.
    if folder.exists():
        # Neither follows symbolic links; folders may have lost their owner's rights.
        subprocess.run(["chmod", "-R", "u+rwX", "--", folder], stderr=subprocess.DEVNULL)
        subprocess.run(["rm", "-rf", "--", folder], stderr=subprocess.DEVNULL)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class Process(Protocol):
    """What `Child` asks of a process, however it was made."""

    stdin: IO[bytes]
    stdout: IO[bytes]
    cpu_seconds: float
    """CPU time used, once it is waited for."""

    @property
    def pid(self) -> int:
        """Process id, and the id of its process group."""

    def poll(self) -> int | None:
        """Exit status, or minus the signal's number; None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """The same at the end. Raises `subprocess.TimeoutExpired`."""

    def kill(self) -> None:
        """End it and what it has started; nothing where it was waited for."""


Make = Callable[[Confines, IO[bytes]], Process]
"""Makes a process that is confined so, and whose standard error is this file."""


class Child:
    """One child process and its folder; the parent's end of the pipes.

    Args:
        limits: resource limits.
        made: what makes it; or a program, which gets its `Confines` as one more argument.
        users: who lends it a user of its own, where this process is root.
    """

    def __init__(
        self, limits: Limits, made: Make | tuple[str, ...], users: Users | None = None
    ) -> None:
        self.limits = limits
        self.folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{os.getpid()}-"))
        self.out = self.folder / "out"
        self.scratch = self.folder / "scratch"
        self.log = self.folder / "log.txt"
        self.out.mkdir()
        self.scratch.mkdir()
        self._lease = self._lend(users) if users else None
        confines = Confines(
            limits=limits,
            folder=str(self.folder),
            parent=os.getpid(),
            user=self._lease.uid if self._lease else None,
        )
        make = partial(Program, made) if isinstance(made, tuple) else made
        with self.log.open("wb") as log:
            self._process: Process = make(confines, log)
        self._lines = _Lines(self._process.stdout)

    def _lend(self, users: Users) -> Lease | None:
        """A user for the process, who owns what it may write; None says itself in its `ready`."""
        lease = users.lease()
        if lease is None:
            return None
        try:
            lease.hand_over(self.folder, (self.out, self.scratch))
        except OSError:
            # Root without the privilege, as in some containers.
            lease.release()
            return None
        return lease

    def receive(self, path: Path) -> None:
        """Let the process read a file that was put into its folder."""
        if self._lease is not None:
            os.chown(path, -1, self._lease.uid)
            path.chmod(0o640)

    @property
    def pid(self) -> int:
        """Process id, and the id of its process group."""
        return self._process.pid

    @property
    def cpu_seconds(self) -> float:
        """CPU time used, once `exit_status` is known."""
        return self._process.cpu_seconds

    def order(self, line: str) -> None:
        """Hand over the order; a child that died meanwhile shows by its exit status."""
        pipe = self._process.stdin
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
        self._process.kill()

    def end(self) -> None:
        """End the process and wait for it: its files are what they will be."""
        self.kill()
        self._process.wait()

    def close(self) -> None:
        """End the process, forget its folder."""
        self.end()
        self._lines.close()
        for pipe in (self._process.stdin, self._process.stdout):
            try:
                pipe.close()
            except BrokenPipeError:
                pass
        discard(self.folder)
        if self._lease is not None:
            self._lease.release()
            self._lease = None


class Program:
    """A program of its own."""

    def __init__(self, program: tuple[str, ...], confines: Confines, log: IO[bytes]) -> None:
        self._started = start(program, confines, subprocess.PIPE, subprocess.PIPE, log)
        assert self._started.stdin is not None
        assert self._started.stdout is not None
        self.stdin, self.stdout = self._started.stdin, self._started.stdout
        self.cpu_seconds = 0.0

    @property
    def pid(self) -> int:
        """As `Process` says."""
        return self._started.pid

    def poll(self) -> int | None:
        """As `Process` says."""
        return self._started.poll()

    def wait(self, timeout: float | None = None) -> int:
        """As `Process` says."""
        before = _waited_for()
        status = self._started.wait(timeout)
        self.cpu_seconds += _waited_for() - before
        return status

    def kill(self) -> None:
        """As `Process` says."""
        if self._started.returncode is None:  # Waited for, the number may be another's by now.
            kill_group(self.pid)


def start(
    program: tuple[str, ...],
    confines: Confines,
    inputs: int,
    outputs: int,
    errors: int | IO[bytes],
) -> subprocess.Popen[bytes]:
    """A program with its `Confines` as one more argument, in a folder and a group of its own.

    Args:
        inputs, outputs, errors: as `subprocess.Popen` takes them.
    """
    folder = Path(confines.folder)
    return subprocess.Popen(
        [*program, confines.model_dump_json()],
        stdin=inputs,
        stdout=outputs,
        stderr=errors,
        cwd=folder,
        env=environment(folder),
        process_group=0,
    )


def kill_group(leader: int) -> None:
    """End a group of processes at once."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _waited_for() -> float:
    """CPU seconds of all children that were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class _Lines:
    """Lines of a pipe, without blocking and without trusting their length."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._descriptor = pipe.fileno()
        os.set_blocking(self._descriptor, False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._descriptor, selectors.EVENT_READ)
        self._rest = b""

    def close(self) -> None:
        self._selector.close()

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
