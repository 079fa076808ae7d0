"""Who asks: owners, the keys that prove it, and what a key allows."""

import hashlib
import hmac
import re
import secrets
from enum import StrEnum

from app.domain.base import Record

DEFAULT_OWNER = "default"
"""Owns what is made while no key is asked for."""
OWNER = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")
KEY = re.compile(r"sct_([0-9a-f]{12})_([0-9a-f]{48})")
"""The prefix lets people, and scanners for leaked secrets, recognise a key; id; secret."""
ID_BYTES = 6
SECRET_BYTES = 24


class Scope(StrEnum):
    """What a key allows; none implies another."""

    READ = "read"
    """GET."""
    WRITE = "write"
    """Everything that creates, changes or deletes."""
    ADMIN = "admin"
    """Figures of the whole service: /metrics."""


class Caller(Record):
    """On whose behalf something is done."""

    owner: str = DEFAULT_OWNER
    key: str | None = None
    """Id of the key; None where none was asked for."""
    scopes: frozenset[Scope] = frozenset(Scope)


ANYBODY = Caller()
"""Whoever reaches a service that asks for no keys."""


class NewKey(Record):
    """A key as it is made: the only moment at which all of it is known."""

    id: str
    secret: str

    @property
    def text(self) -> str:
        """What its user sends."""
        return f"sct_{self.id}_{self.secret}"


def new_key() -> NewKey:
    """A key with 192 random bits."""
    return NewKey(id=secrets.token_hex(ID_BYTES), secret=secrets.token_hex(SECRET_BYTES))


def parse_key(text: str) -> NewKey | None:
    """Id and secret of a key; None when it is not one."""
    match = KEY.fullmatch(text)
    return NewKey(id=match[1], secret=match[2]) if match else None


def hashed(secret: str) -> str:
    """What is stored of a secret.

    One round of SHA-256: slow hashes protect passwords, which can be guessed. 192 random bits
    cannot, and the hash is computed for every request.
    """
    return hashlib.sha256(secret.encode()).hexdigest()


def is_secret_of(secret: str, stored: str) -> bool:
    """Whether a secret has this hash, in a time that tells nothing about how much of it agrees."""
    return hmac.compare_digest(hashed(secret), stored)
