"""API keys: made, shown once, checked, rotated, revoked."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from app.adapters.database import Database, KeyRow
from app.domain.base import Record
from app.domain.errors import InvalidParameter, NotFound, Unauthenticated, WrongState
from app.domain.people import (
    DEFAULT_OWNER,
    OWNER,
    Caller,
    Scope,
    hashed,
    is_secret_of,
    new_key,
    parse_key,
)
from app.services import audit
from app.services.resources import moment

DAY = 86_400.0
USE_NOTED_SECONDS = 60.0
"""`last_used_at` is not written more often: a row would be written for every request."""
HOW = "Send a valid one as `Authorization: Bearer sct_…`; whoever runs the service makes them."
_NOBODYS = hashed("")


class KeyInfo(Record):
    """What may be seen of a key."""

    id: str
    owner: str
    name: str
    scopes: tuple[Scope, ...]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    valid: bool


class CreatedKey(Record):
    """A fresh key; `key` is never seen again."""

    key: str
    info: KeyInfo


class Keys:
    """Use cases around keys."""

    def __init__(self, database: Database) -> None:
        self.database = database

    # --- make and end ------------------------------------------------------------------------
    def create(
        self,
        owner: str,
        scopes: Collection[Scope],
        name: str = "",
        days: float | None = None,
    ) -> CreatedKey:
        """A new key of an owner, who need not exist before.

        Args:
            owner: lower-case letters, digits and hyphens, 31 at most.
            scopes: what it allows.
            name: for people.
            days: until it expires; None for never.

        Raises:
            InvalidParameter: one of them is no such thing.
        """
        _check(owner, scopes, name, days)
        with self.database.write() as session:
            created = _insert(session, owner, scopes, name, days)
            _note(session, "key.create", created.info)
        return created

    def rotate(self, id_: str, grace_hours: float, days: float | None = None) -> CreatedKey:
        """A key in another's place, which stays valid for `grace_hours` more.

        The new one has its owner, scopes and name, and lives `days`, or as long as the old one was
        made for. Raises `NotFound`, `WrongState`, `InvalidParameter`.
        """
        if grace_hours < 0:
            raise InvalidParameter(
                f"The grace period is {grace_hours:g} hours; expected 0 or more.",
                field="grace_hours",
            )
        with self.database.write() as session:
            row = _found(session, id_)
            now = _now(session)
            if not _valid(row, now):
                raise WrongState(f"Key {id_} is no longer valid; create a new one instead.")
            if days is None and row.expires_at is not None:
                days = (row.expires_at - row.created_at) / DAY
            scopes = tuple(map(Scope, row.scopes.split()))
            _check(row.owner, scopes, row.name, days)
            created = _insert(session, row.owner, scopes, row.name, days)
            ends = now + grace_hours * 3600
            row.expires_at = ends if row.expires_at is None else min(row.expires_at, ends)
            _note(session, "key.rotate", _info(row, now), successor=created.info.id)
            _note(session, "key.create", created.info)
        return created

    def revoke(self, id_: str) -> KeyInfo:
        """End a key at once; asking twice is harmless. Raises `NotFound`."""
        with self.database.write() as session:
            row = _found(session, id_)
            now = _now(session)
            if row.revoked_at is None:
                row.revoked_at = now
                _note(session, "key.revoke", _info(row, now))
            return _info(row, now)

    # --- look --------------------------------------------------------------------------------
    def all(self, owner: str | None = None) -> list[KeyInfo]:
        """Oldest first, ended ones too."""
        query = select(KeyRow).order_by(KeyRow.created_at, KeyRow.id)
        if owner is not None:
            query = query.where(KeyRow.owner == owner)
        with self.database.read() as session:
            now = _now(session)
            return [_info(row, now) for row in session.scalars(query)]

    def there_are_any(self) -> bool:
        """Whether some key is valid."""
        query = select(KeyRow.id).where(
            KeyRow.revoked_at.is_(None),
            or_(KeyRow.expires_at.is_(None), KeyRow.expires_at > func.clock()),
        )
        with self.database.read() as session:
            return session.scalar(query.limit(1)) is not None

    def caller(self, text: str) -> Caller:
        """Who shows this key. Raises `Unauthenticated`, which does not say what is wrong with it.

        An unknown id is compared as well, so that ids cannot be told by the time it takes.
        """
        shown = parse_key(text)
        if shown is None:
            raise Unauthenticated(f"This is no API key of this service. {HOW}")
        with self.database.read() as session:
            row = session.get(KeyRow, shown.id)
            now = _now(session)
        genuine = is_secret_of(shown.secret, row.secret_sha256 if row else _NOBODYS)
        if row is None or not genuine or not _valid(row, now):
            raise Unauthenticated(
                f"The API key is unknown, expired or revoked. {HOW}",
            )
        if row.last_used_at is None or row.last_used_at < now - USE_NOTED_SECONDS:
            self._note_use(row.id)
        return Caller(owner=row.owner, key=row.id, scopes=frozenset(map(Scope, row.scopes.split())))

    def still_opens(self, caller: Caller) -> bool:
        """Whether the key that somebody came in with is valid; also where none was needed."""
        if caller.key is None:
            return True
        with self.database.read() as session:
            row = session.get(KeyRow, caller.key)
            return row is not None and _valid(row, _now(session))

    def _note_use(self, id_: str) -> None:
        with self.database.write() as session:
            session.execute(
                update(KeyRow)
                .where(KeyRow.id == id_)
                .values(last_used_at=func.clock())
                .execution_options(synchronize_session=False)
            )


def check_owner(owner: str) -> None:
    """Raises `InvalidParameter` where a name is not fit to be an owner's."""
    if not OWNER.fullmatch(owner):
        raise InvalidParameter(
            f"The owner is {owner[:80]!r}; expected 1 to 31 lower-case letters, digits and "
            f"hyphens, such as alice. {DEFAULT_OWNER!r} owns what was made without keys.",
            field="owner",
        )


