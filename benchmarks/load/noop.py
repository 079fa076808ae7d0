"""What a worker does to a job, without the job."""

import base64
import json

import redis

from app.adapters.database import Database
from app.domain.job import Status
from app.services import lifecycle
from tests.workers.results import RESULTS


def work(database_url: str, broker_url: str) -> None:
    """Claim and finish what the broker tells of, until it tells no more."""
    database = Database(database_url)
    with redis.Redis.from_url(broker_url) as broker:
        while (message := broker.rpop("jobs")) is not None:
            body = json.loads(base64.b64decode(json.loads(message)["body"]))
            attempt = lifecycle.claim_next(
                database, body[0][0], "noop", 60.0, memory_bytes=2**33, priority_seconds=60.0
            )
            if attempt is not None:
                lifecycle.finish(database, attempt, Status.SUCCEEDED, result=RESULTS["prune"])
    database.close()
