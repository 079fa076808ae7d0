"""The chaos run's checker finds each violation that is planted, and nothing in a clean house."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import delete, update

from app.adapters.database import ArtifactRow, EventRow, JobRow
from app.domain.job import ArtifactFile, Checkpoint, Status
from app.services import events, lifecycle
from benchmarks.chaos import laws
from benchmarks.chaos.history import Call, History
from tests.app.services.conftest import World

LEASE_SECONDS = 4.0


class House:
    """A world in which two jobs went well: one succeeded at its second attempt, one was cancelled
    and retried, and is cancelled again."""

    def __init__(self, world: World) -> None:
        self.world, self.history = world, History()
        self.good, self.cancelled = world.job(), world.job()
        for number, job in enumerate((self.good, self.cancelled)):
            self.called("submit", job, 202, key=f"key-{number}")
        world.attempt(self.good)
        world.lose_worker(self.good)
        self.history.fault(0.0, "database restart")
        lifecycle.reap(world.database)
        attempt = world.attempt(self.good)
        lifecycle.report(world.database, attempt, None, [("progress", {"share": 0.5})])
        checkpoint = self.put(f"jobs/{self.good}/a2/checkpoint-1.zip")
        lifecycle.keep_checkpoint(
            world.database, attempt, Checkpoint(epoch=1, **checkpoint.model_dump())
        )
        world.store.delete(checkpoint.key)
        blob = self.put(f"jobs/{self.good}/a2/model.keras")
        file = ArtifactFile(name="model.keras", media_type="x", **blob.model_dump())
        lifecycle.finish(
            world.database, attempt, Status.SUCCEEDED, result={"seed": 0}, artifacts=[file]
        )
        self.called(
            "download", self.good, 200, data={"expected": blob.sha256, "sha256": blob.sha256}
        )
        self.file = file
        for call in ("cancel", "retry", "cancel"):
            getattr(world.jobs, call)(self.cancelled)
            self.called(call, self.cancelled, 202)

    def put(self, key: str | None) -> Any:
        source = self.world.settings.data_dir / "source"
        source.write_text(f"content of {key}")
        return self.world.store.put_file(key, source)

    def called(self, what: str, job: str, status: int, **more: Any) -> None:
        at = float(len(self.history.calls))
        self.history.call(Call(at, at + 0.5, what, job, status, **more))

    def found(self) -> list[laws.Violation]:
        return laws.check(
            laws.read(self.world.database, self.world.store.root, self.history, LEASE_SECONDS)
        )

    def event(self, job: str, kind: str, **data: Any) -> None:
        with self.world.database.write() as session:
            events.record(session, job, kind, data)

    def run(self, statement: Any) -> None:
        with self.world.database.write() as session:
            session.execute(statement.execution_options(synchronize_session=False))


@pytest.fixture
def house(world: World) -> House:
    return House(world)


def lose_a_job(house: House) -> None:
    house.called("submit", "job_lost", 202, key="key-9")


def leave_a_job_running(house: House) -> None:
    job = house.world.job()
    house.called("submit", job, 202, key="key-9")
    house.world.attempt(job)


def fail_without_a_word(house: House) -> None:
    house.world.change(house.cancelled, state=Status.FAILED, error=None)


def succeed_without_a_result(house: House) -> None:
    house.world.change(house.good, result=None)


def keep_a_deleted_job(house: House) -> None:
    house.called("delete", house.good, 204)


def make_two_jobs_of_one_key(house: House) -> None:
    house.called("submit", house.cancelled, 202, key="key-0")


def make_a_job_in_secret(house: House) -> None:
    house.world.jobs.cancel(house.world.job())


def answer_500(house: House) -> None:
    house.called("get", house.good, 500)


def lose_an_event(house: House) -> None:
    house.run(delete(EventRow).where(EventRow.job_id == house.good, EventRow.id == 3))


def lose_the_last_event(house: House) -> None:
    house.world.change(house.good, last_event=JobRow.last_event + 1)


def commit_success_twice(house: House) -> None:
    house.event(house.good, "succeeded")


def start_an_ended_job(house: House) -> None:
    house.event(house.good, "queued", reason="retry")


def write_after_the_end(house: House) -> None:
    house.event(house.good, "progress", share=0.9)


def succeed_after_a_cancel(house: House) -> None:
    house.world.change(house.cancelled, state=Status.SUCCEEDED, result={"seed": 0})


def succeed_though_asked_to_stop(house: House) -> None:
    job = house.world.job()
    house.called("submit", job, 202, key="key-9")
    attempt = house.world.attempt(job)
    house.event(job, "cancel_requested")
    lifecycle.finish(house.world.database, attempt, Status.SUCCEEDED, result={"seed": 0})


def write_between_two_attempts(house: House) -> None:
    number = EventRow.id == 4
    change = update(EventRow).where(EventRow.job_id == house.good, number)
    house.run(change.values(kind="progress", data={}))


def skip_an_attempt(house: House) -> None:
    change = update(EventRow).where(EventRow.job_id == house.good, EventRow.id == 4)
    house.run(change.values(data={"attempt": 3}))


def publish_a_stale_file(house: House) -> None:
    blob = house.put(f"jobs/{house.good}/a1/model.keras")
    house.world.store.delete(house.file.key)
    house.run(update(ArtifactRow).values(key=blob.key, sha256=blob.sha256))


def rob_a_living_worker(house: House) -> None:
    house.history.faults.clear()


def rob_a_draining_worker(house: House) -> None:
    house.history.faults.clear()
    house.run(
        update(EventRow)
        .where(EventRow.job_id == house.good, EventRow.id == 3)
        .values(data={"reason": "Worker host:77 was lost.", "attempt": 1})
    )
    house.history.fault(0.0, "drain worker", [77])


def rob_another_worker(house: House) -> None:
    rob_a_draining_worker(house)
    house.history.fault(0.0, "kill worker", [78])


def download_other_bytes(house: House) -> None:
    house.called("download", house.good, 200, data={"expected": "a" * 64, "sha256": "b" * 64})


def spoil_a_file(house: House) -> None:
    (house.world.store.root / house.file.key).write_bytes(b"spoiled")


def lose_a_file(house: House) -> None:
    house.world.store.delete(house.file.key)


def lose_a_checkpoint(house: House) -> None:
    checkpoint = {"key": "jobs/x/a1/c.zip", "sha256": "c" * 64, "bytes": 1, "epoch": 1}
    house.world.change(house.cancelled, checkpoint=checkpoint)


def leave_a_stray_file(house: House) -> None:
    house.put(f"jobs/{house.good}/a1/model.keras")


def leave_an_upload(house: House) -> None:
    house.put(None)


PLANTED: dict[Callable[[House], None], str] = {
    lose_a_job: "accepted jobs end",
    leave_a_job_running: "accepted jobs end",
    fail_without_a_word: "accepted jobs end",
    succeed_without_a_result: "accepted jobs end",
    keep_a_deleted_job: "accepted jobs end",
    make_two_jobs_of_one_key: "one key, one job",
    make_a_job_in_secret: "one key, one job",
    answer_500: "no answer is a defect",
    lose_an_event: "events have no gaps",
    lose_the_last_event: "events have no gaps",
    commit_success_twice: "success is committed once",
    start_an_ended_job: "ended jobs stay ended",
    write_after_the_end: "ended jobs stay ended",
    succeed_after_a_cancel: "cancelled jobs do not succeed",
    succeed_though_asked_to_stop: "cancelled jobs do not succeed",
    write_between_two_attempts: "attempts follow each other",
    skip_an_attempt: "attempts follow each other",
    publish_a_stale_file: "no stale write is visible",
    rob_a_living_worker: "live workers keep their jobs",
    rob_a_draining_worker: "live workers keep their jobs",
    rob_another_worker: "live workers keep their jobs",
    download_other_bytes: "downloads match",
    spoil_a_file: "stored files match",
    lose_a_file: "stored files match",
    lose_a_checkpoint: "stored files match",
    leave_a_stray_file: "no orphan files",
    leave_an_upload: "no orphan files",
}


def test_a_clean_house_has_no_violations(house: House) -> None:
    assert house.found() == []


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("plant", "law"), PLANTED.items(), ids=lambda each: getattr(each, "__name__", "")
)
def test_a_planted_violation_is_found(
    plant: Callable[[House], None], law: str, house: House
) -> None:
    plant(house)
    assert law in {violation.law for violation in house.found()}


def test_each_law_is_broken_by_somebody() -> None:
    assert len(set(PLANTED.values())) == len(laws.LAWS)
