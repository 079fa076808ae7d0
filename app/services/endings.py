"""What a change of a job's state brings with it, whoever makes it: in the very same transaction."""

from typing import Any

from sqlalchemy.orm import Session

from app.domain.job import ENDED
from app.services import events, outbox, tallies


def moved(
    session: Session,
    job: str,
    kind: str,
    status: str,
    data: dict[str, Any],
    run_seconds: float | None = None,
) -> None:
    """Record the event; of an end, count it and write down the messages to webhooks.

    Args:
        status: what the job's row says by now.
        data: the event's, with the problem under `error` where the job failed.
        run_seconds: over all attempts, where they are known.
    """
    events.record(session, job, status, data)
    if status in ENDED:
        tallies.ended(session, kind, status, data.get("error"), run_seconds)
        outbox.job_ended(session, job)
