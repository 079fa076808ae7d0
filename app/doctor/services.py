"""Broker, database, store, keys and workers: the parts that the service talks to."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from app.adapters.broker import connect
from app.adapters.database import Database
from app.adapters.database.schema import head, revision
from app.adapters.queue import CeleryQueue
from app.adapters.stores import open_store
from app.doctor.check import Check, State, check
from app.domain.errors import SecateurError, Unavailable
from app.domain.ports import Store
from app.embedded import valkey_binary
from app.services.keys import Keys
from app.services.workers import living
from app.settings import Settings

SKEW_WARN_SECONDS, SKEW_FAIL_SECONDS = 2.0, 30.0
PROBE = b"secateur doctor"


def broker(settings: Settings) -> Check:
    """One round trip to the broker."""
    url, socket = settings.broker_url, settings.data_dir.absolute() / "run" / "valkey.sock"
    if not url:
        if not socket.exists():
            return _to_bring()
        url = f"redis+socket://{socket}"
    queue = CeleryQueue(url)
    try:
        began = time.perf_counter()
        queue.ping()
        spent = (time.perf_counter() - began) * 1000
        return check("broker", "ok", f"{url} answers in {spent:.1f} ms, {_version(url)}")
    except Unavailable as error:
        advice = "Jobs are accepted and wait. Start the broker, or mend SECATEUR_BROKER_URL."
        return check("broker", "fail", f"{url}: {error.detail}", advice)
    finally:
        queue.close()


def _version(url: str) -> str:
    with connect(url, timeout_seconds=2) as client:
        info: Any = client.info("server")
    name = "Valkey" if "valkey_version" in info else "Redis"
    return f"{name} {info.get('valkey_version') or info.get('redis_version')}"


def _to_bring() -> Check:
    """Nothing runs here, and `secateur serve` brings a broker, if it finds one."""
    try:
        binary = valkey_binary()
    except Unavailable as error:
        return check("broker", "fail", "none named, none to bring", error.detail)
    advice = "`secateur serve` starts it. For `secateur api` and `worker` set SECATEUR_BROKER_URL."
    return check("broker", "warn", f"none runs here; {Path(binary).name} is there", advice)


def database(settings: Settings) -> Iterator[Check]:
    """Reachable, of this release, with a clock like ours; then keys and workers."""
    url = settings.effective_database_url
    if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists():
        advice = "`secateur serve` makes it. Is SECATEUR_DATA_DIR the folder that you mean?"
        yield check("database", "warn", f"{url} does not exist yet", advice)
        return
    try:
        found = revision(url)
    except Unavailable as error:
        advice = "Every request but health answers 503. Start it, or mend SECATEUR_DATABASE_URL."
        yield check("database", "fail", f"{url}: {error.detail}", advice)
        return
    yield check("database", "ok", f"{url} answers")
    migrated = found == head()
    said = f"revision {found or 'none'}, this release works with {head()}"
    yield check("tables", "ok" if migrated else "fail", said, "Run `secateur admin migrate`.")
    if migrated:
        opened = Database(url)
        try:
            yield from _inside(opened, settings)
        finally:
            opened.close()


def _inside(opened: Database, settings: Settings) -> Iterator[Check]:
    with opened.read() as session:
        skew = abs(time.time() - (session.scalar(select(func.clock())) or 0.0))
    state: State = (
        "fail" if skew > SKEW_FAIL_SECONDS else "warn" if skew > SKEW_WARN_SECONDS else "ok"
    )
    advice = "Leases use the database's clock alone, but log lines and spans use this machine's."
    yield check("clock", state, f"{skew:.1f} s from the database's", f"{advice} Synchronise them.")
    if settings.require_keys == "always" and not Keys(opened).there_are_any():
        advice = "secateur keys create --owner NAME"
        yield check("keys", "warn", "none, so every request is refused", advice)
    yield from _workers(opened)


def _workers(opened: Database) -> Iterator[Check]:
    found = living(opened)
    if not found:
        advice = "Jobs wait for one: `secateur worker`, or `secateur serve`."
        yield check("workers", "warn", "none has been heard of within a minute", advice)
    for one in found:
        said = f"{one.worker}: {one.confinement.sentence}"
        advice = "It refuses every job. Run it where these work; see docs/architecture.md."
        yield check("workers", "ok" if one.runs_jobs else "fail", said, advice)


def store(settings: Settings) -> Check:
    """A file is written, read back and deleted."""
    if not settings.store_url and not settings.data_dir.exists():
        advice = "`secateur serve` makes it. Is SECATEUR_DATA_DIR the folder that you mean?"
        return check("store", "warn", f"{settings.store_dir} does not exist yet", advice)
    where = settings.store_url or str(settings.store_dir)
    try:
        began = time.perf_counter()
        _probe(open_store(settings))
        spent = (time.perf_counter() - began) * 1000
    except (SecateurError, OSError) as error:
        advice = (
            "Uploads and results fail. Is the disk full, the folder another's, the bucket away?"
        )
        return check("store", "fail", f"{where}: {error}", advice)
    return check("store", "ok", f"{where}: wrote, read, deleted in {spent:.1f} ms")


def _probe(opened: Store) -> None:
    with opened.scratch() as folder:
        (folder / "probe").write_bytes(PROBE)
        blob = opened.put_file(f"tmp/{folder.name}.doctor", folder / "probe")
        try:
            opened.fetch(blob.key, blob.sha256, folder / "back")
        finally:
            opened.delete(blob.key)
