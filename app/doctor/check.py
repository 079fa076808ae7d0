"""What the doctor finds."""

from typing import Literal

from app.domain.base import Record
from app.logs import without_secrets

State = Literal["ok", "warn", "fail"]


class Check(Record):
    """One thing that was looked at."""

    name: str
    state: State
    found: str
    advice: str = ""
    """What to do; empty where nothing is."""


def check(name: str, state: State, found: object, advice: str = "") -> Check:
    """A finding, without passwords of addresses, wherever its words come from."""
    return Check(
        name=name,
        state=state,
        found=" ".join(without_secrets(None, "", found).split()),
        advice=without_secrets(None, "", advice) if state != "ok" else "",
    )
