"""Keys are shown once, kept as hashes, and end when they are told to."""

import time

import pytest
from sqlalchemy import func, select, update

from app.adapters.database import Database, KeyRow
from app.domain.errors import InvalidParameter, NotFound, Unauthenticated, WrongState
from app.domain.people import Scope, parse_key
from app.services import audit
from app.services.keys import DAY, CreatedKey, Keys

BOTH = (Scope.READ, Scope.WRITE)


@pytest.fixture
def keys(database: Database) -> Keys:
    return Keys(database)


def change(keys: Keys, id_: str, **values: object) -> None:
    with keys.database.write() as session:
        session.execute(update(KeyRow).where(KeyRow.id == id_).values(**values))


def valid(keys: Keys, created: CreatedKey) -> bool:
    try:
        return keys.caller(created.key).key == created.info.id
    except Unauthenticated:
        return False


def test_a_key_tells_its_owner_and_scopes(keys: Keys) -> None:
    created = keys.create("alice", BOTH, "laptop")
    caller = keys.caller(created.key)
    assert (caller.owner, caller.key, caller.scopes) == ("alice", created.info.id, set(BOTH))
    assert keys.all() == [keys.all("alice")[0]]
    assert keys.all("bob") == []


def test_only_a_hash_is_kept(keys: Keys) -> None:
    created = keys.create("alice", BOTH)
    parsed = parse_key(created.key)
    assert parsed is not None
    with keys.database.read() as session:
        row = session.get_one(KeyRow, created.info.id)
        kept = [str(getattr(row, column.name)) for column in KeyRow.__table__.columns]
    assert not [value for value in kept if parsed.secret in value]
    assert parsed.secret not in str(keys.all()) + str(audit.newest(keys.database, 10))


def test_another_secret_is_refused_as_an_unknown_id_is(keys: Keys) -> None:
    created = keys.create("alice", BOTH)
    said = set()
    for text in (
        f"sct_{created.info.id}_{'0' * 48}",
        f"sct_{'0' * 12}_{created.key[-48:]}",
    ):
        with pytest.raises(Unauthenticated) as refused:
            keys.caller(text)
        said.add(refused.value.detail)
    assert len(said) == 1
    with pytest.raises(Unauthenticated, match="no API key"):
        keys.caller("hello")


def test_a_key_expires(keys: Keys) -> None:
    created = keys.create("alice", BOTH, days=1)
    assert valid(keys, created)
    assert keys.there_are_any()
    change(keys, created.info.id, expires_at=func.clock() - 1)
    assert not valid(keys, created)
    assert not keys.there_are_any()
    assert not keys.all()[0].valid


def test_a_revoked_key_is_refused_at_once(keys: Keys) -> None:
    created = keys.create("alice", BOTH)
    first = keys.revoke(created.info.id)
    assert not valid(keys, created)
    assert keys.revoke(created.info.id).revoked_at == first.revoked_at
    assert not keys.there_are_any()
    with pytest.raises(NotFound):
        keys.revoke("000000000000")


def test_both_keys_work_until_the_grace_period_ends(keys: Keys) -> None:
    old = keys.create("alice", (Scope.READ,), "laptop", days=10)
    new = keys.rotate(old.info.id, grace_hours=2)
    assert (new.info.owner, new.info.scopes, new.info.name) == ("alice", (Scope.READ,), "laptop")
    assert valid(keys, old)
    assert valid(keys, new)
    ends = {key.id: key.expires_at for key in keys.all()}
    told = ends[old.info.id]
    assert told is not None
    assert told.timestamp() == pytest.approx(time.time() + 2 * 3600, abs=30)
    lives = ends[new.info.id]
    assert lives is not None
    assert lives.timestamp() == pytest.approx(time.time() + 10 * DAY, abs=30)


def test_rotation_never_lengthens_a_life(keys: Keys) -> None:
    old = keys.create("alice", BOTH, days=1)
    keys.rotate(old.info.id, grace_hours=24 * 30)
    assert keys.all()[0].expires_at == old.info.expires_at


def test_without_grace_the_old_key_ends_at_once(keys: Keys) -> None:
    old = keys.create("alice", BOTH)
    new = keys.rotate(old.info.id, grace_hours=0)
    assert not valid(keys, old)
    assert valid(keys, new)
    with pytest.raises(WrongState, match="no longer valid"):
        keys.rotate(old.info.id, grace_hours=1)


def test_use_is_noted_to_the_minute(keys: Keys) -> None:
    created = keys.create("alice", BOTH)
    assert keys.all()[0].last_used_at is None
    keys.caller(created.key)
    first = keys.all()[0].last_used_at
    assert first is not None
    keys.caller(created.key)
    assert keys.all()[0].last_used_at == first
    change(keys, created.info.id, last_used_at=func.clock() - 61)
    keys.caller(created.key)
    again = keys.all()[0].last_used_at
    assert again is not None
    assert again >= first


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"owner": "Alice"}, "owner"),
        ({"owner": ""}, "owner"),
        ({"scopes": ()}, "scopes"),
        ({"name": "x" * 101}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"days": 0}, "days"),
        ({"days": float("nan")}, "days"),
        ({"days": 1e9}, "days"),
    ],
)
def test_nonsense_is_refused(keys: Keys, given: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        keys.create(**{"owner": "alice", "scopes": BOTH} | given)  # type: ignore[arg-type]
    assert refused.value.field == field
    assert keys.all() == []


def test_what_happens_to_keys_is_remembered(keys: Keys) -> None:
    old = keys.create("alice", BOTH)
    new = keys.rotate(old.info.id, 1)
    keys.revoke(old.info.id)
    entries = audit.newest(keys.database, 10)
    assert sorted((entry.action, entry.target) for entry in entries) == sorted(
        [
            ("key.create", old.info.id),
            ("key.rotate", old.info.id),
            ("key.create", new.info.id),
            ("key.revoke", old.info.id),
        ]
    )
    assert audit.newest(keys.database, 10, "bob") == []


def test_the_audit_log_ends_somewhere(keys: Keys) -> None:
    keys.create("alice", BOTH)
    audit.forget(keys.database, days=1)
    with keys.database.read() as session:
        assert session.scalar(select(func.count()).select_from(KeyRow)) == 1
    assert len(audit.newest(keys.database, 10)) == 1
    audit.forget(keys.database, days=0)
    assert audit.newest(keys.database, 10) == []
