"""Ids: a prefix that tells the kind, and a ULID, so that they sort by time of creation."""

from ulid import ULID


def new_id(prefix: str) -> str:
    """A fresh id such as `job_01JD…`."""
    return f"{prefix}_{ULID()}"
