"""What routes need, made once per application."""

from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import Depends, Header, Query, Request

from app.adapters.database import Database, Limits
from app.adapters.limiter import Limiter
from app.adapters.queue import CeleryQueue
from app.adapters.stores import open_store
from app.domain.base import Text
from app.domain.people import Caller
from app.domain.ports import Store
from app.intake.process import Readers
from app.services.analyses import Analyses
from app.services.dispatch import Marks
from app.services.examples import Examples
from app.services.jobs import Jobs
from app.services.keys import Keys
from app.services.reading import Reading
from app.services.resources import as_json
from app.services.resumable import Resumable
from app.services.sweeps import Sweeps
from app.services.together import Together
from app.services.uploads import Uploads
from app.services.watching import Watch
from app.services.webhooks import Webhooks
from app.settings import Settings


@dataclass(frozen=True)
class Context:
    """The wired application."""

    settings: Settings
    database: Database
    store: Store
    queue: CeleryQueue
    limiter: Limiter
    keys: Keys
    uploads: Uploads
    resumable: Resumable
    reading: Reading
    jobs: Jobs
    analyses: Analyses
    sweeps: Sweeps
    webhooks: Webhooks
    examples: Examples
    watch: Watch
    polls: Together[tuple[str, str], str]
    """Jobs as JSON, by owner and id."""

    @classmethod
    def build(cls, settings: Settings) -> "Context":
        """Wire adapters and services."""
        database = Database(
            settings.effective_database_url, Limits.model_validate(settings.database_limits)
        )
        store = open_store(settings)
        queue = CeleryQueue(settings.broker_url)
        readers = Readers(settings.intake_processes, settings.intake_memory_bytes)
        uploads = Uploads(database, store, settings, readers)
        resumable = Resumable(uploads)
        jobs = Jobs(database, store, queue, settings, marks=Marks(database))
        return cls(
            settings,
            database,
            store,
            queue,
            Limiter(settings.broker_url),
            Keys(database),
            uploads,
            resumable,
            Reading(resumable, settings.intake_processes),
            jobs,
            Analyses(jobs),
            Sweeps(jobs),
            Webhooks(database, settings),
            Examples(uploads, jobs),
            Watch(database),
            Together(lambda asked: {key: as_json(job) for key, job in jobs.look(asked).items()}),
        )

    def of(self, caller: Caller) -> "Context":
        """The same on behalf of a caller, whose own things alone the services then know."""
        uploads, jobs = self.uploads.of(caller), self.jobs.of(caller)
        return replace(
            self,
            uploads=uploads,
            resumable=Resumable(uploads),
            jobs=jobs,
            analyses=Analyses(jobs),
            sweeps=Sweeps(jobs),
            webhooks=self.webhooks.of(caller),
            examples=Examples(uploads, jobs),
        )

    def close(self) -> None:
        """Finish what is being read, give connections back."""
        self.reading.close()
        if self.jobs.marks is not None:
            self.jobs.marks.flush()
        self.queue.close()
        self.limiter.close()
        self.database.close()


async def _context(request: Request) -> Context:
    # Not a plain function: it would be called in a thread, which costs more than all it does.
    context = request.app.state.context
    assert isinstance(context, Context)
    return context.of(request.state.caller)


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
