"""Who did what: a row for each change, written in the transaction that makes it."""

from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import Session

from app.adapters.database import AuditRow, Database
from app.domain.base import Record
from app.domain.ids import new_id
from app.domain.people import Caller
from app.services.resources import moment


class AuditEntry(Record):
    """One thing that somebody did."""

    at: datetime
    owner: str
    key: str | None
    """Id of the key that was shown; None on the command line, and where none is asked for."""
    action: str
    target: str
    data: dict[str, Any]


_AUDIT: Any = AuditRow.__table__


def record(session: Session, caller: Caller, action: str, target: str, **data: Any) -> None:
    """Note an action in the caller's transaction: neither exists without the other."""
    session.execute(
        insert(_AUDIT).values(
            id=new_id("aud"),
            at=func.clock(),
            owner=caller.owner,
            key=caller.key,
            action=action,
            target=target,
            data=data,
        )
    )


def newest(database: Database, limit: int, owner: str | None = None) -> list[AuditEntry]:
    """The latest entries, oldest first."""
    query = select(AuditRow).order_by(AuditRow.at.desc(), AuditRow.id.desc()).limit(limit)
    if owner is not None:
        query = query.where(AuditRow.owner == owner)
    with database.read() as session:
        rows = session.scalars(query).all()
    return [
        AuditEntry.model_validate(
            {
                "at": moment(row.at),
                "owner": row.owner,
                "key": row.key,
                "action": row.action,
                "target": row.target,
                "data": row.data,
            }
        )
        for row in reversed(rows)
    ]


def forget(database: Database, days: float) -> None:
    """Delete what is older."""
    with database.write() as session:
        session.execute(delete(AuditRow).where(AuditRow.at < func.clock() - days * 86_400))
