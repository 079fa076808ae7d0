"""Workers that tell of themselves, on both databases."""

from sqlalchemy import update

from app.adapters.database import Database, WorkerRow
from app.domain.confinement import Confinement, Mechanism
from app.services import workers

FULL = Confinement(
    **dict.fromkeys(
        ("user", "landlock", "seccomp", "network"), Mechanism(active=True, detail="tried")
    )
)
WEAK = FULL.model_copy(update={"landlock": Mechanism(detail="not in this kernel")})


def age(database: Database, name: str, seconds: float) -> None:
    with database.write() as session:
        session.execute(
            update(WorkerRow)
            .where(WorkerRow.name == name)
            .values(seen_at=WorkerRow.seen_at - seconds)
        )


def test_who_reports_is_listed_until_it_leaves(database: Database) -> None:
    workers.report(database, "b", FULL)
    workers.report(database, "a", WEAK)
    workers.report(database, "b", FULL)
    assert [(one.worker, one.runs_jobs) for one in workers.living(database)] == [
        ("a", False),
        ("b", True),
    ]
    assert workers.living(database)[0].confinement == WEAK
    workers.forget(database, "b")
    assert [one.worker for one in workers.living(database)] == ["a"]


def test_an_override_is_told(database: Database) -> None:
    workers.report(database, "a", WEAK.model_copy(update={"overridden": True}))
    (found,) = workers.living(database)
    assert found.runs_jobs
    assert found.confinement.sentence == (
        "confined by a user of its own (tried), a seccomp filter (tried), a network namespace of "
        "its own (tried); without Landlock (not in this kernel); "
        "allowed by SECATEUR_ALLOW_UNCONFINED"
    )


def test_who_is_silent_is_gone_until_it_renews(database: Database) -> None:
    workers.report(database, "a", FULL)
    age(database, "a", 61)
    assert workers.living(database) == []
    assert workers.renew(database, "a")
    assert len(workers.living(database)) == 1


def test_rows_of_the_long_gone_are_swept(database: Database) -> None:
    workers.report(database, "a", FULL)
    age(database, "a", 601)
    workers.report(database, "b", FULL)
    assert not workers.renew(database, "a")
