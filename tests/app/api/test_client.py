"""The Python client against the real API: broken connections, hashes, events, lists."""

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from app.client import (
    AsyncSecateur,
    Damaged,
    InvalidModel,
    InvalidRequest,
    InvalidSpec,
    JobCancelled,
    JobFailed,
    NotFound,
    Secateur,
    flows,
    uploading,
)
from app.client.resources import Sent
from app.domain.errors import OutOfMemory
from app.domain.job import Status
from app.domain.spec import PruningSpec
from app.services import lifecycle
from app.services.examples import MODEL_FILE
from tests.app.api.conftest import SPEC, Api
from tests.app.api.test_downloads import CONTENT, SIZE, damaged
from tests.cutting import cutting

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def secateur(api: Api) -> Iterator[Secateur]:
    with Secateur(str(api.base_url)) as client:
        yield client


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks are mended at once."""
    for module in (flows, uploading, "app.client.downloading", "app.client.following"):
        name = module if isinstance(module, str) else module.__name__
        monkeypatch.setattr(f"{name}.backoff", lambda _: 0.01)


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of 18 MB, which goes in pieces."""
    samples = np.random.default_rng(0).integers(0, 255, (6000, 32, 32, 3), dtype=np.uint8)
    file = tmp_path_factory.mktemp("big") / "big.npz"
    np.savez(file, x=samples, y=np.arange(6000) % 10)
    assert file.stat().st_size > 2 * uploading.WHOLE_BYTES
    return file


# --- uploads -----------------------------------------------------------------------------------
@pytest.mark.usefixtures("quick")
def test_a_large_file_arrives_whole_through_cut_connections(api: Api, big: Path) -> None:
    seen: list[Sent] = []
    with cutting(api.address, after_bytes=5 * MIB, cuts=3) as network:
        with Secateur(f"http://127.0.0.1:{network.port}") as client:
            data = client.datasets.upload(big, {"scale": 1 / 255}, progress=seen.append)
        assert network.cuts_left == 0
    assert data.sha256 == hashlib.sha256(big.read_bytes()).hexdigest()
    assert data.splits["train"].samples == 6000
    sent = [each.sent for each in seen]
    assert sent == sorted(sent)
    assert sent[-1] == big.stat().st_size


@pytest.mark.usefixtures("quick")
def test_the_asynchronous_client_does_the_same(api: Api, big: Path) -> None:
    async def upload(port: int) -> tuple[Any, list[str]]:
        async with AsyncSecateur(f"http://127.0.0.1:{port}") as client:
            data = await client.datasets.upload(big, {"scale": 1 / 255})
            return data, [each.id for each in await client.datasets.list()]

    with cutting(api.address, after_bytes=5 * MIB, cuts=3) as network:
        data, listed = asyncio.run(upload(network.port))
        assert network.cuts_left == 0
    assert data.sha256 == hashlib.sha256(big.read_bytes()).hexdigest()
    assert data.id in listed


def test_a_piece_that_was_damaged_is_sent_again(
    secateur: Secateur, big: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploading, "backoff", lambda _: 0.0)
    send, damage = httpx.Client.send, [b"!"]

    def damaging(client: httpx.Client, request: httpx.Request, **more: Any) -> httpx.Response:
        if request.method == "PATCH" and damage:
            content = damage.pop() + request.content[1:]
            request = client.build_request(
                "PATCH", request.url, headers=request.headers, content=content
            )
        return send(client, request, **more)

    monkeypatch.setattr(httpx.Client, "send", damaging)
    data = secateur.datasets.upload(big)
    assert not damage
    assert data.sha256 == hashlib.sha256(big.read_bytes()).hexdigest()


@pytest.mark.parametrize("whole_bytes", [uploading.WHOLE_BYTES, 4], ids=["whole", "in pieces"])
def test_a_file_that_is_no_model_is_refused_as_such(
    secateur: Secateur, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole_bytes: int
) -> None:
    monkeypatch.setattr(uploading, "WHOLE_BYTES", whole_bytes)
    broken = tmp_path / "broken.keras"
    broken.write_bytes(b"PK\x03\x04 but no archive")
    with pytest.raises(InvalidModel) as refused:
        secateur.models.upload(broken)
    assert refused.value.slug == "invalid-model"


def test_a_file_that_is_not_there(secateur: Secateur) -> None:
    with pytest.raises(InvalidRequest, match=r"nowhere\.keras cannot be read: No such file"):
        secateur.models.upload("nowhere.keras")


