"""What routes need, made once per application."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, Query, Request

from app.adapters.database import Database
from app.adapters.queue import CeleryQueue
from app.adapters.store import FolderStore
from app.domain.base import Text
from app.intake.process import Readers
from app.services.analyses import Analyses
from app.services.examples import Examples
from app.services.jobs import Jobs
from app.services.sweeps import Sweeps
from app.services.uploads import Uploads
from app.settings import Settings


@dataclass(frozen=True)
class Context:
    """The wired application."""

    settings: Settings
    database: Database
    store: FolderStore
    queue: CeleryQueue
    uploads: Uploads
    jobs: Jobs
    analyses: Analyses
    sweeps: Sweeps
    examples: Examples

    @classmethod
    def build(cls, settings: Settings) -> "Context":
        """Wire adapters and services."""
        database = Database(settings.effective_database_url)
        store = FolderStore(settings.store_dir)
        queue = CeleryQueue(settings.broker_url)
        readers = Readers(settings.intake_processes, settings.intake_memory_bytes)
        uploads = Uploads(database, store, readers)
        jobs = Jobs(database, store, queue, settings)
        return cls(
            settings,
            database,
            store,
            queue,
            uploads,
            jobs,
            Analyses(jobs),
            Sweeps(jobs),
            Examples(uploads, jobs),
        )

    def close(self) -> None:
        """Give connections back."""
        self.queue.close()
        self.database.close()


def _context(request: Request) -> Context:
    context = request.app.state.context
    assert isinstance(context, Context)
    return context


Ctx = Annotated[Context, Depends(_context)]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="Repeat a request under the same key and the first answer is replayed "
        "for 24 hours: nothing is created twice.",
    ),
]
Limit = Annotated[int, Query(ge=1, le=200, description="Items per page.")]
Cursor = Annotated[
    Text | None,
    Query(
        max_length=64,
        description="`next_cursor` of the page before; left out for the first.",
    ),
]
