"""No line of the log holds a secret, wherever it came from."""

import io
import logging

import pytest
import structlog

from app.domain.people import new_key
from app.logs import configure, without_secrets
from app.settings import Settings


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("redis://:pass-word@host:1/0 is away", "redis://:…@host:1/0 is away"),
        ("postgresql+psycopg://u:p%40w@h/d", "postgresql+psycopg://u:…@h/d"),
        ("http://127.0.0.1:8000/v1/jobs?x=a@b", "http://127.0.0.1:8000/v1/jobs?x=a@b"),
        ("mail me@example.org", "mail me@example.org"),
    ],
)
def test_passwords_of_addresses_are_left_out(said: str, kept: str) -> None:
    assert without_secrets(None, "", said) == kept


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_keys_are_left_out_of_all_logs(log_format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    key, stream = new_key(), io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    before = structlog.get_config()
    try:
        configure(Settings(log_format=log_format))
        structlog.get_logger("ours").warning("seen", path=f"/v1/{key.text}", nested={"k": key.text})
        logging.getLogger("theirs").error("it was %s", key.text)
        try:
            raise ValueError(key.text)
        except ValueError:
            structlog.get_logger("ours").exception("broken")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.configure(**before)
    said = stream.getvalue()
    assert key.secret not in said
    assert said.count(f"sct_{key.id}_…") >= 4
