"""What a job's process tells its parent: JSON lines, and nothing else is ever read from it.

The parent trusts none of it: lines are bounded, validated, and name files only by plain names
inside the job's own folder.
"""

import json
import math
import time
from typing import IO, Annotated, Any, Literal

from pydantic import Field, TypeAdapter
from pydantic_core import from_json

from app.domain.base import Strict
from app.domain.confinement import Confinement
from app.domain.job import Progress

LINE_LIMIT_BYTES = 4 * 1024 * 1024
TALK_LIMIT_BYTES = 64 * 1024 * 1024
"""Of all lines of one attempt: they become events in the database. A job of six hours that tells
its progress twice a second says some 15 MB."""
FileName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]


class Ready(Strict):
    """Libraries are imported, the process is confined; an order can come."""

    type: Literal["ready"] = "ready"
    confinement: Confinement = Confinement()
    """Told before the process has touched anything that a user sent."""


class Told(Strict):
    """Progress, or something that happened, or both."""

    type: Literal["told"] = "told"
    progress: Progress | None = None
    kind: (
        Annotated[str, Field(pattern="^(phase|cut|epoch|note|progress|evaluation|trial)$")] | None
    ) = None
    data: dict[str, Any] = {}


class Spent(Strict):
    """A phase is over. The parent makes a span of it, and counts its time."""

    type: Literal["spent"] = "spent"
    phase: str = Field(pattern="^[a-z][a-z-]{0,31}$")
    began: float
    """Seconds since 1970. The parent trims both to the time that the attempt has had so far."""
    ended: float


class Saved(Strict):
    """A checkpoint lies in the scratch folder."""

    type: Literal["saved"] = "saved"
    file: FileName
    epoch: int = Field(ge=0)


class Done(Strict):
    """The job is carried out; these files of the out folder are its artifacts."""

    type: Literal["done"] = "done"
    result: dict[str, Any]
    files: tuple[FileName, ...] = ()


class Problem(Strict):
    """An error as `SecateurError.as_problem` tells it."""

    type: str = Field(pattern=r"^/problems/[a-z-]+$")
    title: str = ""
    detail: str = ""
    fault: Literal["client", "service"] = "service"
    retryable: bool = False
    field: str | None = None
    errors: tuple[dict[str, str], ...] = ()


class Refused(Strict):
    """The job cannot be carried out."""

    type: Literal["refused"] = "refused"
    problem: Problem


Message = Annotated[Ready | Told | Spent | Saved | Done | Refused, Field(discriminator="type")]
MESSAGES: TypeAdapter[Message] = TypeAdapter(Message)


def parse(line: bytes) -> Message:
    """A line as a message. Raises `ValueError`, of which Pydantic's errors are a kind.

    Numbers that JSON does not know are refused, and U+0000 is replaced: neither goes into every
    database, nor out of the API again.
    """
    safe = line.replace(rb"\u0000", rb"\ufffd")
    return MESSAGES.validate_python(from_json(safe, allow_inf_nan=False))


def finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: such numbers become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


class Reporter:
    """The child's side: writes messages, paces progress."""

    def __init__(self, pipe: IO[str]) -> None:
        self._pipe = pipe
        self._last_progress = 0.0

    def send(self, message: Message) -> None:
        """Write one line."""
        self._pipe.write(
            json.dumps(finite(message.model_dump(mode="json")), allow_nan=False) + "\n"
        )
        self._pipe.flush()

    def happened(self, kind: str, data: dict[str, Any], progress: Progress | None = None) -> None:
        """Something worth an event."""
        self.send(Told(kind=kind, data=data, progress=progress))

    def spent(self, phase: str, began: float, ended: float) -> None:
        """A phase is over."""
        self.send(Spent(phase=phase, began=began, ended=ended))

    def at(self, progress: Progress, every_seconds: float = 0.5) -> None:
        """Where the job is; at most every so often, since batches are short."""
        now = time.monotonic()
        if now - self._last_progress >= every_seconds:
            self._last_progress = now
            self.send(
                Told(
                    progress=progress,
                    kind="progress",
                    data=progress.model_dump(exclude_none=True),
                )
            )
