"""/v1/capabilities: what this service can do, read off the types that validate specs."""

from typing import Annotated, Any, get_args, get_origin

from fastapi import APIRouter
from pydantic import BaseModel

from app.api.context import Ctx
from app.api.problems import responses
from app.domain import criteria, prune, recovery, spec
from app.domain.base import Record
from app.services.workers import WorkerConfinement, living

router = APIRouter(prefix="/v1", tags=["service"])

EXPORTS = {
    "keras": "model.keras: a plain Keras 3 model, no custom objects.",
    "h5": "model.h5: the legacy HDF5 format, for tools that still ask for it.",
    "sparse_npz": "model.sparse.npz: the model with each variable's zeros left out; numpy reads it "
    "with the 30 lines of docs/sparse.md.",
    "litert": "model.tflite: LiteRT (TensorFlow Lite), float32.",
    "litert_sparse": "model_sparse.tflite: LiteRT, float32, zeros left out of the file; LiteRT's "
    "sparse kernels skip them in Dense layers pruned in blocks of shape [4, 1].",
    "litert_float16": "model_float16.tflite: LiteRT, weights of 16 bits; half the bytes.",
    "litert_dynamic_int8": "model_dynamic_int8.tflite: LiteRT, weights of 8 bits, activations are "
    "rounded as they come; a quarter of the bytes.",
    "litert_int8": "model_int8.tflite: LiteRT, weights and activations of 8 bits, ranges told by "
    "training samples; inputs and outputs stay float32.",
    "onnx": "model.onnx: ONNX opset 17, float32; checked on ONNX Runtime.",
    "onnx_int8": "model_int8.onnx: ONNX, weights and activations of 8 bits (QDQ), ranges told by "
    "training samples; inputs and outputs stay float32.",
    "saved_model": "model.saved_model.zip: TensorFlow's SavedModel, zipped, for TF Serving.",
}
RUNTIMES = {
    "keras": "The model's compiled TensorFlow function, all threads.",
    "litert": "LiteRT with XNNPACK, one thread or all.",
    "litert_sparse": "LiteRT on sparse files (export litert_sparse).",
    "onnxruntime": "ONNX Runtime on the CPU, one thread or all.",
}


class Capability(Record):
    """One choice."""

    kind: str
    description: str
    settings: dict[str, Any] = {}
    """JSON Schema of its settings, beside `kind`."""


class Capabilities(Record):
    """All choices, and the limits."""

    granularities: list[Capability]
    criteria: list[Capability]
    targets: list[Capability]
    scopes: list[Capability]
    schedules: list[Capability]
    optimizers: list[Capability]
    learning_rate_schedules: list[Capability]
    losses: list[str]
    metrics: list[str]
    runtimes: list[Capability]
    exports: list[Capability]
    model_formats: list[str]
    dataset_formats: list[str]
    limits: dict[str, float]
    confinement: list[WorkerConfinement]
    """What each worker heard of within a minute confines jobs by."""


def _variants(union: Any) -> list[Capability]:
    """The members of a discriminated union, described by their docstrings."""
    if get_origin(union) is Annotated:
        return _variants(get_args(union)[0])
    return [_variant(member) for member in get_args(union)]


def _variant(member: type[BaseModel]) -> Capability:
    properties = dict(member.model_json_schema()["properties"])
    properties.pop("kind")
    return Capability(
        kind=member.model_fields["kind"].default,
        description=" ".join((member.__doc__ or "").split()),
        settings=properties,
    )


def _named(choices: dict[str, str]) -> list[Capability]:
    return [Capability(kind=kind, description=said) for kind, said in choices.items()]


@router.get("/capabilities", summary="What this service can do", responses=responses(503))
def capabilities(ctx: Ctx) -> Capabilities:
    """Granularities, criteria, targets, schedules, exports and limits, each described."""
    return Capabilities(
        granularities=_variants(prune.Granularity),
        criteria=_variants(criteria.Criterion),
        targets=_variants(prune.Target),
        scopes=_named(
            {
                "layer": "The share holds in every layer.",
                "global": "All layers compete; some lose more than others.",
                "isomorphic": "Layers of like structure compete among themselves.",
                "latency": "Layers compete, and units that cost more time go sooner.",
                "sensitivity": "Each layer loses what costs as much as any other's share, as found "
                "by cutting each alone.",
            }
        ),
        schedules=_variants(spec.Schedule),
        optimizers=_variants(recovery.Optimizer),
        learning_rate_schedules=_variants(recovery.Rate),
        losses=list(get_args(recovery.LossName)),
        metrics=list(get_args(recovery.MetricName)),
        runtimes=_named(RUNTIMES),
        exports=_named(EXPORTS),
        model_formats=[".keras", ".h5", ".hdf5"],
        dataset_formats=[".npz", ".csv", ".parquet", ".zip of images in class folders"],
        limits={
            "upload_bytes": ctx.settings.upload_limit_bytes,
            "job_seconds": ctx.settings.job_time_limit_seconds,
            "job_memory_bytes": ctx.settings.job_memory_bytes,
            "job_disk_bytes": ctx.settings.job_disk_bytes,
            "attempts": ctx.settings.max_attempts,
            "stored_bytes": ctx.settings.quota_stored_bytes,
            "queued_jobs": ctx.settings.quota_queued_jobs,
            "running_jobs": ctx.settings.quota_running_jobs,
            "queued_jobs_of_all": ctx.settings.queued_jobs_limit,
            "priority": ctx.settings.highest_priority,
        },
        confinement=living(ctx.database),
    )