def _check(owner: str, scopes: Collection[Scope], name: str, days: float | None) -> None:
    check_owner(owner)
    if not scopes:
        raise InvalidParameter(
            f"A key needs a scope; there are {', '.join(Scope)}.", field="scopes"
        )
    if len(name) > 100 or not name.isprintable():
        raise InvalidParameter("A key's name has at most 100 printable characters.", field="name")
    if days is not None and not 0 < days < 36_500:
        raise InvalidParameter(
            f"A key cannot expire after {days:g} days; expected more than 0, or nothing for never.",
            field="days",
        )


def _insert(
    session: Session, owner: str, scopes: Collection[Scope], name: str, days: float | None
) -> CreatedKey:
    made, now = new_key(), _now(session)
    row = KeyRow(
        id=made.id,
        owner=owner,
        name=name,
        secret_sha256=hashed(made.secret),
        scopes=" ".join(scope for scope in Scope if scope in scopes),
        created_at=now,
        expires_at=None if days is None else now + days * DAY,
    )
    session.add(row)
    session.flush()
    return CreatedKey(key=made.text, info=_info(row, now))


def _note(session: Session, action: str, key: KeyInfo, **data: str) -> None:
    # Keys are changed on the command line, by whoever may open the database: no key is shown.
    said = {"scopes": " ".join(key.scopes), "name": key.name} | data
    audit.record(session, Caller(owner=key.owner), action, key.id, **said)


def _found(session: Session, id_: str) -> KeyRow:
    row = session.get(KeyRow, id_, with_for_update=True)
    if row is None:
        raise NotFound(
            f"There is no key with the id {id_!r}. The id is the part between the underscores of "
            "sct_…_…; `secateur keys list` shows all."
        )
    return row


def _valid(row: KeyRow, now: float) -> bool:
    return row.revoked_at is None and (row.expires_at is None or row.expires_at > now)


def _info(row: KeyRow, now: float) -> KeyInfo:
    return KeyInfo.model_validate(
        {
            "id": row.id,
            "owner": row.owner,
            "name": row.name,
            "scopes": row.scopes.split(),
            "created_at": moment(row.created_at),
            "expires_at": moment(row.expires_at),
            "revoked_at": moment(row.revoked_at),
            "last_used_at": moment(row.last_used_at),
            "valid": _valid(row, now),
        }
    )


def _now(session: Session) -> float:
    now = session.scalar(select(func.clock()))
    assert now is not None
    return float(now)
