"""Uploads are read in a process of their own, one each, which is gone afterwards.

The libraries that open HDF5, Parquet and images are written in C and C++, and have had heap
overflows. What they break is a process that holds nothing: it has the upload, a folder for the
canonical copy, and limits (`app.intake.confinement`). Here nothing of a model file is opened.
"""

import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

import structlog
from pydantic import ValidationError

from app.domain.dataset import DatasetInfo, DatasetOptions
from app.domain.errors import (
    InternalError,
    InvalidDataset,
    InvalidInput,
    InvalidModel,
    Unavailable,
)
from app.domain.model import ModelInfo
from app.intake.confinement import Limits, environment
from app.intake.magic import check_model_magic
from app.observe.metrics import INTAKE

MIB = 2**20
ANSWER_LIMIT_BYTES = 32 * MIB
BASE_SECONDS = 20
BASE_CPU_SECONDS = 5
BYTES_PER_SECOND = 16 * MIB
"""A reading may take `BASE_SECONDS`, `BASE_CPU_SECONDS` of them computing, and the time that the
upload takes at this pace. HDF5 has loops without end for damaged files."""
FILE_SLACK_BYTES = 64 * MIB
"""By how much a canonical copy may be larger than the upload, or than what it unpacks to."""
ROOM_BYTES = MIB
"""A disk with less room is full."""
WAIT_SECONDS = 30
CHILD = ("-m", "app.intake.child")
_BROKEN = {
    signal.SIGSEGV: "crashed",
    signal.SIGABRT: "gave up",
    signal.SIGBUS: "crashed",
    signal.SIGILL: "crashed",
    signal.SIGFPE: "crashed",
}
_log = structlog.get_logger()


@dataclass(frozen=True)
class _End:
    """How a reading's process ended, and what it answered."""

    answer: bytes
    status: int
    """Exit status; minus the signal's number where one ended it."""
    timed_out: bool
    killed: bool
    """It went on after its answer, or without one, until it was ended from here."""
    cpu_seconds: float


class Readers:
    """Starts reading processes, a few at once.

    Args:
        at_once: more wait for their turn.
        memory_bytes: of each process.
    """

    def __init__(self, at_once: int = 4, memory_bytes: int = 1024 * MIB) -> None:
        self._slots = threading.BoundedSemaphore(at_once)
        self._memory_bytes = memory_bytes

    def model(self, path: Path, filename: str, canonical: Path) -> ModelInfo:
        """Read a model and write its canonical copy, the only file that is ever loaded.

        Args:
            path: the upload.
            filename: what the user calls it, for sentences.
            canonical: where the copy goes, in a folder that holds nothing else.

        Raises:
            InvalidModel: it is no Keras model that can be pruned, or breaks what reads it.
            Unavailable: no process could be had, or the disk is full.
        """
        check_model_magic(path, filename)
        order = {"kind": "model", "canonical": canonical.name}
        answer = self._ask(order, path, filename, canonical.parent, InvalidModel)
        try:
            return ModelInfo.model_validate(answer)
        except ValidationError as error:
            raise InternalError("The reading of the model is not understood.") from error

    def dataset(self, path: Path, filename: str, options: DatasetOptions) -> DatasetInfo:
        """Read a data set.

        Raises:
            InvalidDataset: it cannot be read, or breaks what reads it.
            Unavailable: no process could be had, or the disk is full.
        """
        order = {"kind": "dataset", "options": options.model_dump(mode="json")}
        with tempfile.TemporaryDirectory(prefix="secateur-intake-") as folder:
            answer = self._ask(order, path, filename, Path(folder), InvalidDataset)
        try:
            return DatasetInfo.model_validate(answer)
        except ValidationError as error:
            raise InternalError("The reading of the data set is not understood.") from error

    def _ask(
        self,
        order: dict[str, Any],
        path: Path,
        filename: str,
        folder: Path,
        refusal: type[InvalidInput],
    ) -> Any:
        size = path.stat().st_size
        more = size // BYTES_PER_SECOND
        limits = Limits(
            memory_bytes=self._memory_bytes,
            file_bytes=2 * size + FILE_SLACK_BYTES,
            seconds=BASE_CPU_SECONDS + more,
        )
        order |= {
            "path": str(path.resolve()),
            "folder": str(folder.resolve()),
            "filename": filename,
            "limits": limits.model_dump(),
        }
        began = time.monotonic()
        with self._slot():
            end = _run(order, folder, BASE_SECONDS + more)
        answer = _parsed(end.answer)
        if "info" not in answer and shutil.disk_usage(folder).free < ROOM_BYTES:
            answer = {"full": True}  # HDF5 may crash where it cannot write.
        outcome = "accepted" if "info" in answer else "refused"
        INTAKE.labels(order["kind"], outcome).observe(time.monotonic() - began)
        _log.info(
            "upload_read",
            kind=order["kind"],
            seconds=round(time.monotonic() - began, 3),
            cpu_seconds=round(end.cpu_seconds, 3),
            peak_bytes=answer.get("peak_bytes"),
            lacks=answer.get("lacks"),
            status=end.status,
        )
        return _told(answer, end, filename, limits, refusal)

    @contextmanager
    def _slot(self) -> Iterator[None]:
        if not self._slots.acquire(timeout=WAIT_SECONDS):
            raise Unavailable(
                "All processes that read uploads are busy. Send the upload again in a while."
            )
        try:
            yield
        finally:
            self._slots.release()


