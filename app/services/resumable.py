"""Resumable uploads: begun, continued, given up; then read as any other upload."""

from typing import Any

import structlog
from sqlalchemy import ColumnElement, and_, func, or_, select, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session

from app.adapters.database import Database, UploadRow
from app.domain.dataset import DatasetOptions
from app.domain.errors import (
    InternalError,
    InvalidUpload,
    NotFound,
    SecateurError,
    TooLarge,
    Unavailable,
    WrongOffset,
    WrongState,
)
from app.domain.ids import new_id
from app.domain.people import Caller
from app.domain.ports import BlobWriter, Store
from app.domain.upload import UploadKind, UploadState
from app.services import quotas, segments
from app.services.resources import UploadResource, upload_resource
from app.services.uploads import Uploads, forget_files
from app.settings import Settings

READING_LEASE_SECONDS = 20.0
READINGS = 3
"""An upload that so many processes did not survive reading is refused."""
AGAIN_SECONDS = 5.0

log = structlog.get_logger(__name__)


class Resumable:
    """Use cases around resumable uploads, on behalf of a caller: others' do not exist for them."""

    def __init__(self, uploads: Uploads) -> None:
        self.uploads = uploads
        self.database: Database = uploads.database
        self.store: Store = uploads.store
        self.settings: Settings = uploads.settings
        self.caller: Caller = uploads.caller

    def of(self, caller: Caller) -> "Resumable":
        """The same on another's behalf."""
        return Resumable(self.uploads.of(caller))

    # --- begin -----------------------------------------------------------------------------
    def begin(
        self,
        kind: UploadKind,
        filename: str,
        length: int,
        options: DatasetOptions | None,
        given: str,
    ) -> UploadResource:
        """A new upload of so many bytes.

        Raises `InvalidUpload`, `TooLarge`, `StorageFull`, `TooManyUploads`.
        """
        if length == 0:
            raise InvalidUpload("The upload is empty: Upload-Length is 0.", field="Upload-Length")
        if length > self.settings.upload_limit_bytes:
            raise TooLarge(
                f"The upload has {length} bytes, more than the "
                f"{self.settings.upload_limit_bytes} that this service accepts (setting "
                "SECATEUR_UPLOAD_LIMIT_BYTES).",
                field="Upload-Length",
            )
        with self.database.write() as session:
            quotas.lock(session, self.caller.owner)
            quotas.check_room(session, self.caller.owner, self.settings, length)
            quotas.check_uploads(session, self.caller.owner, self.settings)
            now = session.scalar(select(func.clock())) or 0.0
            row = UploadRow(
                id=new_id("upl"),
                owner=self.caller.owner,
                key_id=self.caller.key,
                kind=kind,
                filename=filename[:255],
                options=options.model_dump(mode="json") if options else {},
                given=given,
                state=UploadState.UPLOADING,
                length=length,
                received=0,
                fence=0,
                created_at=now,
                expires_at=now + self._kept_seconds,
                readings=0,
            )
            session.add(row)
            session.flush()
            return upload_resource(row)

    # --- look ------------------------------------------------------------------------------
    def get(self, id_: str) -> UploadResource:
        """Where an upload stands, by what is really stored of it. Raises `NotFound`."""
        row = self._found(id_)
        if row.state == UploadState.UPLOADING:
            row.received = segments.end(self.store, id_, row.received)
            if row.received == row.length and self._complete(id_):
                row.state = UploadState.PROCESSING
        return upload_resource(row)

    def given(self, id_: str) -> str:
        """The metadata as they came. Raises `NotFound`."""
        return self._found(id_).given

    def newest(self, limit: int, cursor: str | None) -> list[UploadResource]:
        """Newest first, from below the cursor; bytes as they were last noted."""
        query = (
            select(UploadRow)
            .where(UploadRow.owner == self.caller.owner, UploadRow.expires_at > func.clock())
            .order_by(UploadRow.id.desc())
            .limit(limit)
        )
        if cursor is not None:
            query = query.where(UploadRow.id < cursor)
        with self.database.read() as session:
            return [upload_resource(row) for row in session.scalars(query)]

    # --- go on -----------------------------------------------------------------------------
    def resume(self, id_: str, offset: int, coming: int) -> "Appending":
        """Go on at an offset; who went on before must stop.

        Args:
            id_: of the upload.
            offset: where the client goes on.
            coming: bytes that are announced; 0 where that is not known.

        Raises `NotFound`, `WrongState`, `WrongOffset`, `TooLarge`.
        """
        found = self.get(id_)
        if found.state is not UploadState.UPLOADING and offset != found.length:
            raise WrongState(f"The upload {id_} is {found.state}: all its bytes are there.")
        if offset != found.offset:
            raise WrongOffset(
                f"The upload {id_} has {found.offset} bytes, and this goes on at {offset}. Ask "
                "with HEAD where to go on."
            )
        left = found.length - offset
        if coming > left:
            raise too_much(left)
        fence = self._change(
            id_,
            UploadRow.state == UploadState.UPLOADING,
            fence=UploadRow.fence + 1,
            received=offset,
            expires_at=func.clock() + self._kept_seconds,
        )
        return Appending(self, id_, fence or 0, offset, left)

    def append(self, id_: str, fence: int, offset: int, data: bytes) -> None:
        """Add a piece for one who goes on with an upload. Raises `WrongOffset`, `Unavailable`."""
        with self.database.read() as session:
            current = session.scalar(select(UploadRow.fence).where(UploadRow.id == id_))
        if current != fence or not segments.put(self.store, id_, offset, data):
            raise WrongOffset(
                f"Another request has gone on with the upload {id_}, or has ended it. Ask with "
                "HEAD where to go on."
            )
        self._change(
            id_,
            and_(UploadRow.fence == fence, UploadRow.state == UploadState.UPLOADING),
            received=offset + len(data),
            expires_at=func.clock() + self._kept_seconds,
        )

    def _complete(self, id_: str) -> bool:
        """All bytes are there: the upload waits to be read."""
        changed = self._change(
            id_,
            UploadRow.state == UploadState.UPLOADING,
            state=UploadState.PROCESSING,
            received=UploadRow.length,
            fence=UploadRow.fence + 1,
        )
        return changed is not None

    def delete(self, id_: str) -> None:
        """Give an upload up. Raises `NotFound`. What it has become stays."""
        self._found(id_)
        with self.database.write() as session:
            row = session.get(UploadRow, id_)
            if row is not None:
                session.delete(row)
        forget_files(self.store, segments.folder(id_))

    # --- read the whole --------------------------------------------------------------------
    def unread(self) -> list[str]:
        """Uploads of all owners that wait to be read, or whose reader is gone."""
        with self.database.read() as session:
            return list(
                session.scalars(select(UploadRow.id).where(_unread()).order_by(UploadRow.id))
            )

    def read(self, id_: str) -> None:
        """Make a model or a data set of an upload, unless somebody else does; any owner's."""
        fence = self._change(
            id_,
            _unread(),
            lease_expires_at=func.clock() + READING_LEASE_SECONDS,
            fence=UploadRow.fence + 1,
            readings=UploadRow.readings + 1,
        )
        if fence is None:
            return
        with self.database.read() as session:
            row = session.get_one(UploadRow, id_)
        try:
            if row.readings > READINGS:
                raise InternalError(
                    f"{row.filename} could not be read: {READINGS} processes that tried are gone."
                )
            self._read(row, fence)
        except Unavailable as error:
            log.warning("upload_reading_postponed", upload=id_, reason=error.detail)
            self._change(
                id_,
                UploadRow.fence == fence,
                lease_expires_at=func.clock() + AGAIN_SECONDS,
                readings=UploadRow.readings - 1,
            )
            return
        except _Gone:
            return
        except SecateurError as error:
            self._refuse(id_, fence, error)
        except Exception:
            log.exception("upload_reading_failed", upload=id_)
            self._refuse(id_, fence, InternalError(f"{row.filename} could not be read."))
        forget_files(self.store, segments.folder(id_))

    def _read(self, row: UploadRow, fence: int) -> None:
        uploads = self.uploads.of(Caller(owner=row.owner, key=row.key_id))

        def settle(session: Session, resource: str) -> None:
            # In the transaction that makes the resource: the upload's bytes stop counting as it
            # begins to, and an upload that was deleted meanwhile becomes nothing.
            changed = session.execute(
                update(UploadRow)
                .where(UploadRow.id == row.id, UploadRow.fence == fence)
                .values(
                    state=UploadState.READY,
                    resource=resource,
                    lease_expires_at=None,
                    expires_at=func.clock() + self._kept_seconds,
                )
                .execution_options(synchronize_session=False)
            )
            if not _rows(changed):
                raise _Gone

        writer = self.store.writer()
        try:
            self._assemble(row, fence, writer)
            if row.kind == "model":
                uploads.add_model(writer, row.filename, None, settle)
            else:
                options = DatasetOptions.model_validate(row.options)
                uploads.add_dataset(writer, row.filename, options, None, settle)
        finally:
            writer.abort()

    def _assemble(self, row: UploadRow, fence: int, writer: BlobWriter) -> None:
        for piece in segments.read(self.store, row.id):
            writer.write(piece)
        if writer.bytes_written != row.length:
            raise InternalError(
                f"The upload {row.id} has {writer.bytes_written} bytes in the store, and "
                f"{row.length} were received."
            )

    def keep_reading(self, ids: list[str]) -> None:
        """Renew the leases of uploads that are being read in this process."""
        for id_ in ids:
            self._change(
                id_,
                and_(
                    UploadRow.state == UploadState.PROCESSING,
                    UploadRow.lease_expires_at > func.clock(),
                ),
                lease_expires_at=func.clock() + READING_LEASE_SECONDS,
            )

    def _refuse(self, id_: str, fence: int, error: SecateurError) -> None:
        self._change(
            id_,
            UploadRow.fence == fence,
            state=UploadState.REFUSED,
            error=error.as_problem(),
            lease_expires_at=None,
            expires_at=func.clock() + self._kept_seconds,
        )

    # --- rows ------------------------------------------------------------------------------
    @property
    def _kept_seconds(self) -> float:
        return self.settings.upload_expiry_hours * 3600

    def _change(self, id_: str, condition: ColumnElement[bool], **values: Any) -> int | None:
        """The row's fence after a change; None where the condition did not hold."""
        with self.database.write() as session:
            return session.execute(
                update(UploadRow)
                .where(UploadRow.id == id_, condition)
                .values(**values)
                .returning(UploadRow.fence)
                .execution_options(synchronize_session=False)
            ).scalar_one_or_none()

    def _found(self, id_: str) -> UploadRow:
        with self.database.read() as session:
            row = session.scalars(
                select(UploadRow).where(
                    UploadRow.id == id_,
                    UploadRow.owner == self.caller.owner,
                    UploadRow.expires_at > func.clock(),
                )
            ).one_or_none()
            if row is None:
                raise NotFound(
                    f"There is no upload {id_!r}. It may have expired or been deleted, or the id "
                    "is mistyped. Begin it anew."
                )
            session.expunge(row)
            return row


class Appending:
    """One request that goes on with an upload."""

    def __init__(self, uploads: Resumable, id_: str, fence: int, offset: int, left: int) -> None:
        self.id = id_
        self.offset = offset
        self.left = left
        """Bytes that may still come."""
        self._uploads = uploads
        self._fence = fence

    def append(self, data: bytes) -> None:
        """Keep a piece. Raises `WrongOffset`, `Unavailable`."""
        for start in range(0, len(data), segments.SEGMENT_BYTES):
            piece = data[start : start + segments.SEGMENT_BYTES]
            self._uploads.append(self.id, self._fence, self.offset, piece)
            self.offset += len(piece)
            self.left -= len(piece)


class _Gone(Exception):
    """The upload was deleted, or another process reads it."""


def too_much(left: int) -> TooLarge:
    """More comes than was announced."""
    return TooLarge(
        f"The body is longer than the {left} bytes that are missing of the announced Upload-Length."
    )


def _unread() -> ColumnElement[bool]:
    return and_(
        UploadRow.state == UploadState.PROCESSING,
        or_(UploadRow.lease_expires_at.is_(None), UploadRow.lease_expires_at < func.clock()),
    )


def _rows(result: Any) -> int:
    assert isinstance(result, CursorResult)
    return result.rowcount
