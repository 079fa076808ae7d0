"""Where jobs' processes come from: copies of a template that has imported TensorFlow already."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

from workers.confinement import Confines, Limits, environment
from workers.copying import Answer, Question, answered, ask
from workers.parent import FOLDER_PREFIX, Child, discard, kill_group
from workers.users import Users

PROGRAM = (sys.executable, "-I", "-m", "workers.template")
PATIENCE_SECONDS = 5.0
"""For an answer of a template that has answered before."""
POLL_SECONDS = 0.01


class Nursery:
    """Keeps a template, and has it copied.

    Args:
        limits: resource limits of each copy.
        users: who lends copies users of their own, where this process is root.
        program: the template's; it gets the number of its socket as one more argument.
    """

    def __init__(
        self, limits: Limits, users: Users | None = None, program: tuple[str, ...] = PROGRAM
    ) -> None:
        self._limits = limits
        self._users = users
        self._program = program
        self._template: Template | None = None

    def prepare(self) -> None:
        """Start a template unless one runs."""
        if self._template is None or not self._template.alive():
            self.close()
            self._template = Template(self._program)

    def take(self) -> Child:
        """A process for one job; the caller closes it."""
        self.prepare()
        assert self._template is not None
        return Child(self._limits, self._template.copy, self._users)

    def close(self) -> None:
        """End the template, and every copy with it."""
        if self._template is not None:
            self._template.close()
            self._template = None


class Template:
    """The worker's end of a template's process, which runs `program`."""

    def __init__(self, program: tuple[str, ...]) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{os.getpid()}-"))
        (self._folder / "scratch").mkdir()
        self.socket, theirs = socket.socketpair()
        self._log = self._folder / "log.txt"
        with theirs, self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*program, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                env=environment(self._folder),
                pass_fds=[theirs.fileno()],
                process_group=0,
            )
        self.ready = False
        """Whether it has answered anything yet."""

    @property
    def pid(self) -> int:
        """Process id; copies are its children."""
        return self._process.pid

    def copy(self, confines: Confines, log: IO[bytes]) -> "Copy":
        """A copy, as soon as the template has imported all."""
        return Copy(self, confines.model_copy(update={"parent": self.pid}), log)

    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def last_words(self) -> bytes:
        """What it wrote, where that is still there."""
        try:
            return self._log.read_bytes()
        except OSError:
            return b""

    def ended_by_itself(self) -> bool:
        """Whether the process comes to its end, whose socket is closed already."""
        try:
            self._process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> int:
        """End it at once, and copies with it: how it ended, also where that was before."""
        self._process.kill()
        return self._process.wait()

    def close(self) -> None:
        """End it, forget its folder."""
        self.kill()
        self.socket.close()
        discard(self._folder)


class Copy:
    """A process that a template made of itself, as far as `Child` looks at a process."""

    def __init__(self, template: Template, confines: Confines, log: IO[bytes]) -> None:
        self.returncode: int | None = None
        self.cpu_seconds = 0.0
        self._template = template
        self._pid = 0
        self._log = Path(log.name)
        their_input, ours = os.pipe()
        self.stdin: IO[bytes] = os.fdopen(ours, "wb")
        ours, their_output = os.pipe()
        self.stdout: IO[bytes] = os.fdopen(ours, "rb")
        try:
            streams = (their_input, their_output, log.fileno())
            ask(template.socket, Question(do="copy", confines=confines), streams)
        except OSError:
            self._lost(gone=True)
        finally:
            os.close(their_input)
            os.close(their_output)

    @property
    def pid(self) -> int:
        """Process id, and the id of its process group; 0 until the template has told it."""
        self._began()
        return self._pid

    def poll(self) -> int | None:
        """Exit status, or minus the signal's number; None while it runs, or has yet to begin."""
        if self.returncode is None and self._began():
            told = self._asked(Question(do="reap", pid=self._pid))
            if told is not None and told.status is not None:
                self.returncode, self.cpu_seconds = told.status, told.cpu_seconds
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The same at the end. Raises `subprocess.TimeoutExpired`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(PROGRAM, timeout or 0.0)
            time.sleep(POLL_SECONDS)
        return status

    def kill(self) -> None:
        """End it and what it has started. One that has yet to begin takes its template along."""
        if self.returncode is not None:
            return
        if not self._template.alive():
            self._lost(gone=True)  # The copy has ended too, and its number may be another's.
        elif self._began(PATIENCE_SECONDS if self._template.ready else 0.0):
            kill_group(self._pid)
        elif self.returncode is None:
            self._lost()

    def _began(self, seconds: float = 0.0) -> bool:
        """Whether its number is known, and it has not ended."""
        if not self._pid and self.returncode is None:
            told = self._answered(seconds)
            self._pid = 0 if told is None else told.pid
        return bool(self._pid) and self.returncode is None

    def _asked(self, question: Question) -> Answer | None:
        try:
            ask(self._template.socket, question)
        except OSError:
            self._lost(gone=True)
            return None
        told = self._answered(PATIENCE_SECONDS)
        if self.returncode is None and (told is None or told.pid != self._pid):
            self._lost()  # What comes later would be taken for an answer to something else.
            return None
        return told

    def _answered(self, seconds: float) -> Answer | None:
        try:
            told = answered(self._template.socket, max(seconds, POLL_SECONDS))
        except OSError:
            self._lost(gone=True)
            return None
        self._template.ready = self._template.ready or told is not None
        return told

    def _lost(self, *, gone: bool = False) -> None:
        """Without its template, and so ended with it."""
        ended = gone and self._template.ended_by_itself()
        if self._pid and self._template.alive():
            kill_group(self._pid)
        status = self._template.kill()
        # Where it came to its end by itself before it had copied itself, it could not import.
        self.returncode = status if ended and not self._pid and status else -signal.SIGKILL
        if not self._pid:
            with self._log.open("ab") as log:
                log.write(self._template.last_words())