# --- downloads ---------------------------------------------------------------------------------
@pytest.mark.usefixtures("quick")
def test_a_damaged_file_is_not_kept(api: Api, secateur: Secateur, tmp_path: Path) -> None:
    job = damaged(api, tmp_path, CONTENT[:-1] + b"!").split("/")[3]
    with pytest.raises(Damaged, match="again"):
        secateur.jobs.get(job).download("model.keras", tmp_path / "out" / "m.keras")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.usefixtures("quick")
def test_a_download_goes_on_where_it_broke_off(api: Api, tmp_path: Path) -> None:
    job = api.finished(tmp_path, model_keras=CONTENT)
    with (
        cutting(api.address, after_bytes=SIZE // 3, cuts=2, answers=True) as network,
        Secateur(f"http://127.0.0.1:{network.port}") as client,
    ):
        file = client.jobs.get(job).download("model.keras", f"{tmp_path}/out/")
        assert network.cuts_left == 0
    assert file == tmp_path / "out" / "model.keras"
    assert file.read_bytes() == CONTENT


def test_a_file_that_the_job_has_not(api: Api, secateur: Secateur, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    job = secateur.jobs.get(api.finished(tmp_path / "x", model_keras=b"1"))
    assert [file.name for file in job.artifacts()] == ["model.keras"]
    with pytest.raises(NotFound, match="has no artifact"):
        job.download("none", tmp_path / "none")
    with pytest.raises(InvalidRequest, match="no name of a file"):
        job.download("../model.keras", tmp_path)


# --- jobs --------------------------------------------------------------------------------------
@pytest.mark.parametrize("typed", [False, True], ids=["dictionary", "type"])
def test_a_spec_may_be_a_dictionary_or_a_type(secateur: Secateur, typed: bool) -> None:
    job = secateur.jobs.submit(PruningSpec.model_validate(SPEC) if typed else SPEC)
    assert job.state.spec["prune"]["target"] == {"kind": "fraction", "remove": 0.5}
    assert job.id in [each.id for each in secateur.jobs.list(limit=5, status="queued")]
    assert job.cancel().status is Status.CANCELLED
    with pytest.raises(JobCancelled):
        job.wait(progress=False)
    job.delete()
    with pytest.raises(NotFound):
        job.refresh()


def test_a_wrong_spec_says_the_field(secateur: Secateur) -> None:
    with pytest.raises(InvalidSpec) as refused:
        secateur.jobs.submit(SPEC | {"prune": {"target": {"kind": "fraction", "remove": 90}}})
    assert refused.value.field == "prune.target.remove"
    assert refused.value.as_problem()["type"] == "/problems/invalid-spec"


def test_more_than_a_page_is_listed(secateur: Secateur, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.client.calls.PAGE", 2)
    made = [secateur.jobs.submit(SPEC).id for _ in range(5)]
    # The example's job, where a test has asked for it, is the first by its name.
    listed = [job.id for job in secateur.jobs.list(limit=6) if job.id != "job_example"]
    assert listed[:5] == made[::-1]
    assert len(secateur.jobs.list()) >= 5


def test_waiting_ends_with_its_time(secateur: Secateur) -> None:
    job = secateur.jobs.submit(SPEC)
    seen: list[Any] = []
    with pytest.raises(TimeoutError, match="goes on"):
        job.wait(timeout=0.3, progress=seen.append)
    assert {state.status for state in seen} == {Status.QUEUED}


def test_a_failed_job_says_why(api: Api, secateur: Secateur) -> None:
    job = secateur.jobs.get(api.job())
    attempt = api.attempt(job.id)
    error = OutOfMemory("8 GiB were not enough.")
    lifecycle.finish(api.context.database, attempt, Status.FAILED, error=error.as_problem())
    with pytest.raises(JobFailed, match="not enough") as failed:
        job.wait(progress=False)
    assert isinstance(failed.value.reason, OutOfMemory)
    lines = list(job.logs(follow=True))
    assert [line.split()[1].rstrip(":") for line in lines] == ["queued", "running", "failed"]


def test_a_model_is_uploaded_listed_and_deleted(secateur: Secateur) -> None:
    model = secateur.models.upload(MODEL_FILE)
    assert model.parameters == 17_226
    assert model.id in [each.id for each in secateur.models.list(limit=10)]
    assert secateur.models.get(model.id) == model
    secateur.models.delete(model.id)
    with pytest.raises(NotFound):
        secateur.models.get(model.id)
