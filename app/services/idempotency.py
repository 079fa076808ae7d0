"""Idempotency-Key: the first answer to a key is replayed for a day.

The answer is stored in the same transaction as what it created, so that there is no moment in
which one exists without the other; of two concurrent requests one commits and one replays.
"""

import hashlib
import json
from collections.abc import Callable
from typing import Any

from sqlalchemy import func, insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.adapters.database import Database
from app.adapters.database.tables import IdempotencyRow
from app.domain.base import Record
from app.domain.errors import IdempotencyConflict


class Answer(Record):
    """What a creating call answered."""

    status: int
    location: str | None
    body: dict[str, Any]
    replayed: bool = False


def fingerprint(*parts: Any) -> str:
    """Hash of what makes a request itself: the parsed body, or an upload's hash and options."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def replay(database: Database, scope: str, key: str | None, print_: str | None) -> Answer | None:
    """The stored answer; None for a new key. Raises `IdempotencyConflict`."""
    if key is None:
        return None
    with database.read() as session:
        row = session.get(IdempotencyRow, (scope, key))
    if row is None:
        return None
    if row.fingerprint != print_:
        raise IdempotencyConflict(
            f"Idempotency-Key {key!r} was used for another request. A key belongs to one request "
            "and its repetitions: send a fresh key with this one.",
            field="Idempotency-Key",
        )
    return Answer(status=row.status, location=row.location, body=row.body, replayed=True)


def once(
    database: Database,
    scope: str,
    key: str | None,
    print_: str | None,
    create: Callable[[Session], Answer],
) -> Answer:
    """Run `create` in a transaction, unless the key was answered before.

    `print_` is the request's `fingerprint`; without a key there is none to make.
    """
    if (known := replay(database, scope, key, print_)) is not None:
        return known
    try:
        with database.write() as session:
            answer = create(session)
            if key is not None:
                session.execute(
                    insert(IdempotencyRow).values(
                        scope=scope,
                        key=key,
                        created_at=func.clock(),
                        fingerprint=print_,
                        status=answer.status,
                        location=answer.location,
                        body=answer.body,
                    )
                )
            return answer
    except IntegrityError:
        # A concurrent request with the same key committed first.
        if (known := replay(database, scope, key, print_)) is not None:
            return known
        raise
