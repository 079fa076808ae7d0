"""Every error that Secateur raises on purpose.

SecateurError
├── InvalidInput            the request cannot be carried out as it stands
│   ├── InvalidSpec
│   ├── InvalidModel
│   ├── InvalidDataset
│   ├── DatasetMismatch
│   ├── InvalidUpload
│   ├── InvalidWebhook
│   └── InvalidParameter
├── Unauthenticated         no key, or one that is not valid
├── Forbidden               the key, or the page that asks, may not do this
├── NotFound
├── Conflict                the request is right, the moment is not
│   ├── InUse
│   ├── WrongState
│   ├── WrongOffset
│   ├── TooManyWebhooks
│   └── IdempotencyConflict
├── TooLarge
├── UnsupportedMediaType
├── ProtocolVersion         another version of tus than 1.0
├── ChecksumMismatch        what came is not what was sent
├── StorageFull             the owner has no room left
├── TooSlow                 the request's body comes too slowly
├── Busy                    more at once, or per minute, than one owner may ask for
│   ├── TooManyRequests
│   ├── TooManyUploads
│   └── TooManyJobs
├── RangeNotSatisfiable
├── Unavailable             try again later
│   └── QueuesFull
└── JobError                how one attempt of a job ended badly
    ├── EngineRefusal
    ├── OutOfMemory
    ├── TimeLimitReached
    ├── ResourceLimitReached
    ├── ForbiddenOperation
    ├── Unconfined
    ├── ChildCrashed
    ├── AttemptsExhausted
    └── InternalError

An error is a sentence: what was expected, what was received, what to do. It knows no HTTP;
`app.api.problems` maps each class to a status in one table.
"""

from typing import Any, ClassVar


