"""Settings that do not go together."""

import pwd
from collections.abc import Iterator

from pydantic import ValidationError

from app.doctor.check import Check, State, check
from app.settings import Settings

BEATS = 3
"""Heartbeats that must fit into a lease: one may be late, one lost."""


def not_understood(error: ValidationError) -> Iterator[Check]:
    """Settings that no part of the service would start with."""
    for wrong in error.errors():
        name = "SECATEUR_" + ".".join(map(str, wrong["loc"])).upper()
        advice = "Nothing starts with it: see the table in docs/settings.md."
        yield check("settings", "fail", f"{name}: {wrong['msg']}", advice)


def contradictions(settings: Settings) -> Iterator[Check]:
    """Each with what to change; one line of `ok` where there is none."""
    found = list(_found(settings))
    yield from found or [check("settings", "ok", "none contradict each other")]


def _found(settings: Settings) -> Iterator[Check]:
    for wrong, state, said, advice in _rules(settings):
        if wrong:
            yield check("settings", state, said, advice)
    if taken := _users_in_range(settings):
        yield check(
            "settings",
            "fail",
            f"users of this system lie in the range of jobs' user ids: {', '.join(taken)}",
            "A job would run as one of them. Choose another SECATEUR_JOB_UID_FIRST.",
        )


def _rules(s: Settings) -> Iterator[tuple[bool, State, str, str]]:
    yield (
        s.heartbeat_seconds * BEATS > s.lease_seconds,
        "fail",
        f"a lease of {s.lease_seconds:g} s with a heartbeat each {s.heartbeat_seconds:g} s",
        f"Living workers would lose their jobs: make SECATEUR_LEASE_SECONDS at least {BEATS} times "
        "SECATEUR_HEARTBEAT_SECONDS.",
    )
    yield (
        s.job_file_bytes > s.job_disk_bytes,
        "warn",
        "a job may write a larger file than its folder may take up",
        "Raise SECATEUR_JOB_DISK_BYTES above SECATEUR_JOB_FILE_BYTES.",
    )
    yield (
        s.upload_limit_bytes > s.job_disk_bytes,
        "warn",
        "an upload may be larger than the folder of a job, which gets a copy of it",
        "Raise SECATEUR_JOB_DISK_BYTES, or lower SECATEUR_UPLOAD_LIMIT_BYTES.",
    )
    yield (
        s.upload_limit_bytes > s.quota_stored_bytes,
        "warn",
        "one upload may be larger than all that an owner may store",
        "Raise SECATEUR_QUOTA_STORED_BYTES, or lower SECATEUR_UPLOAD_LIMIT_BYTES.",
    )
    yield (
        bool(s.broker_url) and not s.broker_url.startswith("redis+socket:") and not s.database_url,
        "warn",
        "a broker of its own, with SQLite in the data folder",
        "SQLite serves one machine. For more of them set SECATEUR_DATABASE_URL to a PostgreSQL.",
    )
    yield (
        s.require_keys == "never",
        "warn",
        "nobody is asked for an API key, on whatever address",
        "Leave SECATEUR_REQUIRE_KEYS at auto, or make sure that only people you trust get there.",
    )
    yield (
        s.allow_unconfined,
        "warn",
        "jobs run although they cannot be confined",
        "Unset SECATEUR_ALLOW_UNCONFINED where models come from people you do not trust.",
    )


def _users_in_range(settings: Settings) -> list[str]:
    first, count = settings.job_uid_first, settings.job_uid_count
    return [user.pw_name for user in pwd.getpwall() if first <= user.pw_uid < first + count]
