"""A resumable upload: received piece by piece, then read."""

from enum import StrEnum
from typing import Literal

UploadKind = Literal["model", "dataset"]


class UploadState(StrEnum):
    """Where an upload stands; received and read are two things."""

    UPLOADING = "uploading"
    """Bytes are missing."""
    PROCESSING = "processing"
    """All bytes are there; the file is being read, or waits for it."""
    READY = "ready"
    """It has become a model or a data set."""
    REFUSED = "refused"
    """The file could not be read; the error says why."""


UNFINISHED = (UploadState.UPLOADING, UploadState.PROCESSING)
