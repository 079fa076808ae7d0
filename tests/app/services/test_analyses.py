"""One analysis per content and engine: made once, kept, shared, made anew when it must be."""

import asyncio
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from app.adapters.database import Database, JobRow, ModelRow
from app.adapters.queue import CeleryQueue
from app.adapters.store import FolderStore
from app.domain.errors import EngineRefusal, NotFound, Unavailable
from app.domain.job import ArtifactFile, Attempt, Status
from app.domain.spec import PruningSpec
from app.services import lifecycle
from app.services.analyses import PAGE, KeptAnalysis
from tests.app.services.conftest import World, spec, world_on

RESULT: dict[str, Any] = {
    "model": "mdl_1",
    "engine": version("secateur"),
    "parameters": 10,
    "macs": 8,
    "seconds": 0.1,
    "layers": [{"name": "dense", "class": "Dense", "units": 2, "prunable": 2}],
    "edges": [["pixels", "dense"]],
}
FILE = ArtifactFile(name=PAGE, key="k", bytes=1, sha256="a" * 64, media_type="text/html")

Act = Callable[[World, Attempt], None]


def finds(world: World, attempt: Attempt) -> None:
    lifecycle.finish(world.database, attempt, Status.SUCCEEDED, result=RESULT, artifacts=[FILE])


def refuses(world: World, attempt: Attempt) -> None:
    error = EngineRefusal("It has no graph.").as_problem()
    lifecycle.finish(world.database, attempt, Status.FAILED, error=error)


def rows(world: World) -> list[JobRow]:
    with world.database.read() as session:
        return list(session.scalars(select(JobRow).order_by(JobRow.id)))


def worker(world: World, act: Act) -> None:
    """Carry out the first queued analysis as soon as it is there."""
    for _ in range(500):
        for row in rows(world):
            if row.state == Status.QUEUED:
                act(world, world.attempt(row.id))
                return
        time.sleep(0.01)


def analyse(world: World, act: Act, *models: str) -> list[KeptAnalysis]:
    """What requests for these models, all at once, are answered."""

    async def both() -> list[KeptAnalysis]:
        working = asyncio.create_task(asyncio.to_thread(worker, world, act))
        try:
            return await asyncio.gather(*(world.analyses.of(model) for model in models))
        finally:
            await working

    return asyncio.run(both())


def again(world: World, model: str = "mdl_1") -> KeptAnalysis:
    """The answer without any worker."""
    return asyncio.run(world.analyses.of(model))


def add_twin(world: World, sha256: str) -> None:
    with world.database.write() as session:
        first = session.get_one(ModelRow, "mdl_1")
        values = {c.key: getattr(first, c.key) for c in ModelRow.__table__.columns}
        session.add(ModelRow(**values | {"id": "mdl_2", "sha256": sha256}))


def test_the_second_answer_needs_no_worker(world: World) -> None:
    (made,) = analyse(world, finds, "mdl_1")
    assert (
        made.analysis.model_dump(mode="json", by_alias=True).items()
        >= {
            "model": "mdl_1",
            "edges": [["pixels", "dense"]],
        }.items()
    )
    assert made.page == FILE
    assert again(world) == made
    assert len(rows(world)) == 1


def test_requests_at_the_same_time_share_one_job(world: World) -> None:
    one, two, three = analyse(world, finds, "mdl_1", "mdl_1", "mdl_1")
    assert one == two == three
    assert len(rows(world)) == 1


def test_the_same_content_under_another_id_needs_no_job(world: World) -> None:
    analyse(world, finds, "mdl_1")
    add_twin(world, sha256="a" * 64)
    assert again(world, "mdl_2").analysis.model == "mdl_2"
    assert len(rows(world)) == 1


def test_other_content_needs_a_job_of_its_own(world: World) -> None:
    analyse(world, finds, "mdl_1")
    add_twin(world, sha256="c" * 64)
    analyse(world, finds, "mdl_2")
    assert [row.model_id for row in rows(world)] == ["mdl_1", "mdl_2"]


def test_another_engine_looks_anew(world: World) -> None:
    analyse(world, finds, "mdl_1")
    world.change(rows(world)[0].id, result=RESULT | {"engine": "0.0.0"})
    analyse(world, finds, "mdl_1")
    assert len(rows(world)) == 2


def test_a_refusal_is_raised_and_not_kept(world: World) -> None:
    with pytest.raises(EngineRefusal, match="no graph"):
        analyse(world, refuses, "mdl_1")
    (made,) = analyse(world, finds, "mdl_1")
    assert made.analysis.parameters == 10


def test_an_unknown_model_is_not_found(world: World) -> None:
    with pytest.raises(NotFound, match="mdl_none"):
        again(world, "mdl_none")
    assert rows(world) == []


def test_it_waits_in_the_quick_queue_and_cuts_nothing(world: World) -> None:
    id_ = world.analyses._begin("mdl_1")
    assert world.queue.depth("quick") == 1
    assert world.queue.depth("jobs") == 0
    row = world.row(id_)
    assert id_.startswith("anl_")
    asked = PruningSpec.model_validate(row.spec)
    assert [(one.match, one.skip) for one in asked.prune.layers] == [("*", True)]
    assert asked.fine_tune is None


def test_an_analysis_is_no_job(world: World) -> None:
    id_ = world.analyses._begin("mdl_1")
    assert world.jobs.newest(10, None) == []
    with pytest.raises(NotFound):
        world.jobs.get(id_)
    assert world.jobs.submit(spec()).body["queue_position"] == 0


@pytest.fixture
def hasty(database: Database, store: FolderStore, queue: CeleryQueue, tmp_path: Path) -> World:
    """A world whose requests wait for a moment only."""
    return world_on(database, store, queue, tmp_path, plan_timeout_seconds=0.1)


def test_without_a_worker_it_is_given_up_and_the_model_is_free(hasty: World) -> None:
    with pytest.raises(Unavailable, match="Ask again"):
        again(hasty)
    assert [row.state for row in rows(hasty)] == ["cancelled"]
    hasty.uploads.delete_model("mdl_1")


def test_a_slow_analysis_goes_on_for_the_next_request(hasty: World) -> None:
    attempt = hasty.attempt(hasty.analyses._begin("mdl_1"))
    with pytest.raises(Unavailable):
        again(hasty)
    finds(hasty, attempt)
    assert again(hasty).analysis.macs == 8
    assert len(rows(hasty)) == 1
