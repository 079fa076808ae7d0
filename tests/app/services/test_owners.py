"""What belongs to one owner does not exist for another, and cannot be inferred."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from app.domain.errors import InvalidSpec, NotFound, Unavailable
from app.domain.job import Status
from app.domain.people import ANYBODY, Caller
from app.domain.sweep import SweepSpec, members
from app.domain.webhook import Rotation, WebhookChange, WebhookSpec
from app.services import audit
from app.services.analyses import Analyses
from app.services.examples import JOB, MODEL, MODEL_FILE, Examples
from app.services.sweeps import Sweeps
from app.services.webhooks import Webhooks
from tests.app.services.conftest import World, spec

ALICE, BOB = Caller(owner="alice", key="a" * 12), Caller(owner="bob", key="b" * 12)


def upload(world: World, caller: Caller, key: str | None = None) -> dict[str, Any]:
    writer = world.store.writer()
    try:
        writer.write(MODEL_FILE.read_bytes())
        return world.uploads.of(caller).add_model(writer, "m.keras", key).body
    finally:
        writer.abort()


def of(world: World, caller: Caller, id_: str) -> dict[str, Callable[[], Any]]:
    """Everything that names a thing by its id."""
    uploads, jobs = world.uploads.of(caller), world.jobs.of(caller)
    sweeps, analyses = Sweeps(jobs), Analyses(jobs)
    webhooks = Webhooks(world.database, world.settings, caller)
    return {
        "model": lambda: uploads.model(id_),
        "delete model": lambda: uploads.delete_model(id_),
        "data set": lambda: uploads.dataset(id_),
        "delete data set": lambda: uploads.delete_dataset(id_),
        "job": lambda: jobs.get(id_),
        "artifacts": lambda: jobs.artifacts(id_),
        "artifact": lambda: jobs.artifact(id_, "log.txt"),
        "cancel": lambda: jobs.cancel(id_),
        "retry": lambda: jobs.retry(id_),
        "delete": lambda: jobs.delete(id_),
        "sweep": lambda: sweeps.get(id_),
        "table": lambda: sweeps.table(id_),
        "cancel sweep": lambda: sweeps.cancel(id_),
        "retry sweep": lambda: sweeps.retry(id_),
        "delete sweep": lambda: sweeps.delete(id_),
        "webhook": lambda: webhooks.get(id_),
        "change webhook": lambda: webhooks.change(id_, WebhookChange(enabled=True)),
        "rotate webhook": lambda: webhooks.rotate(id_, Rotation()),
        "test webhook": lambda: webhooks.test(id_),
        "delete webhook": lambda: webhooks.delete(id_),
        "deliveries": lambda: webhooks.deliveries(id_, 1, None),
        "delivery": lambda: webhooks.delivery(id_, "whd_1"),
        "retry delivery": lambda: webhooks.retry(id_, "whd_1"),
        "analysis": lambda: asyncio.run(analyses.of(id_)),
    }


def said(do: Callable[[], Any], id_: str) -> str:
    with pytest.raises(NotFound) as refused:
        do()
    return refused.value.detail.replace(id_, "ID")


def test_a_foreign_id_is_as_unknown_as_any(world: World) -> None:
    job = world.job()
    asked = SweepSpec(base=spec().model_dump(mode="json"), grid={"seed": (1, 2)})
    read = [(each, spec(seed=each.varied["seed"])) for each in members(asked)]
    sweep = str(Sweeps(world.jobs).submit(asked, read).body["id"])
    webhooks = Webhooks(world.database, world.settings)
    hook = webhooks.create(WebhookSpec(url="https://hooks.example/"))
    for id_ in ("mdl_1", "dts_1", job, sweep, hook.id):
        unknown = of(world, BOB, "mdl_2")
        for name, do in of(world, BOB, id_).items():
            assert said(do, id_) == said(unknown[name], "mdl_2"), (name, id_)
    # And all is as it was.
    assert world.uploads.model("mdl_1").id == "mdl_1"
    assert world.uploads.dataset("dts_1").id == "dts_1"
    assert world.row(job).state == Status.QUEUED
    assert Sweeps(world.jobs).get(sweep).counts == {Status.QUEUED: 2}
    assert webhooks.get(hook.id).model_dump() == hook.model_dump(exclude={"secret"})


@pytest.mark.parametrize("foreign", [{"model": "mdl_1"}, {"dataset": "dts_1"}])
def test_a_spec_cannot_name_what_is_foreign(world: World, foreign: dict[str, str]) -> None:
    mine = upload(world, BOB)["id"]
    named = {"model": mine, "dataset": None} | foreign
    field = next(iter(foreign))
    with pytest.raises(InvalidSpec, match="There is no") as refused:
        world.jobs.of(BOB).submit(spec(**named))
    assert refused.value.field == field
    other = foreign[field].replace("1", "2")
    with pytest.raises(InvalidSpec) as unknown:
        world.jobs.of(BOB).submit(spec(**named | {field: other}))
    assert unknown.value.detail.replace(other, foreign[field]) == refused.value.detail


def test_lists_hold_what_is_one_s_own(world: World) -> None:
    mine = upload(world, BOB)
    job = world.jobs.of(BOB).submit(spec(model=mine["id"], dataset=None)).body["id"]
    world.job()
    assert [each.id for each in world.uploads.of(BOB).models(10, None)] == [mine["id"]]
    assert world.uploads.of(BOB).datasets(10, None) == []
    assert [each.id for each in world.jobs.of(BOB).newest(10, None)] == [job]
    assert job not in [each.id for each in world.jobs.newest(10, None)]
    assert world.jobs.of(BOB).newest(10, None, model="mdl_1") == []
    assert Sweeps(world.jobs.of(BOB)).newest(10, None) == []


def test_the_same_content_makes_one_file_and_two_models(world: World) -> None:
    first, second = upload(world, ALICE), upload(world, BOB)
    assert first["id"] != second["id"]
    assert first["sha256"] == second["sha256"]
    # That it is there already is told to nobody but its owner.
    found = world.uploads.of(BOB).models(10, None, sha256=first["sha256"])
    assert [each.id for each in found] == [second["id"]]
    world.uploads.of(ALICE).delete_model(first["id"])
    assert world.uploads.of(BOB).model(second["id"]).id == second["id"]


def test_an_idempotency_key_is_its_owner_s(world: World) -> None:
    first = upload(world, ALICE, "key")
    assert upload(world, ALICE, "key")["id"] == first["id"]
    assert upload(world, BOB, "key")["id"] != first["id"]


def test_an_analysis_answers_its_owner_alone(world: World) -> None:
    world.settings = world.settings.model_copy(update={"plan_timeout_seconds": 0.05})
    jobs = type(world.jobs)(world.database, world.store, world.queue, world.settings)
    asked = []
    for caller in (ALICE, ALICE, BOB):
        model = upload(world, caller)["id"]
        analyses = Analyses(jobs.of(caller))
        # Waiting for nobody; alice's second model of this content finds what her first one began.
        job = analyses._found(model) or analyses._begin(model)
        asked.append(job)
    assert asked[0] == asked[1]
    assert asked[2] != asked[0]
    assert world.row(asked[2]).owner == "bob"
    with pytest.raises(Unavailable):
        asyncio.run(Analyses(jobs.of(BOB)).of(upload(world, BOB)["id"]))


def test_each_owner_has_examples_of_their_own(world: World) -> None:
    made = {}
    for caller in (ANYBODY, ALICE, BOB):
        examples = Examples(world.uploads.of(caller), world.jobs.of(caller))
        made[caller.owner] = (examples.ensure(MODEL), examples.ensure(JOB))
        assert examples.ensure(MODEL) == made[caller.owner][0]
        job = world.jobs.of(caller).get(made[caller.owner][1])
        assert job.model == made[caller.owner][0]
        assert examples.ensure("mdl_other") == "mdl_other"
    assert made["default"] == (MODEL, JOB)
    assert len(set(made.values())) == 3
    with pytest.raises(NotFound):
        world.jobs.of(BOB).get(made["alice"][1])


def test_who_did_what_is_remembered(world: World) -> None:
    mine = upload(world, ALICE)["id"]
    jobs = world.jobs.of(ALICE)
    job = jobs.submit(spec(model=mine, dataset=None)).body["id"]
    jobs.cancel(job)
    jobs.retry(job)
    jobs.cancel(job)
    jobs.delete(job)
    world.uploads.of(ALICE).delete_model(mine)
    with pytest.raises(NotFound):
        world.uploads.of(BOB).delete_model(mine)
    entries = audit.newest(world.database, 100)
    assert [(entry.action, entry.target) for entry in entries] == [
        ("model.upload", mine),
        ("job.submit", job),
        ("job.cancel", job),
        ("job.retry", job),
        ("job.cancel", job),
        ("job.delete", job),
        ("model.delete", mine),
    ]
    assert {(entry.owner, entry.key) for entry in entries} == {("alice", "a" * 12)}
