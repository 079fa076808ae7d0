"""A model's analysis: made by the engine in a quick job, and kept with the model's content.

A model's content never changes, so that one analysis per content, engine and owner is enough:
whoever asks again gets the same one at once, and whoever asks meanwhile waits for the same job.
"""

from importlib.metadata import version

from anyio import to_thread
from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session

from app.adapters.database import ArtifactRow, JobRow, ModelRow
from app.domain.analysis import ModelAnalysis
from app.domain.base import Record
from app.domain.errors import NotFound, Unavailable
from app.domain.job import ArtifactFile, Status
from app.domain.prune import FractionTarget, LayerOverride, Prune
from app.domain.spec import PruningSpec
from app.services import quotas
from app.services.dispatch import dispatch
from app.services.jobs import Jobs, stop

PAGE = "analysis.html"
ATTEMPTS = 2


class KeptAnalysis(Record):
    """An analysis, and the page that shows it."""

    analysis: ModelAnalysis
    page: ArtifactFile | None


class Analyses:
    """Use cases around analyses, on behalf of the jobs' caller."""

    def __init__(self, jobs: Jobs) -> None:
        self.jobs = jobs
        self.database = jobs.database
        self.owner = jobs.caller.owner

    async def of(self, model: str) -> KeptAnalysis:
        """The analysis of a model. Raises `NotFound`, `EngineRefusal`, `Unavailable`.

        Waiting holds no thread, as with a dry run.
        """
        job = await to_thread.run_sync(self._found, model)
        if job is None:
            job = await to_thread.run_sync(self._begin, model)
        result = await self.jobs.answer(job)
        if result is None:
            await to_thread.run_sync(self._give_up, job)
            raise Unavailable(
                "The analysis did not end within "
                f"{self.jobs.settings.plan_timeout_seconds:g} s. Ask again: one that a worker has "
                "begun goes on meanwhile."
            )
        # The same content may have been analysed under another model's id.
        analysis = ModelAnalysis.model_validate(result | {"model": model})
        return KeptAnalysis(analysis=analysis, page=await to_thread.run_sync(self._page, job))

    def _found(self, model: str) -> str | None:
        with self.database.read() as session:
            return _usable(session, self._model(session, model))

    def _begin(self, model: str) -> str:
        with self.database.write() as session:
            # The lock keeps the model in its place, and a second request from a second job.
            row = self._model(session, model, lock=True)
            if (there := _usable(session, row)) is not None:
                return there
            quotas.check_jobs(session, self.owner, self.jobs.settings, kind="analysis")
            job = self.jobs.insert(session, untouched(model), "analysis", ATTEMPTS).id
        dispatch(self.database, self.jobs.queue, "quick", job)
        return job

    def _model(self, session: Session, id_: str, lock: bool = False) -> ModelRow:
        row = session.get(ModelRow, id_, with_for_update=lock or None)
        if row is None or row.owner != self.owner:
            raise NotFound(
                f"There is no model {id_!r}. It may have been deleted, or the id is mistyped."
            )
        return row

    def _give_up(self, job: str) -> None:
        # A queued one would keep its model in use for good; a running one ends by itself.
        with self.database.write() as session:
            row = session.get(JobRow, job, with_for_update=True)
            if row is not None and row.state == Status.QUEUED:
                stop(session, row)

    def _page(self, job: str) -> ArtifactFile | None:
        with self.database.read() as session:
            row = session.get(ArtifactRow, (job, PAGE))
        return None if row is None else ArtifactFile.model_validate(row, from_attributes=True)


def untouched(model: str) -> PruningSpec:
    """The spec that a quick job's row carries when nothing is to be cut: every layer is skipped."""
    return PruningSpec(
        model=model,
        prune=Prune(
            target=FractionTarget(remove=0.5), layers=(LayerOverride(match="*", skip=True),)
        ),
    )


def _usable(session: Session, model: ModelRow) -> str | None:
    """The newest job that answers, or will answer, for this content with this engine.

    Of the model's owner only: an answer at once would tell that somebody else has the file.
    """
    made = and_(
        JobRow.state == Status.SUCCEEDED,
        JobRow.result["engine"].as_string() == version("secateur"),
    )
    being_made = and_(
        JobRow.state.in_((Status.QUEUED, Status.RUNNING)), JobRow.cancel_requested.is_(False)
    )
    return session.scalar(
        select(JobRow.id)
        .join(ModelRow, ModelRow.id == JobRow.model_id)
        .where(
            JobRow.kind == "analysis",
            JobRow.owner == model.owner,
            ModelRow.sha256 == model.sha256,
            or_(made, being_made),
        )
        .order_by(JobRow.id.desc())
        .limit(1)
    )
