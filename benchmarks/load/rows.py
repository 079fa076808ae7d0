"""What one job costs where there are 100, 10,000 and 100,000 already, and by which indexes."""

import statistics
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import event, insert, text

from app.adapters.database import ArtifactRow, Database, JobRow
from app.domain.job import Status
from app.services import lifecycle
from app.services.jobs import Jobs
from tests.workers.results import RESULTS

ROUNDS = 30
FILES = ("log.txt", "model.keras", "metrics.json")


def fill(database: Database, jobs: Jobs, spec: Any, count: int, queued: int) -> None:
    """Ended jobs with their files; some wait."""
    now = time.time()
    have = _count(database)
    with database.write() as session:
        common = {
            "owner": jobs.caller.owner,
            "kind": "prune",
            "created_at": now,
            "updated_at": now,
            "finished_at": now,
            "spec": spec.model_dump(mode="json"),
            "model_id": spec.model,
            "dataset_id": spec.dataset,
            "attempts_allowed": 3,
            "time_limit_seconds": 60.0,
            "result": RESULTS["prune"],
        }
        for begin in range(have, count, 2000):
            ids = [f"job_0{number:025d}" for number in range(begin, min(begin + 2000, count))]
            session.execute(
                insert(JobRow),
                [
                    common | {"id": id_, "state": "queued" if number % 10 < queued else "succeeded"}
                    for number, id_ in enumerate(ids)
                ],
            )
            session.execute(
                insert(ArtifactRow),
                [
                    {"job_id": id_, "name": name, "key": f"jobs/{id_}/a1/{name}", "bytes": 1}
                    | {"sha256": "a" * 64, "media_type": "x"}
                    for id_ in ids
                    for name in FILES
                ],
            )
    with database.engine.connect() as connection:
        connection.execute(text("ANALYZE"))


def _count(database: Database) -> int:
    with database.read() as session:
        return int(session.scalar(text("SELECT count(*) FROM jobs")) or 0)


def costs(database: Database, jobs: Jobs, spec: Any) -> dict[str, float]:
    """Median milliseconds of each step of a job's life."""
    found: dict[str, list[float]] = {}

    def timed(name: str, call: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        answer = call()
        found.setdefault(name, []).append(1000 * (time.perf_counter() - began))
        return answer

    for _ in range(ROUNDS):
        life(database, jobs, spec, timed)
    return {name: statistics.median(values) for name, values in found.items()}


def life(
    database: Database, jobs: Jobs, spec: Any, step: Callable[[str, Callable[[], Any]], Any]
) -> None:
    """Each step of one job's life, by its name."""
    id_ = step("submit", lambda: jobs.submit(spec)).body["id"]
    step("poll (queued)", lambda: jobs.get(id_))
    attempt = step("claim", lambda: lifecycle.claim(database, id_, "w", 60))
    step("heartbeat", lambda: lifecycle.heartbeat(database, attempt, 60))
    step("poll (running)", lambda: jobs.get(id_))
    result = RESULTS["prune"]
    done = Status.SUCCEEDED
    step("finish", lambda: lifecycle.finish(database, attempt, done, result=result))
    step("list a page", lambda: jobs.newest(20, None))
    step("reap", lambda: lifecycle.reap(database))
    step("delete", lambda: jobs.delete(id_))


def plans(database: Database, jobs: Jobs, spec: Any) -> list[str]:
    """Scans of a whole table among the plans of one job's statements."""
    said: list[tuple[str, Any]] = []

    def listen(*arguments: Any) -> None:
        said.append((arguments[2], arguments[3]))

    event.listen(database.engine, "before_cursor_execute", listen)
    try:
        life(database, jobs, spec, lambda _, call: call())
    finally:
        event.remove(database.engine, "before_cursor_execute", listen)
    explain = "EXPLAIN " if database.engine.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN "
    scans = set()
    for statement, parameters in said:
        if not statement.lstrip().startswith(("SELECT", "UPDATE", "DELETE")):
            continue
        with database.engine.connect() as connection:
            rows = connection.exec_driver_sql(explain + statement, parameters).all()
        for row in rows:
            line = str(row[-1]).strip()
            if (
                line.startswith("SCAN jobs")
                or "Seq Scan on jobs" in line
                or "Seq Scan on art" in line
            ):
                scans.add(f"{line}: {' '.join(statement.split())[:150]}")
    return sorted(scans)
