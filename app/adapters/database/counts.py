"""Counters that all processes share: raised in the transaction of what they count."""

import json
from typing import Any

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from app.adapters.database.tables import CounterRow

_KEY = "secateur_counts"


def add(session: Session, name: str, labels: dict[str, str], value: float = 1.0) -> None:
    """Raise a counter when the session's transaction commits, and only then."""
    pending: dict[tuple[str, str], float] = session.info.setdefault(_KEY, {})
    key = (name, json.dumps(labels, sort_keys=True))
    pending[key] = pending.get(key, 0.0) + value


def flush(session: Session) -> None:
    """Write what was added, in one statement, and in an order that no two transactions differ in:
    otherwise they could wait for each other."""
    pending: dict[tuple[str, str], float] = session.info.pop(_KEY, {})
    if not pending:
        return
    session.flush()
    rows = [
        {"name": name, "labels": labels, "value": value}
        for (name, labels), value in sorted(pending.items())
    ]
    session.execute(_upsert(session, rows))


def _upsert(session: Session, rows: list[dict[str, Any]]) -> Any:
    assert session.bind is not None
    insert: Any = sqlite.insert if session.bind.dialect.name == "sqlite" else postgresql.insert
    statement = insert(CounterRow).values(rows)
    return statement.on_conflict_do_update(
        index_elements=["name", "labels"],
        set_={"value": CounterRow.value + statement.excluded.value},
    )