def _run(order: dict[str, Any], folder: Path, seconds: float) -> _End:
    # A file and no pipe: writing an order never waits for who reads it.
    with tempfile.TemporaryFile() as given:
        given.write(json.dumps(order).encode())
        given.seek(0)
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-B", *CHILD],
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment(str(folder)),
                cwd=folder,
                close_fds=True,
                start_new_session=True,
            )
        except OSError as error:
            raise Unavailable(
                "No process could be started to read the upload. Send it again in a while."
            ) from error
    assert process.stdout is not None
    with process.stdout as stdout:
        try:
            answer, timed_out = _listen(stdout, time.monotonic() + seconds)
        finally:
            killed = _kill(process.pid)
            _, status, usage = os.wait4(process.pid, 0)
            cpu = usage.ru_utime + usage.ru_stime
            process.returncode = os.waitstatus_to_exitcode(status)
    return _End(answer, process.returncode, timed_out, killed, cpu)


def _listen(stdout: IO[bytes], deadline: float) -> tuple[bytes, bool]:
    """All that the process says until it closes, at most one byte over the limit."""
    heard = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(stdout, selectors.EVENT_READ)
        while len(heard) <= ANSWER_LIMIT_BYTES:
            left = deadline - time.monotonic()
            if left <= 0 or not selector.select(left):
                return bytes(heard), True
            piece = os.read(stdout.fileno(), 65_536)
            if not piece:
                break
            heard += piece
    return bytes(heard), False


def _kill(pid: int) -> bool:
    """End what is left a tenth of a second after the answer; whether the process was."""
    ended = None
    for _ in range(100):
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        if ended is not None:
            break
        time.sleep(0.001)
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    return ended is None


def _parsed(heard: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(heard) if len(heard) <= ANSWER_LIMIT_BYTES else {}
    except (ValueError, RecursionError):
        answer = {}
    return answer if isinstance(answer, dict) else {}


def _told(
    answer: dict[str, Any],
    end: _End,
    filename: str,
    limits: Limits,
    refusal: type[InvalidInput],
) -> Any:
    if end.timed_out or end.status == -signal.SIGXCPU:
        raise refusal(
            f"{filename} takes longer than {limits.seconds} s to read, which no sound file of its "
            "size does. Save it again; if it is sound, make it smaller."
        )
    if answer.get("full"):
        raise Unavailable(
            "There is no room on the disk where uploads are read. Send it again in a while, or "
            "tell who runs this service."
        )
    if answer.get("memory"):
        raise _too_much_memory(filename, limits, refusal)
    if "info" in answer:
        return answer["info"]
    if "refused" in answer:
        _refuse(answer["refused"], refusal)
    if end.status == -signal.SIGKILL and not end.killed:
        raise _too_much_memory(filename, limits, refusal)
    if -end.status in _BROKEN:
        raise refusal(
            f"{filename} cannot be read: the library that opens such files "
            f"{_BROKEN[signal.Signals(-end.status)]} on it ({signal.Signals(-end.status).name}), "
            "so the file is damaged or made to do harm. Save it again and upload that."
        )
    _log.error("upload_reading_failed", status=end.status, defect=answer.get("defect"))
    raise InternalError(
        f"{filename} could not be read, which is a defect of the service and not of the file; the "
        "log has the reason."
    )


def _too_much_memory(filename: str, limits: Limits, refusal: type[InvalidInput]) -> InvalidInput:
    return refusal(
        f"{filename} needs more than the {limits.memory_bytes // MIB} MiB of memory that reading "
        "an upload may take; a sound file needs far less. Save it again."
    )


def _refuse(refused: Any, refusal: type[InvalidInput]) -> NoReturn:
    detail, field = str(refused["detail"]), refused.get("field")
    errors = tuple({str(k): str(v) for k, v in one.items()} for one in refused["errors"])
    raise refusal(detail, field=field, errors=errors)
