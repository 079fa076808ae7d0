"""What a worker asks of the template of its jobs' processes, and what that answers: JSON lines.

One question is answered before the next is asked. Both ends are ours; nothing that a job or a user
says comes this way.
"""

import socket
from typing import Literal

from app.domain.base import Record
from workers.confinement import Confines

LINE_BYTES = 1 << 16
STREAMS = 3


class Question(Record):
    """`copy` comes with three descriptors: standard input, output and error of the copy."""

    do: Literal["copy", "reap"]
    confines: Confines | None = None
    pid: int = 0
    """Whose end is asked for."""


class Answer(Record):
    """About one copy."""

    pid: int
    status: int | None = None
    """Exit status, or minus the signal's number; None while it runs."""
    cpu_seconds: float = 0.0


def ask(to: socket.socket, question: Question, descriptors: tuple[int, ...] = ()) -> None:
    """Send one line. Raises `OSError` where the other end is gone."""
    line = question.model_dump_json().encode() + b"\n"
    if descriptors:
        socket.send_fds(to, [line], descriptors)
    else:
        to.sendall(line)


def hear(at: socket.socket) -> tuple[Question, list[int]] | None:
    """The next question; None when nobody will ask any more."""
    line = b""
    descriptors: list[int] = []
    while not line.endswith(b"\n"):
        part, found, _, _ = socket.recv_fds(at, LINE_BYTES, STREAMS)
        if not part:
            return None
        line, descriptors = line + part, descriptors + found
    return Question.model_validate_json(line), descriptors


def answer(to: socket.socket, given: Answer) -> None:
    """Send one line. Raises `OSError` where the other end is gone."""
    to.sendall(given.model_dump_json().encode() + b"\n")


def answered(at: socket.socket, seconds: float) -> Answer | None:
    """The answer, None where it takes longer. Raises `OSError` where the other end is gone."""
    line = b""
    at.settimeout(seconds)
    try:
        while not line.endswith(b"\n"):
            part = at.recv(LINE_BYTES)
            if not part:
                raise ConnectionResetError("the template has ended")
            line += part
    except TimeoutError:
        return None
    return Answer.model_validate_json(line)
