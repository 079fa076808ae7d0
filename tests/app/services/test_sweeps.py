"""Sweeps: all or nothing, compared, ended and begun again as one."""

import csv
import io
from typing import Any

import pytest
from sqlalchemy import func, select

from app.adapters.database import EventRow, JobRow
from app.domain.errors import IdempotencyConflict, InvalidSpec, NotFound, WrongState
from app.domain.job import Progress, Status
from app.domain.spec import PruningSpec
from app.domain.sweep import SweepSpec, members
from app.services import lifecycle
from app.services.sweeps import Sweeps
from tests.app.services.conftest import World, spec

GRID = {"prune.target.remove": [0.1, 0.5, 0.9]}


@pytest.fixture
def sweeps(world: World) -> Sweeps:
    return Sweeps(world.jobs)


def submit(sweeps: Sweeps, key: str | None = None, **parts: Any) -> dict[str, Any]:
    base = spec().model_dump(mode="json") | {"dataset": "dts_1"}
    asked = SweepSpec.model_validate({"base": base, "grid": GRID} | parts)
    specs = [(each, PruningSpec.model_validate(each.spec)) for each in members(asked)]
    return sweeps.submit(asked, specs, key).body


def state(nonzero: int, accuracy: float) -> dict[str, Any]:
    return {
        "parameters": 100,
        "nonzero_parameters": nonzero,
        "macs": 100,
        "bytes": {"keras": 7},
        "evaluation": {
            "loss": {"value": accuracy, "samples": 9},  # First, and misleading.
            "accuracy": {"value": accuracy, "interval": [accuracy - 0.1, 1.0], "samples": 9},
        },
        "latency": [
            {
                "runtime": "litert",
                "batch_size": 1,
                "threads": 1,
                "p50_ms": 1.0,
                "p95_ms": 2.0,
                "repeats": 9,
                "speed_up": 1.5,
            }
        ],
    }


def succeed(world: World, job: str, nonzero: int, accuracy: float) -> None:
    attempt = world.attempt(job)
    result = {"before": state(100, 0.95), "after": state(nonzero, accuracy), "history": []}
    lifecycle.finish(world.database, attempt, Status.SUCCEEDED, result=result)


# --- submit ------------------------------------------------------------------------------------
def test_a_job_for_each_combination(world: World, sweeps: Sweeps) -> None:
    body = submit(sweeps)
    assert (body["counts"], body["done"], body["share"]) == ({"queued": 3}, False, 0.0)
    assert [job["varied"] for job in body["jobs"]] == [
        {"prune.target.remove": share} for share in (0.1, 0.5, 0.9)
    ]
    rows = [world.row(job["job"]) for job in body["jobs"]]
    assert [row.spec["prune"]["target"]["remove"] for row in rows] == [0.1, 0.5, 0.9]
    # They were announced: nothing waits for the reaper.
    assert all(row.dispatched_at is not None for row in rows)
    assert sweeps.get(body["id"]).model_dump(mode="json") == body


def test_all_or_nothing(world: World, sweeps: Sweeps) -> None:
    with pytest.raises(InvalidSpec) as caught:
        submit(sweeps, grid={"model": ["mdl_1", "mdl_none"]})
    assert caught.value.field == "grid (model = 'mdl_none')"
    with world.database.read() as session:
        assert session.scalar(select(func.count()).select_from(JobRow)) == 0


def test_a_key_makes_one_sweep(sweeps: Sweeps) -> None:
    first = submit(sweeps, "key")
    assert submit(sweeps, "key")["id"] == first["id"]
    with pytest.raises(IdempotencyConflict):
        submit(sweeps, "key", name="another")
    assert len(sweeps.newest(10, None)) == 1


# --- compare -----------------------------------------------------------------------------------
def test_the_comparison(world: World, sweeps: Sweeps) -> None:
    body = submit(sweeps)
    first, second, third = (job["job"] for job in body["jobs"])
    succeed(world, first, 90, 0.9)
    succeed(world, second, 90, 0.8)
    lifecycle.report(world.database, world.attempt(third), Progress(phase="fine-tuning", share=0.5))
    found = sweeps.get(body["id"])
    assert found.before is not None
    assert found.before.nonzero_parameters == 100
    assert [job.pareto for job in found.jobs] == [True, False, False]
    assert found.share == pytest.approx(2.5 / 3)
    assert found.counts == {Status.RUNNING: 1, Status.SUCCEEDED: 2}


def test_the_table(world: World, sweeps: Sweeps) -> None:
    body = submit(sweeps)
    succeed(world, body["jobs"][1]["job"], 90, 0.9)
    first, second, _ = csv.DictReader(io.StringIO(sweeps.table(body["id"])))
    assert (first["status"], first["accuracy"], first["pareto"]) == ("queued", "", "0")
    assert second == {
        "job": body["jobs"][1]["job"],
        "status": "succeeded",
        "prune.target.remove": "0.5",
        "parameters": "100",
        "nonzero_parameters": "90",
        "macs": "100",
        "bytes.keras": "7",
        "loss": "0.9",
        "loss.low": "",
        "loss.high": "",
        "accuracy": "0.9",
        "accuracy.low": "0.8",
        "accuracy.high": "1.0",
        "speed_up.litert.batch_1.threads_1": "1.5",
        "pareto": "1",
        "error": "",
    }


# --- end ---------------------------------------------------------------------------------------
def test_cancel_retry_delete(world: World, sweeps: Sweeps) -> None:
    body = submit(sweeps)
    succeed(world, body["jobs"][0]["job"], 90, 0.9)
    with pytest.raises(WrongState, match="2 jobs"):
        sweeps.delete(body["id"])
    for _ in range(2):
        found = sweeps.cancel(body["id"])
        assert found.counts == {Status.SUCCEEDED: 1, Status.CANCELLED: 2}
        assert found.done
    assert sweeps.retry(body["id"]).counts == {Status.QUEUED: 2, Status.SUCCEEDED: 1}
    sweeps.cancel(body["id"])
    sweeps.delete(body["id"])
    with world.database.read() as session:
        for kind in (JobRow, EventRow):
            assert session.scalar(select(func.count()).select_from(kind)) == 0
    with pytest.raises(NotFound):
        sweeps.get(body["id"])


def test_a_deleted_job_leaves_the_others(world: World, sweeps: Sweeps) -> None:
    body = submit(sweeps)
    sweeps.cancel(body["id"])
    world.jobs.delete(body["jobs"][1]["job"])
    assert [job.varied["prune.target.remove"] for job in sweeps.get(body["id"]).jobs] == [0.1, 0.9]


@pytest.mark.parametrize("act", ["get", "table", "cancel", "retry", "delete"])
def test_an_unknown_sweep_is_not_found(sweeps: Sweeps, act: str) -> None:
    with pytest.raises(NotFound, match="swp_none"):
        getattr(sweeps, act)("swp_none")


def test_jobs_of_a_sweep_can_be_listed(world: World, sweeps: Sweeps) -> None:
    world.job()
    body = submit(sweeps)
    listed = world.jobs.newest(10, None, sweep=body["id"])
    assert {job.id for job in listed} == {job["job"] for job in body["jobs"]}
    assert {job.sweep for job in listed} == {body["id"]}
