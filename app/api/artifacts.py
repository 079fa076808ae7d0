"""/v1/jobs/{id}/artifacts"""

from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.api.context import Ctx
from app.api.downloads import download
from app.api.forms import FileName, JobId
from app.api.problems import responses
from app.domain.base import Record

router = APIRouter(prefix="/v1", tags=["jobs"], responses=responses(422, 503))


class ArtifactResource(Record):
    """A file to download."""

    name: str
    bytes: int
    sha256: str
    media_type: str
    expires_at: datetime | None = None
    """It is deleted then, with its job; null where it is kept."""
    url: str


@router.get("/jobs/{job_id}/artifacts", summary="List a job's files", responses=responses(404))
def list_artifacts(ctx: Ctx, job_id: JobId) -> list[ArtifactResource]:
    """Empty until the job has ended; a failed job has its log."""
    job_id = ctx.examples.ensure(job_id)
    expires_at = ctx.jobs.get(job_id).expires_at
    return [
        ArtifactResource(
            expires_at=expires_at,
            name=file.name,
            bytes=file.bytes,
            sha256=file.sha256,
            media_type=file.media_type,
            url=f"/v1/jobs/{job_id}/artifacts/{file.name}",
        )
        for file in ctx.jobs.artifacts(job_id)
    ]


FILE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    },
    206: {"description": "The bytes that the Range header asked for."},
    304: {"description": "The client's copy, named by If-None-Match, is current."},
}


@router.get(
    "/jobs/{job_id}/artifacts/{name}",
    summary="Download a file",
    response_class=Response,
    responses=responses(404, 416) | FILE,
)
def get_artifact(request: Request, ctx: Ctx, job_id: JobId, name: FileName) -> Response:
    """With Range, ETag (the SHA-256) and Repr-Digest: model.keras, metrics.json, report.html, …"""
    job_id = ctx.examples.ensure(job_id)
    return download(request, ctx.store, ctx.jobs.artifact(job_id, name))


@router.head("/jobs/{job_id}/artifacts/{name}", include_in_schema=False)
def head_artifact(request: Request, ctx: Ctx, job_id: JobId, name: FileName) -> Response:
    """Headers of the download."""
    job_id = ctx.examples.ensure(job_id)
    return download(request, ctx.store, ctx.jobs.artifact(job_id, name))
