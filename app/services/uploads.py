"""Uploads: models and data sets. Read statically, stored by content, listed, deleted."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import structlog
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.adapters.database import Database, DatasetRow, JobRow, ModelRow
from app.domain.dataset import DatasetOptions
from app.domain.errors import InUse, InvalidUpload, NotFound, Unavailable
from app.domain.ids import new_id
from app.domain.job import ENDED
from app.domain.model import ModelInfo
from app.domain.people import ANYBODY, Caller
from app.domain.ports import Blob, BlobWriter, Store
from app.intake.process import Readers
from app.services import audit, quotas
from app.services.idempotency import Answer, fingerprint, once
from app.services.resources import (
    DatasetResource,
    ModelResource,
    dataset_resource,
    model_resource,
)
from app.settings import Settings

log = structlog.get_logger(__name__)

Row = TypeVar("Row", ModelRow, DatasetRow)
WORDS: dict[type[ModelRow | DatasetRow], str] = {ModelRow: "model", DatasetRow: "data set"}
NOUNS: dict[type[ModelRow | DatasetRow], str] = {ModelRow: "model", DatasetRow: "dataset"}
"""In the audit log."""


First = Callable[[Session, str], None]
"""What the transaction that makes the resource of this id begins with."""


def _nothing(session: Session, id_: str) -> None:
    pass


class Uploads:
    """Use cases around what users upload, on behalf of a caller: others' do not exist for them."""

    def __init__(
        self,
        database: Database,
        store: Store,
        settings: Settings,
        readers: Readers | None = None,
        caller: Caller = ANYBODY,
    ) -> None:
        self.database = database
        self.store = store
        self.settings = settings
        self.readers = readers or Readers()
        self.caller = caller

    def of(self, caller: Caller) -> "Uploads":
        """The same on another's behalf."""
        return Uploads(self.database, self.store, self.settings, self.readers, caller)

    @property
    def _kept_days(self) -> float:
        return self.settings.retention_days_uploads

    # --- create ----------------------------------------------------------------------------
    def room(self, needed_bytes: int = 0) -> int:
        """Bytes that the caller may still store, before any of them is taken.

        Raises `StorageFull` where what is announced does not fit.
        """
        with self.database.read() as session:
            left = quotas.check_room(session, self.caller.owner, self.settings)
            if needed_bytes > left:
                quotas.check_room(session, self.caller.owner, self.settings, needed_bytes)
        return left

    def add_model(
        self, writer: BlobWriter, filename: str, key: str | None, first: First = _nothing
    ) -> Answer:
        """Take a finished upload as a model.

        What is kept is the canonical copy; size and hash that are shown are the upload's. Raises
        `InvalidModel`, `StorageFull`; then nothing is kept.
        """
        info, blob = self.read_model(writer.path, filename)
        return self._add(
            writer,
            lambda: blob,
            filename,
            info.model_dump(mode="json", by_alias=True),
            ModelRow,
            "mdl",
            "models",
            key,
            fingerprint("model", writer.sha256),
            lambda row: model_resource(row, self._kept_days).model_dump(mode="json", by_alias=True),
            first,
        )

    def add_dataset(
        self,
        writer: BlobWriter,
        filename: str,
        options: DatasetOptions,
        key: str | None,
        first: First = _nothing,
    ) -> Answer:
        """Take a finished upload as a data set.

        Raises `InvalidDataset`, `StorageFull`; then nothing is kept.
        """
        info = self.readers.dataset(writer.path, filename, options)
        return self._add(
            writer,
            writer.commit,
            filename,
            info.model_dump(mode="json", by_alias=True),
            DatasetRow,
            "dts",
            "datasets",
            key,
            fingerprint("dataset", writer.sha256, options.model_dump()),
            lambda row: dataset_resource(row, self._kept_days).model_dump(
                mode="json", by_alias=True
            ),
            first,
        )

    def read_model(self, path: Path, filename: str) -> tuple[ModelInfo, Blob]:
        """What a model file holds, and its stored canonical copy. Raises `InvalidModel`."""
        with self.store.scratch() as folder:
            canonical = folder / "canonical"
            info = self.readers.model(path, filename, canonical)
            _check_storable(info.model_dump(mode="json", by_alias=True))
            return info, self.store.put_file(None, canonical)

    def _add(
        self,
        writer: BlobWriter,
        keep: Callable[[], Blob],
        filename: str,
        info: dict[str, Any],
        kind: type[Row],
        prefix: str,
        collection: str,
        key: str | None,
        print_: str,
        show: Callable[[Row], dict[str, Any]],
        first: First,
    ) -> Answer:
        _check_storable(info)
        sha256, size = writer.sha256, writer.bytes_written
        blob = keep()

        def create(session: Session) -> Answer:
            id_ = new_id(prefix)
            first(session, id_)
            quotas.lock(session, self.caller.owner)
            quotas.check_room(session, self.caller.owner, self.settings, size)
            row = kind(
                id=id_,
                owner=self.caller.owner,
                created_at=session.scalar(select(func.clock())),
                filename=filename[:255],
                key=blob.key,
                bytes=size,
                sha256=sha256,
                info=info,
            )
            session.add(row)
            session.flush()
            audit.record(session, self.caller, f"{NOUNS[kind]}.upload", row.id, sha256=sha256)
            return Answer(status=201, location=f"/v1/{collection}/{row.id}", body=show(row))

        return once(self.database, f"{collection}:{self.caller.owner}", key, print_, create)

    # --- read ------------------------------------------------------------------------------
    def model(self, id_: str) -> ModelResource:
        """One model. Raises `NotFound`."""
        with self.database.read() as session:
            return model_resource(self._found(session, ModelRow, id_), self._kept_days)

    def dataset(self, id_: str) -> DatasetResource:
        """One data set. Raises `NotFound`."""
        with self.database.read() as session:
            return dataset_resource(self._found(session, DatasetRow, id_), self._kept_days)

    def models(self, limit: int, cursor: str | None, **filters: str | None) -> list[ModelResource]:
        """Newest first, from below the cursor."""
        return [
            model_resource(row, self._kept_days)
            for row in self._list(ModelRow, limit, cursor, filters)
        ]

    def datasets(
        self, limit: int, cursor: str | None, **filters: str | None
    ) -> list[DatasetResource]:
        """Newest first, from below the cursor."""
        return [
            dataset_resource(row, self._kept_days)
            for row in self._list(DatasetRow, limit, cursor, filters)
        ]

    def _list(
        self,
        kind: type[Row],
        limit: int,
        cursor: str | None,
        filters: dict[str, str | None],
    ) -> list[Row]:
        query = (
            select(kind)
            .where(kind.owner == self.caller.owner)
            .order_by(kind.id.desc())
            .limit(limit)
        )
        if cursor is not None:
            query = query.where(kind.id < cursor)
        for column, value in filters.items():
            if value is not None:
                query = query.where(getattr(kind, column) == value)
        with self.database.read() as session:
            return list(session.scalars(query))

    # --- delete ----------------------------------------------------------------------------
    def delete_model(self, id_: str) -> None:
        """Forget a model that no unfinished job needs. Raises `NotFound`, `InUse`."""
        self._delete(ModelRow, id_, JobRow.model_id)

    def delete_dataset(self, id_: str) -> None:
        """Forget a data set that no unfinished job needs. Raises `NotFound`, `InUse`."""
        self._delete(DatasetRow, id_, JobRow.dataset_id)

    def _delete(self, kind: type[Row], id_: str, reference: Any) -> None:
        # The file itself goes with the reaper's sweep, once no row refers to its content.
        with self.database.write() as session:
            row = self._found(session, kind, id_, lock=True)
            waiting = session.scalars(
                select(JobRow.id).where(reference == id_, JobRow.state.not_in(ENDED)).limit(5)
            ).all()
            if waiting:
                raise InUse(
                    f"The {WORDS[kind]} {id_} is needed by jobs that have not ended: "
                    f"{', '.join(waiting)}. Wait for them, or cancel them first."
                )
            session.delete(row)
            audit.record(session, self.caller, f"{NOUNS[kind]}.delete", id_)

    def _found(self, session: Session, kind: type[Row], id_: str, *, lock: bool = False) -> Row:
        row = session.get(kind, id_, with_for_update=lock or None)
        if row is None or row.owner != self.caller.owner:
            raise NotFound(
                f"There is no {WORDS[kind]} {id_!r}. It may have been deleted, or the id is "
                "mistyped."
            )
        return row


def forget_files(store: Store, folder: str) -> None:
    """Delete files whose row is gone; while the store is away they are left to the collector."""
    try:
        store.delete_prefix(folder)
    except Unavailable as error:
        log.warning("files_left", folder=folder, reason=error.detail)


def _check_storable(info: dict[str, Any]) -> None:
    """Names in a file may hold U+0000, which PostgreSQL cannot store. Raises `InvalidUpload`."""
    if "\\u0000" in json.dumps(info).replace("\\\\", ""):
        raise InvalidUpload(
            "A name inside the file holds the character U+0000. Rename the layer or column.",
            field="file",
        )
