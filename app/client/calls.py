"""The service's operations as flows, which both clients run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from app.client import downloading, following, uploading
from app.client.errors import JobCancelled, JobFailed, error_of
from app.client.flows import Call, Flow, post, send
from app.client.resources import Artifact, Dataset, JobState, Model, Seen, SweepState
from app.client.specs import Spec, body
from app.domain.analysis import ModelAnalysis
from app.domain.job import Status
from app.domain.metrics import Plan

S = TypeVar("S", bound=Seen)
PAGE = 100


def upload_model(path: str | Path) -> Flow[Model]:
    """`POST /v1/models`, or by tus. Emits `Sent`."""
    return Model.model_validate((yield from uploading.upload("model", path)))


def upload_dataset(path: str | Path, options: Mapping[str, Any] | None) -> Flow[Dataset]:
    """`POST /v1/datasets`, or by tus. Emits `Sent`."""
    return Dataset.model_validate((yield from uploading.upload("dataset", path, options)))


def get(kind: type[S], path: str) -> Flow[S]:
    """A resource."""
    return kind.model_validate((yield from send(Call("GET", path))).json())


def listed(kind: type[S], path: str, limit: int | None, **wanted: Any) -> Flow[list[S]]:
    """Resources, newest first; all of them without a limit."""
    found: list[S] = []
    asked = {name: value for name, value in wanted.items() if value is not None}
    cursor = None
    while limit is None or len(found) < limit:
        asked["limit"] = PAGE if limit is None else min(PAGE, limit - len(found))
        params = asked | ({"cursor": cursor} if cursor else {})
        page = (yield from send(Call("GET", path, params=params))).json()
        found += (kind.model_validate(each) for each in page["items"])
        cursor = page["next_cursor"]
        if cursor is None:
            break
    return found


def delete(path: str) -> Flow[None]:
    """Gone; that it is gone already is told as `NotFound`."""
    yield from send(Call("DELETE", path))


def act(kind: type[S], path: str, *, repeatable: bool = True) -> Flow[S]:
    """`POST …/cancel`, `POST …/retry`."""
    return kind.model_validate((yield from send(Call("POST", path, repeatable=repeatable))).json())


def submit(spec: Spec) -> Flow[JobState]:
    """`POST /v1/jobs`"""
    return JobState.model_validate((yield from send(post("/v1/jobs", json=body(spec)))).json())


def submit_sweep(spec: Spec) -> Flow[SweepState]:
    """`POST /v1/sweeps`"""
    return SweepState.model_validate((yield from send(post("/v1/sweeps", json=body(spec)))).json())


def validate(spec: Spec) -> Flow[Plan]:
    """`POST /v1/specs/validate`"""
    call = Call("POST", "/v1/specs/validate", more={"json": body(spec)})
    return Plan.model_validate((yield from send(call)).json())


def analyse(model: Model | str | Path) -> Flow[ModelAnalysis]:
    """`GET /v1/models/{id}/analysis`; a path is uploaded first."""
    model = yield from _model(model)
    call = Call("GET", f"/v1/models/{model}/analysis")
    return ModelAnalysis.model_validate((yield from send(call)).json())


def prune(
    model: Model | str | Path,
    data: Dataset | str | Path | None,
    data_options: Mapping[str, Any] | None,
    spec: dict[str, Any],
) -> Flow[JobState]:
    """Submit a spec that lacks model and data set; paths are uploaded first. Emits `Sent`."""
    spec = spec | {"model": (yield from _model(model))}
    if data is not None:
        spec["dataset"] = yield from _dataset(data, data_options)
    return (yield from submit(spec))


def _model(model: Model | str | Path) -> Flow[str]:
    if isinstance(model, Model):
        return model.id
    if isinstance(model, str) and model.startswith("mdl_"):
        return model
    return (yield from upload_model(model)).id


def _dataset(data: Dataset | str | Path, options: Mapping[str, Any] | None) -> Flow[str]:
    if isinstance(data, Dataset):
        return data.id
    if isinstance(data, str) and data.startswith("dts_"):
        return data
    return (yield from upload_dataset(data, options)).id


def wait(id_: str, timeout_seconds: float | None) -> Flow[JobState]:
    """The succeeded job. Emits `JobState`.

    Raises:
        JobFailed, JobCancelled: how else it ended.
        TimeoutError: it has not ended in time.
    """
    path = f"/v1/jobs/{id_}"
    return succeeded((yield from following.wait(path, JobState.model_validate, timeout_seconds)))


def wait_sweep(id_: str, timeout_seconds: float | None) -> Flow[SweepState]:
    """The ended sweep. Emits `SweepState`. Raises `TimeoutError`."""
    path = f"/v1/sweeps/{id_}"
    return (yield from following.wait(path, SweepState.model_validate, timeout_seconds))


def succeeded(state: JobState) -> JobState:
    """The same. Raises `JobFailed` or `JobCancelled` where it has ended otherwise."""
    if state.status is Status.FAILED:
        raise JobFailed(state, error_of(state.error or {}))
    if state.status is Status.CANCELLED:
        raise JobCancelled(state)
    return state


def events(id_: str, after: int, follow: bool) -> Flow[None]:
    """Emits `Event`."""
    path = f"/v1/jobs/{id_}/events"
    return following.events(path, after) if follow else following.past(path, after)


def artifacts(id_: str) -> Flow[list[Artifact]]:
    """A job's files."""
    found = (yield from send(Call("GET", f"/v1/jobs/{id_}/artifacts"))).json()
    return [Artifact.model_validate(each) for each in found]


def download(base: str, name: str, to: str | Path) -> Flow[Path]:
    """A file of a job, checked."""
    return (yield from downloading.download(f"{base}/{name}", downloading.target(name, to)))


def save(url: str, name: str, to: str | Path) -> Flow[Path]:
    """What the service makes when asked, such as a sweep's table: there is no hash to check."""
    answer = yield from send(Call("GET", url))
    path = downloading.target(name, to)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(answer.content)
    return path
