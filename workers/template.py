"""The template of jobs' processes: it has imported TensorFlow, and a copy of it carries out a job.

`python -I -m workers.template DESCRIPTOR`: imports what jobs need, then does what its worker asks
through the socket of this number, until the worker closes it. It reads nothing that a user sent,
and a copy confines itself before it reads anything at all.

Copying (fork) is safe in a process of one thread: no lock can be held by another. TensorFlow starts
none before its first operation, and the environment keeps other libraries from it. Where there
are several all the same, or nobody knows, a program of its own is started, which takes seconds.
"""

import gc
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np

from app.confinement.kernel import LINUX
from app.confinement.process import die_with_parent
from workers import child
from workers.confinement import Confines, environment
from workers.copying import Answer, Question, answer, hear
from workers.parent import start

NAME = "secateur-job"
"""What `ps -o comm` and `top` call a copy."""
SLOWLY = b"the template has several threads: this process imports TensorFlow itself\n"


def main(loads: "Callable[[], child.Work]" = child.load) -> None:
    """Import, then serve.

    Args:
        loads: imports what carries out orders, and answers it; TensorFlow's by default.
    """
    die_with_parent()
    with socket.socket(fileno=int(sys.argv[1])) as worker:
        work = loads()
        # What is here now is never garbage: copies would look through it, and copy its pages.
        gc.collect()
        gc.freeze()
        Template(worker, work).serve()


class Template:
    """Serves one worker."""

    def __init__(self, worker: socket.socket, work: "child.Work") -> None:
        self.worker = worker
        self.work = work

    def serve(self) -> None:
        """Until the worker closes its end."""
        while (heard := hear(self.worker)) is not None:
            question, streams = heard
            answer(self.worker, self._done(question, streams))

    def _done(self, question: Question, streams: Sequence[int]) -> Answer:
        if question.do == "reap":
            return _reaped(question.pid)
        assert question.confines is not None
        pid = self._copied(question.confines, streams)
        for stream in streams:
            os.close(stream)
        return Answer(pid=pid)

    def _copied(self, confines: Confines, streams: Sequence[int]) -> int:
        if not _has_one_thread():
            return _started(confines, streams)
        if pid := os.fork():
            _lead_group(pid)
            return pid
        self._become(confines, streams)

    def _become(self, confines: Confines, streams: Sequence[int]) -> NoReturn:
        """A job's process, from here to its end; what it raises ends it with a traceback."""
        _lead_group(0)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        folder = Path(confines.folder)
        os.chdir(folder)
        own = environment(folder)  # Which asks the present one for what may be passed on.
        os.environ.clear()
        os.environ.update(own)
        tempfile.tempdir = None  # Found out anew, from the environment.
        np.random.seed()  # The global generator; Python's own sees to itself.
        Path("/proc/self/comm").write_text(NAME)
        child.leave(child.live(confines, lambda: self.work))


def _started(confines: Confines, streams: Sequence[int]) -> int:
    inputs, outputs, errors = streams
    os.write(errors, SLOWLY)
    started = start(child.PROGRAM, confines, inputs, outputs, errors)
    started.returncode = 0  # Its end is waited for by number.
    return started.pid


def _reaped(pid: int) -> Answer:
    try:
        found, status, used = os.wait4(pid, os.WNOHANG)
    except ChildProcessError:
        return Answer(pid=pid, status=-signal.SIGKILL)  # Asked for once too often.
    if not found:
        return Answer(pid=pid)
    return Answer(
        pid=pid,
        status=os.waitstatus_to_exitcode(status),
        cpu_seconds=used.ru_utime + used.ru_stime,
    )


def _lead_group(pid: int) -> None:
    """Both sides ask for it, so that it is done when either goes on."""
    try:
        os.setpgid(pid, pid)
    except (PermissionError, ProcessLookupError):
        pass  # It is already another's, or has ended.


def _has_one_thread() -> bool:
    return LINUX and len(os.listdir("/proc/self/task")) == 1


if __name__ == "__main__":
    main()
