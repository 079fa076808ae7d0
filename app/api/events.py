"""/v1/jobs/{id}/events"""

import re
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.sse import format_sse_event

from app.api.context import Context, Ctx
from app.api.forms import JobId
from app.api.problems import responses
from app.domain.base import Record
from app.domain.errors import InvalidParameter
from app.domain.job import Event
from app.services import events

router = APIRouter(prefix="/v1", tags=["jobs"], responses=responses(422, 503))

PING_SECONDS = 10.0
KEY_CHECK_SECONDS = 10.0
"""How long a stream outlives the key that opened it."""
DIGITS = 15
NUMBER = re.compile(rf"[0-9]{{1,{DIGITS}}}")
RETRY_MILLISECONDS = 1000


class EventPage(Record):
    """Events as a page."""

    items: list[Event]
    done: bool
    """True when the job has ended and no event will follow these."""


@router.get(
    "/jobs/{job_id}/events",
    summary="Follow a job",
    response_model=EventPage,
    responses=responses(404)
    | {
        200: {
            "description": "Server-Sent Events, or one JSON page with `Accept: application/json`.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        }
    },
)
async def follow_job(
    request: Request,
    ctx: Ctx,
    job_id: JobId,
    after: Annotated[
        int, Query(ge=0, lt=10**DIGITS, description="Only events with a higher id.")
    ] = 0,
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID")] = None,
) -> Any:
    """What happens to the job, as it happens; the stream ends with the job.

    A client that was cut off reconnects with `Last-Event-ID` (browsers do so by themselves) or
    `?after=`, and misses nothing. A stream ends soon after the key that opened it. Kinds: queued,
    running, phase, cut, epoch, evaluation, progress, checkpoint, note, cancel_requested, and the
    way it ended.
    """
    job_id = await to_thread.run_sync(ctx.examples.ensure, job_id)
    last = max(after, _number(last_event_id))
    accept = request.headers.get("accept", "")
    if "application/json" in accept and "text/event-stream" not in accept:
        return await to_thread.run_sync(_json_page, ctx, job_id, last)
    await to_thread.run_sync(ctx.jobs.get, job_id)
    return StreamingResponse(
        _stream(ctx, job_id, last),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


def _number(last_event_id: str | None) -> int:
    if not last_event_id:
        return 0
    if not NUMBER.fullmatch(last_event_id):
        raise InvalidParameter(
            f"Last-Event-ID is {last_event_id[:40]!r}; expected the number of an event.",
            field="Last-Event-ID",
        )
    return int(last_event_id)


def _json_page(ctx: Context, job_id: str, last: int) -> JSONResponse:
    # The status is read first: events written between the two reads only make the page longer.
    done = ctx.jobs.get(job_id).done
    found = events.after(ctx.database, job_id, last)
    body = EventPage(items=list(found), done=done and len(found) < 500)
    return JSONResponse(body.model_dump(mode="json"), headers={"Cache-Control": "no-store"})


async def _stream(ctx: Context, job_id: str, last: int) -> AsyncIterator[bytes]:
    yield format_sse_event(retry=RETRY_MILLISECONDS, comment="Secateur")
    looked_at_key = time.monotonic()
    pause = min(PING_SECONDS, KEY_CHECK_SECONDS)
    while True:
        if time.monotonic() - looked_at_key >= KEY_CHECK_SECONDS:
            looked_at_key = time.monotonic()
            if not await to_thread.run_sync(ctx.keys.still_opens, ctx.jobs.caller):
                yield format_sse_event(comment="the key is no longer valid")
                return
        done = await to_thread.run_sync(ctx.jobs.has_ended, job_id)
        found = await to_thread.run_sync(events.after, ctx.database, job_id, last)
        for event in found:
            last = event.id
            yield format_sse_event(
                id=str(event.id), event=event.kind, data_str=event.model_dump_json()
            )
        if done and not found:
            return
        if not found and not await ctx.watch.changed(job_id, last, pause):
            yield format_sse_event(comment="ping")
