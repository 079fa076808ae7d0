"""The client that blocks."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from app.client import calls, outcome, specs, wording
from app.client.drivers import Driver, settings
from app.client.progress import Show, shown
from app.client.resources import Artifact, Dataset, JobState, Model, SweepState
from app.client.specs import Spec
from app.domain.analysis import ModelAnalysis
from app.domain.job import Event, Status
from app.domain.metrics import Plan


class Secateur:
    """One service.

    Args:
        url: its address; else that in `SECATEUR_URL`, else http://127.0.0.1:8000.
        key: an API key; else that in `SECATEUR_API_KEY`.

    All methods raise the `SecateurError` that the service tells of, or `Unreachable`. Requests are
    tried again while the service is busy or the connection breaks, and carried out once.
    """

    def __init__(self, url: str | None = None, key: str | None = None) -> None:
        self._driver = Driver(httpx.Client(**settings(url, key)))
        self.url = str(self._driver.http.base_url).rstrip("/")
        self.models = Models(self._driver)
        self.datasets = Datasets(self._driver)
        self.jobs = Jobs(self._driver)
        self.sweeps = Sweeps(self._driver)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._driver.http.close()

    def analyse(self, model: Model | str | Path) -> ModelAnalysis:
        """What each layer of a model could lose; an id, or a path that is uploaded first."""
        return self._driver.run(calls.analyse(model))

    def validate(self, spec: Spec) -> Plan:
        """What a spec would cut. Nothing is queued."""
        return self._driver.run(calls.validate(spec))

    def prune(
        self,
        model: Model | str | Path,
        data: Dataset | str | Path | None = None,
        *,
        sparsity: float | None = None,
        units: float | None = None,
        channels: float | None = None,
        macs: float | None = None,
        max_drop: float | None = None,
        epochs: int = 10,
        exports: tuple[str, ...] | list[str] = (),
        data_options: Mapping[str, Any] | None = None,
        progress: bool | Show = True,
    ) -> "Job":
        """Submit a job with one goal; paths are uploaded first.

        Args:
            model: a model, its id or its path.
            data: a data set, its id or its path.
            sparsity: share of the weights to set to zero.
            units: share of the Dense units to remove.
            channels: share of all channels to remove.
            macs: share of the multiply-accumulates to keep.
            max_drop: points of accuracy that may be lost; as small as possible otherwise.
            epochs: of fine-tuning, with data.
            exports: files beside the Keras model: litert, onnx, …
            data_options: how to read data that are uploaded.
            progress: whether to show a bar of the uploads, or a function that is told.
        """
        goals = {
            "sparsity": sparsity,
            "units": units,
            "channels": channels,
            "macs": macs,
            "max_drop": max_drop,
        }
        trained = epochs if data is not None else None
        spec = specs.towards(goals, epochs=trained, exports=exports)
        with shown("Uploading", progress) as seen:
            flow = calls.prune(model, data, data_options, spec)
            return Job(self._driver, self._driver.run(flow, seen))


class Models:
    """Uploaded models."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def upload(self, path: str | Path, *, progress: bool | Show = True) -> Model:
        """Send a .keras or .h5 file; large ones go on after a break."""
        with shown(Path(path).name, progress) as seen:
            return self._driver.run(calls.upload_model(path), seen)

    def get(self, id_: str) -> Model:
        """Look at one."""
        return self._driver.run(calls.get(Model, f"/v1/models/{id_}"))

    def list(self, limit: int | None = None) -> list[Model]:
        """Newest first."""
        return self._driver.run(calls.listed(Model, "/v1/models", limit))

    def delete(self, id_: str) -> None:
        """Refused while a job needs it."""
        self._driver.run(calls.delete(f"/v1/models/{id_}"))


class Datasets:
    """Uploaded data sets."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def upload(
        self,
        path: str | Path,
        options: Mapping[str, Any] | None = None,
        *,
        progress: bool | Show = True,
    ) -> Dataset:
        """Send an .npz, .csv, .parquet or .zip file; large ones go on after a break."""
        with shown(Path(path).name, progress) as seen:
            return self._driver.run(calls.upload_dataset(path, options), seen)

    def get(self, id_: str) -> Dataset:
        """Look at one."""
        return self._driver.run(calls.get(Dataset, f"/v1/datasets/{id_}"))

    def list(self, limit: int | None = None) -> list[Dataset]:
        """Newest first."""
        return self._driver.run(calls.listed(Dataset, "/v1/datasets", limit))

    def delete(self, id_: str) -> None:
        """Refused while a job needs it."""
        self._driver.run(calls.delete(f"/v1/datasets/{id_}"))


class Jobs:
    """Jobs of the key's owner."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def submit(self, spec: Spec) -> "Job":
        """Queue a job."""
        return Job(self._driver, self._driver.run(calls.submit(spec)))

    def get(self, id_: str) -> "Job":
        """Look at one."""
        return Job(self._driver, self._driver.run(calls.get(JobState, f"/v1/jobs/{id_}")))

    def list(self, limit: int | None = None, status: Status | str | None = None) -> "list[Job]":
        """Newest first."""
        flow = calls.listed(JobState, "/v1/jobs", limit, status=status)
        return [Job(self._driver, state) for state in self._driver.run(flow)]