class SecateurError(Exception):
    """Base of all errors.

    Args:
        detail: one or more sentences for the user.
        field: dotted path of the field at fault in what the user sent, where there is one.
        errors: further findings, each `{"field": …, "detail": …}`.
    """

    slug: ClassVar[str] = "error"
    title: ClassVar[str] = "Something went wrong"
    fault: ClassVar[str] = "service"
    retryable: ClassVar[bool] = False
    retry_after_seconds: float | None = None
    """When the same request is worth another try."""

    def __init__(
        self,
        detail: str,
        *,
        field: str | None = None,
        errors: tuple[dict[str, str], ...] = (),
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.field = field
        self.errors = errors
        if retry_after_seconds is not None:
            self.retry_after_seconds = retry_after_seconds

    def as_problem(self) -> dict[str, Any]:
        """RFC 9457 members, without the HTTP status."""
        problem: dict[str, Any] = {
            "type": f"/problems/{self.slug}",
            "title": self.title,
            "detail": self.detail,
            "fault": self.fault,
            "retryable": self.retryable,
        }
        if self.field is not None:
            problem["field"] = self.field
        if self.errors:
            problem["errors"] = list(self.errors)
        return problem


class InvalidInput(SecateurError):
    """The request cannot be carried out as it stands."""

    slug = "invalid-input"
    title = "The request cannot be carried out as it stands"
    fault = "client"


class InvalidSpec(InvalidInput):
    """The job spec is not understood, or contradicts the model or the data set."""

    slug = "invalid-spec"
    title = "The job spec is not valid"


class InvalidModel(InvalidInput):
    """The uploaded file is not a Keras model that can be pruned."""

    slug = "invalid-model"
    title = "The model cannot be used"


class InvalidDataset(InvalidInput):
    """The uploaded file is not a data set that can be read."""

    slug = "invalid-dataset"
    title = "The data set cannot be used"


class DatasetMismatch(InvalidInput):
    """Data set and model do not fit each other."""

    slug = "dataset-mismatch"
    title = "The data set does not fit the model"


class InvalidUpload(InvalidInput):
    """The request body is not the multipart upload that was expected."""

    slug = "invalid-upload"
    title = "The upload is not valid"


class InvalidWebhook(InvalidInput):
    """The webhook names a URL that is not asked, or events that there are not."""

    slug = "invalid-webhook"
    title = "The webhook is not valid"


class InvalidParameter(InvalidInput):
    """A path, query or header parameter is wrong."""

    slug = "invalid-parameter"
    title = "A parameter is not valid"


class Unauthenticated(SecateurError):
    """No API key came with the request, or one that is not valid."""

    slug = "unauthenticated"
    title = "A valid API key is needed"
    fault = "client"


class Forbidden(SecateurError):
    """The API key does not allow this, or the request comes from a foreign web page."""

    slug = "forbidden"
    title = "This is not allowed"
    fault = "client"


class NotFound(SecateurError):
    """There is no such resource."""

    slug = "not-found"
    title = "There is no such resource"
    fault = "client"


class Conflict(SecateurError):
    """The request is right, the moment is not."""

    slug = "conflict"
    title = "The request conflicts with the resource's state"
    fault = "client"


class WrongOffset(Conflict):
    """A piece of an upload does not begin where the upload ends, or another went on with it."""

    slug = "wrong-offset"
    title = "The upload goes on elsewhere"
    retryable = True


class ProtocolVersion(SecateurError):
    """The client does not say that it speaks tus 1.0.0."""

    slug = "protocol-version"
    title = "The protocol's version is missing or not supported"
    fault = "client"


class UnsupportedMediaType(SecateurError):
    """The body is of another type than is expected here."""

    slug = "unsupported-media-type"
    title = "The body has another type than is expected here"
    fault = "client"


class ChecksumMismatch(SecateurError):
    """A piece of an upload was damaged on its way."""

    slug = "checksum-mismatch"
    title = "The checksum is not that of what came"
    fault = "client"
    retryable = True


class InUse(Conflict):
    """The resource is needed by jobs that have not ended."""

    slug = "in-use"
    title = "The resource is in use"


class WrongState(Conflict):
    """The job's status does not allow this."""

    slug = "wrong-state"
    title = "The job's status does not allow this"


class TooManyWebhooks(Conflict):
    """The owner has as many webhooks as one owner may have."""

    slug = "too-many-webhooks"
    title = "There are too many webhooks"


class IdempotencyConflict(Conflict):
    """An Idempotency-Key was used before with another request."""

    slug = "idempotency-conflict"
    title = "The idempotency key was used for another request"


class TooLarge(SecateurError):
    """The upload is over a limit."""

    slug = "too-large"
    title = "The upload is too large"
    fault = "client"


class StorageFull(SecateurError):
    """The owner stores as much as one owner may."""

    slug = "storage-full"
    title = "There is no room left"


class TooSlow(SecateurError):
    """The body of the request comes too slowly."""

    slug = "too-slow"
    title = "The request came too slowly"
    fault = "client"
    retryable = True


class Busy(SecateurError):
    """More at once than one owner may ask for."""

    slug = "busy"
    title = "Too much at once"
    fault = "client"
    retryable = True
    retry_after_seconds = 30.0


class TooManyRequests(Busy):
    """More requests in a minute than one owner may send."""

    slug = "too-many-requests"
    title = "Too many requests"


class TooManyJobs(Busy):
    """More jobs wait than one owner may have waiting."""

    slug = "too-many-jobs"
    title = "Too many jobs wait"


class TooManyUploads(Busy):
    """More uploads are unfinished than one owner may have."""

    slug = "too-many-uploads"
    title = "Too many uploads are unfinished"


class RangeNotSatisfiable(SecateurError):
    """The Range header asks for bytes that are not there."""

    slug = "range-not-satisfiable"
    title = "The range cannot be satisfied"
    fault = "client"


class Unavailable(SecateurError):
    """A part of the service does not answer right now."""

    slug = "unavailable"
    title = "A part of the service is not available"
    retryable = True
    retry_after_seconds = 2.0


class QueuesFull(Unavailable):
    """As many jobs wait as the whole service lets wait."""

    slug = "queues-full"
    title = "The service's queues are full"
    retry_after_seconds = 30.0


class JobError(SecateurError):
    """How one attempt of a job ended badly."""

    slug = "job-failed"
    title = "The job failed"


class EngineRefusal(JobError):
    """The engine cannot do what was asked with this model."""

    slug = "engine-refusal"
    title = "The model cannot be pruned as asked"
    fault = "client"


class OutOfMemory(JobError):
    """The job needed more memory than a job may use."""

    slug = "out-of-memory"
    title = "The job ran out of memory"
    fault = "client"


class TimeLimitReached(JobError):
    """The job ran longer than its time limit."""

    slug = "time-limit"
    title = "The job reached its time limit"
    fault = "client"
    retryable = True


class ResourceLimitReached(JobError):
    """The job wanted more disk, larger files, or more threads or open files than a job may have."""

    slug = "resource-limit"
    title = "The job reached a limit of what a job may use"
    fault = "client"


class ForbiddenOperation(JobError):
    """The job's process tried what jobs may not: network, programs, processes, other files."""

    slug = "forbidden-operation"
    title = "The job tried what jobs may not do"
    fault = "client"


class Unconfined(JobError):
    """The worker cannot confine jobs, so it runs none."""

    slug = "unconfined"
    title = "The worker cannot confine jobs"
    retryable = True


class ChildCrashed(JobError):
    """The job's process died."""

    slug = "crashed"
    title = "The job's process crashed"
    retryable = True


class AttemptsExhausted(JobError):
    """The job's worker was lost too often."""

    slug = "attempts-exhausted"
    title = "The job was given up after too many attempts"
    retryable = True


class InternalError(JobError):
    """A defect of Secateur, or of a library below it."""

    slug = "internal"
    title = "Secateur failed"
    retryable = True


def error_classes(
    root: type[SecateurError] = SecateurError,
) -> tuple[type[SecateurError], ...]:
    """The whole tree below and including `root`, depth first."""
    found: list[type[SecateurError]] = [root]
    for child in root.__subclasses__():
        found.extend(error_classes(child))
    return tuple(found)
