"""What can go wrong for a client, beside the errors that the service itself tells of.

The service's problems come back as the classes of `app.domain.errors`, by their slug: what a
`NotFound` is on one side is a `NotFound` on the other.
"""

from typing import TYPE_CHECKING, Any

import httpx

from app.domain.errors import JobError, SecateurError, error_classes

if TYPE_CHECKING:
    from app.client.resources import JobState


class RequestFailed(SecateurError):
    """The service answered with what is no problem that this client knows."""

    slug = "request-failed"
    title = "The request failed"
    fault = "client"


class Unreachable(RequestFailed):
    """No answer came, also after some tries."""

    slug = "unreachable"
    title = "The service does not answer"
    fault = "service"
    retryable = True


class Damaged(RequestFailed):
    """The bytes that came are not those that were sent."""

    slug = "damaged"
    title = "The transfer was damaged on the way"
    fault = "service"
    retryable = True


class InvalidRequest(RequestFailed):
    """The client was asked for what cannot be sent."""

    slug = "invalid-request"
    title = "This cannot be sent"


class JobFailed(JobError):
    """The job that was waited for has failed."""

    slug = "job-has-failed"
    title = "The job failed"

    def __init__(self, state: "JobState", reason: SecateurError) -> None:
        super().__init__(f"Job {state.id} failed: {reason.detail}", field=reason.field)
        self.state = state
        self.reason = reason
        """Which error it was: an `OutOfMemory`, a `TimeLimitReached`, …"""


class JobCancelled(JobError):
    """The job that was waited for was cancelled."""

    slug = "job-was-cancelled"
    title = "The job was cancelled"
    fault = "client"

    def __init__(self, state: "JobState") -> None:
        super().__init__(f"Job {state.id} was cancelled.")
        self.state = state


def error_of(problem: dict[str, Any]) -> SecateurError:
    """The error that a problem [RFC 9457] tells of; `RequestFailed` of a kind that is not known."""
    by_type = {f"/problems/{each.slug}": each for each in error_classes()}
    kind = by_type.get(str(problem.get("type")), RequestFailed)
    if issubclass(kind, JobFailed | JobCancelled):
        kind = RequestFailed
    return kind(
        str(problem.get("detail") or problem.get("title") or "The service gave no reason."),
        field=problem.get("field"),
        errors=tuple(problem.get("errors") or ()),
    )


def failure(answer: httpx.Response) -> SecateurError:
    """The error that an answer tells of. Its body has been read."""
    try:
        problem = answer.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict) or "detail" not in problem:
        error: SecateurError = RequestFailed(
            f"{answer.request.method} {answer.request.url} was answered by {answer.status_code} "
            f"without a reason that could be read: {answer.text[:200]!r}. Is this a Secateur?"
        )
    else:
        error = error_of(problem)
    asked = answer.headers.get("retry-after", "")
    if asked.isdigit():
        error.retry_after_seconds = float(asked)
    return error


def unreachable(error: httpx.TransportError, what: str = "") -> Unreachable:
    """No answer, and why."""
    url = error.request.url
    place = f"{url.scheme}://{url.netloc.decode('ascii')}"
    return Unreachable(
        f"{what}No answer from {place} ({type(error).__name__}: {error}). Is the service running? "
        "`secateur serve` starts one; SECATEUR_URL or --server says where it is."
    )