class Job:
    """A job; `state` is how it stood when it was last asked for."""

    def __init__(self, driver: Driver, state: JobState) -> None:
        self._driver = driver
        self.state = state

    def __repr__(self) -> str:
        return f"<Job {self.id}: {self.state.status}>"

    @property
    def id(self) -> str:
        """Its id."""
        return self.state.id

    def refresh(self) -> JobState:
        """Ask how it stands now."""
        self.state = self._driver.run(calls.get(JobState, f"/v1/jobs/{self.id}"))
        return self.state

    def wait(self, timeout: float | None = None, *, progress: bool | Show = True) -> "Result":
        """Wait until it has succeeded, also while the service restarts.

        Args:
            timeout: seconds.
            progress: True for a bar in terminals and notebooks, or a function that is handed each
                `JobState`.

        Raises:
            JobFailed, JobCancelled: how else it ended.
            TimeoutError: it has not ended in time; it goes on.
        """
        with shown(self.id, progress) as seen:

            def keep(state: JobState) -> None:
                self.state = state
                seen(state)

            self._driver.run(calls.wait(self.id, timeout), keep)
        return Result(self._driver, self.state)

    def result(self) -> "Result":
        """What it came to. Raises as `wait` does, and `InvalidRequest` before the end."""
        return Result(self._driver, calls.succeeded(self.refresh()))

    def events(self, after: int = 0, *, follow: bool = True) -> Iterator[Event]:
        """What happens to it, as it happens, each once, until it has ended.

        Args:
            after: number of the last event that is known.
            follow: False for those that there are.
        """
        return self._driver.iterate(calls.events(self.id, after, follow))

    def logs(self, *, follow: bool = False) -> Iterator[str]:
        """Its events as lines. (The artifact log.txt has what its process printed.)"""
        return map(wording.line, self.events(follow=follow))

    def cancel(self) -> JobState:
        """Ask it to stop, which takes a moment."""
        self.state = self._driver.run(calls.act(JobState, f"/v1/jobs/{self.id}/cancel"))
        return self.state

    def retry(self) -> JobState:
        """Run a failed or cancelled job again, from its last checkpoint."""
        flow = calls.act(JobState, f"/v1/jobs/{self.id}/retry", repeatable=False)
        self.state = self._driver.run(flow)
        return self.state

    def delete(self) -> None:
        """Delete it and its files, once it has ended."""
        self._driver.run(calls.delete(f"/v1/jobs/{self.id}"))

    def artifacts(self) -> list[Artifact]:
        """Its files, once it has ended; a failed job has its log."""
        return self._driver.run(calls.artifacts(self.id))

    def download(self, name: str, to: str | Path = ".") -> Path:
        """Fetch a file into a folder or to a path; its SHA-256 is checked."""
        return self._driver.run(calls.download(f"/v1/jobs/{self.id}/artifacts", name, to))


class Result(outcome.Outcome):
    """What a succeeded job came to."""

    def __init__(self, driver: Driver, state: JobState) -> None:
        super().__init__(state)
        self.job = Job(driver, state)

    def download(self, name: str, to: str | Path = ".") -> Path:
        """Fetch a file into a folder or to a path; its SHA-256 is checked."""
        return self.job.download(name, to)

    def artifacts(self) -> list[Artifact]:
        """Its files."""
        return self.job.artifacts()

    def model(self) -> Any:
        """The pruned model, a `keras.Model`. Needs Keras in this process."""
        with outcome.Loading() as folder:
            return outcome.load(self.download("model.keras", folder))


class Sweeps:
    """Sweeps of the key's owner."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def submit(self, spec: Spec) -> "Sweep":
        """Queue a job for each spec of a list, or each combination of a grid."""
        return Sweep(self._driver, self._driver.run(calls.submit_sweep(spec)))

    def get(self, id_: str) -> "Sweep":
        """Look at one."""
        return Sweep(self._driver, self._driver.run(calls.get(SweepState, f"/v1/sweeps/{id_}")))

    def list(self, limit: int | None = None) -> "list[Sweep]":
        """Newest first."""
        flow = calls.listed(SweepState, "/v1/sweeps", limit)
        return [Sweep(self._driver, state) for state in self._driver.run(flow)]


class Sweep:
    """A sweep; `state` is how it stood when it was last asked for."""

    def __init__(self, driver: Driver, state: SweepState) -> None:
        self._driver = driver
        self.state = state

    def __repr__(self) -> str:
        return f"<Sweep {self.id}: {self.state.share:.0%}>"

    @property
    def id(self) -> str:
        """Its id."""
        return self.state.id

    def wait(self, timeout: float | None = None, *, progress: bool | Show = True) -> SweepState:
        """Wait until all of its jobs have ended, however. Raises `TimeoutError`."""
        with shown(self.id, progress) as seen:

            def keep(state: SweepState) -> None:
                self.state = state
                seen(state)

            self._driver.run(calls.wait_sweep(self.id, timeout), keep)
        return self.state

    def cancel(self) -> SweepState:
        """Stop all of its jobs that have not ended."""
        self.state = self._driver.run(calls.act(SweepState, f"/v1/sweeps/{self.id}/cancel"))
        return self.state

    def retry(self) -> SweepState:
        """Run its failed and cancelled jobs again."""
        flow = calls.act(SweepState, f"/v1/sweeps/{self.id}/retry", repeatable=False)
        self.state = self._driver.run(flow)
        return self.state

    def delete(self) -> None:
        """Delete it with its jobs and their files."""
        self._driver.run(calls.delete(f"/v1/sweeps/{self.id}"))

    def download(self, name: str, to: str | Path = ".") -> Path:
        """Fetch table.csv, plot.svg or plot.png into a folder or to a path."""
        return self._driver.run(calls.save(f"/v1/sweeps/{self.id}/{name}", name, to))
