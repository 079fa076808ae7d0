"""The Python client: `Secateur`, and `AsyncSecateur` for asyncio.

    from app.client import Secateur

    with Secateur() as secateur:
        job = secateur.prune("model.keras", "data.npz", max_drop=1, exports=["litert"])
        result = job.wait()
        print(*result.verdict, sep="\\n")
        model = result.model()

Errors are the classes of `app.domain.errors`, whose base is `SecateurError`.
"""

from app.client.asynchronous import AsyncSecateur
from app.client.errors import (
    Damaged,
    InvalidRequest,
    JobCancelled,
    JobFailed,
    RequestFailed,
    Unreachable,
)
from app.client.sync import Job, Result, Secateur, Sweep
from app.domain.errors import (
    Busy,
    Conflict,
    DatasetMismatch,
    Forbidden,
    InvalidDataset,
    InvalidModel,
    InvalidSpec,
    NotFound,
    SecateurError,
    Unauthenticated,
    Unavailable,
)

__all__ = [
    "AsyncSecateur",
    "Busy",
    "Conflict",
    "Damaged",
    "DatasetMismatch",
    "Forbidden",
    "InvalidDataset",
    "InvalidModel",
    "InvalidRequest",
    "InvalidSpec",
    "Job",
    "JobCancelled",
    "JobFailed",
    "NotFound",
    "RequestFailed",
    "Result",
    "Secateur",
    "SecateurError",
    "Sweep",
    "Unauthenticated",
    "Unavailable",
    "Unreachable",
]
