"""Jobs end once, whatever dies; and cancelling is quick."""

import io
import signal
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import h5py
import psutil
import pytest
import redis

from tests.e2e.service import Service, serve


def long_job(uploaded: dict[str, Any], epochs: int = 2000) -> dict[str, Any]:
    """Many epochs; patience is as long."""
    return {
        "model": uploaded["cnn"],
        "dataset": uploaded["data"],
        "prune": {"target": {"kind": "fraction", "remove": 0.5}},
        "fine_tune": {"epochs": epochs, "early_stopping": None},
        "evaluate": {"latency": None},
    }


def test_cancel_stops_a_running_job(service: Service, uploaded: dict[str, Any]) -> None:
    id_ = service.submit(long_job(uploaded))
    service.wait_for_event(id_, "epoch")
    asked = time.monotonic()
    assert service.http.post(f"/v1/jobs/{id_}/cancel").status_code == 202
    job = service.wait(id_)
    assert job["status"] == "cancelled"
    # Two seconds are promised; the bound leaves room for a busy machine.
    assert time.monotonic() - asked < 10
    assert service.http.post(f"/v1/jobs/{id_}/cancel").status_code == 202
    assert service.events(id_)[-1]["kind"] == "cancelled"
    assert service.http.delete(f"/v1/jobs/{id_}").status_code == 204
    assert service.http.get(f"/v1/jobs/{id_}").status_code == 404


@pytest.fixture(scope="module")
def undisturbed(service: Service, uploaded: dict[str, Any]) -> dict[str, Any]:
    """A job of twelve epochs that nothing happened to."""
    return service.succeed(long_job(uploaded, epochs=12))


def test_a_killed_worker_resumes_from_its_checkpoint_and_ends_once(
    service: Service, uploaded: dict[str, Any], undisturbed: dict[str, Any]
) -> None:
    id_ = service.submit(long_job(uploaded, epochs=12))
    service.wait_for_event(id_, "checkpoint", count=2)
    for process in service.worker_processes():
        process.kill()
    job = service.wait(id_)

    assert job["status"] == "succeeded", job["error"]
    assert job["attempt"] == 2
    assert any("Resumed" in note for note in job["metrics"]["notes"])
    kinds = [event["kind"] for event in service.events(id_)]
    assert kinds.count("succeeded") == 1
    assert kinds.count("running") == 2
    epochs = [figure["epoch"] for figure in job["metrics"]["history"]]
    assert epochs == list(range(1, 13))
    assert job["metrics"]["after"]["evaluation"] == undisturbed["metrics"]["after"]["evaluation"], (
        "a resumed job must end as an undisturbed one"
    )
    assert weights(service, id_) == weights(service, undisturbed["id"])


def weights(service: Service, job: str) -> dict[str, bytes]:
    """All numbers of a job's model, by their names in the file: to be compared to the last bit."""
    answer = service.http.get(f"/v1/jobs/{job}/artifacts/model.keras")
    assert answer.status_code == 200, answer.text
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        content = io.BytesIO(archive.read("model.weights.h5"))
    found: dict[str, bytes] = {}

    def keep(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item[()].tobytes()

    with h5py.File(content) as file:
        file.visititems(keep)
    assert found
    return found


def test_a_stopped_zombie_cannot_overwrite_the_result(
    service: Service, uploaded: dict[str, Any]
) -> None:
    id_ = service.submit(long_job(uploaded, epochs=8))
    service.wait_for_event(id_, "epoch")
    zombies = service.worker_processes()
    for process in zombies:
        process.suspend()
    try:
        # Another worker takes over: started by hand, since the suspended one is not dead.
        with second_worker(service):
            service.until(lambda: service.job(id_)["attempt"] == 2, "the second attempt")
            job = service.wait(id_)
    finally:
        for process in zombies:
            process.resume()
    before = service.http.get(f"/v1/jobs/{id_}/artifacts").json()
    service.succeed(long_job(uploaded, epochs=1))
    assert job["status"] == "succeeded"
    assert service.job(id_) == job
    assert service.http.get(f"/v1/jobs/{id_}/artifacts").json() == before
    assert [e["kind"] for e in service.events(id_)].count("succeeded") == 1


def second_worker(service: Service) -> Any:
    import os
    import subprocess
    from contextlib import contextmanager

    from tests.e2e.service import SECATEUR

    @contextmanager
    def running() -> Any:
        process = subprocess.Popen(
            [SECATEUR, "worker", "--queue", "jobs"],
            env=os.environ
            | {
                "SECATEUR_DATA_DIR": str(service.data_dir),
                "SECATEUR_BROKER_URL": f"redis+socket://{service.data_dir / 'run/valkey.sock'}",
                "SECATEUR_LEASE_SECONDS": "4",
            },
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait(timeout=60)

    return running()


def test_a_flushed_broker_loses_no_job(service: Service, uploaded: dict[str, Any]) -> None:
    busy = service.submit(long_job(uploaded))
    service.wait_for_event(busy, "epoch")
    waiting = service.submit(long_job(uploaded, epochs=1))
    broker = redis.Redis.from_url(service.broker_url())
    broker.flushall()
    broker.close()
    service.http.post(f"/v1/jobs/{busy}/cancel")
    assert service.wait(waiting)["status"] == "succeeded"


def test_a_killed_broker_is_restarted(service: Service, uploaded: dict[str, Any]) -> None:
    for process in psutil.Process(service.process.pid).children():
        if "valkey" in process.name():
            process.kill()
    service.until(lambda: service.http.get("/readyz").status_code == 200, "the broker")
    assert service.succeed(long_job(uploaded, epochs=1))["attempt"] == 1


def test_ctrl_c_stops_every_process(tmp_path: Path) -> None:
    with serve(tmp_path / "data") as other:
        other.until(lambda: other.template(), "the template of jobs' processes")
        processes = other.processes()
        assert len(processes) >= 6
        other.process.send_signal(signal.SIGINT)
        other.process.wait(timeout=60)
        _, alive = psutil.wait_procs(processes, timeout=10)
        assert not alive


@pytest.mark.parametrize(
    "signal_", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM]
)
def test_the_service_drains_and_stops_every_process(
    tmp_path: Path,
    files: Path,
    signal_: signal.Signals,
    service: Service,
    undisturbed: dict[str, Any],
) -> None:
    expected = weights(service, undisturbed["id"])
    folder = tmp_path / "data"
    with serve(folder) as other:
        ids = {"cnn": other.upload_model(files / "cnn.keras")["id"]}
        ids["data"] = other.upload_dataset(files / "data.npz")["id"]
        id_ = other.submit(long_job(ids, epochs=12))
        other.wait_for_event(id_, "checkpoint")
        processes = other.processes()
        assert len(processes) >= 6
        other.process.send_signal(signal_)
        other.process.wait(timeout=60)
        _, alive = psutil.wait_procs(processes, timeout=10)
        assert not alive
    if signal_ is signal.SIGTERM:
        # What was in the works goes on when the service comes back, as attempt 2 of 4.
        with serve(folder) as other:
            job = other.wait(id_)
            assert job["status"] == "succeeded", job["error"]
            assert any("Resumed" in note for note in job["metrics"]["notes"])
            reasons = [event["data"].get("reason") for event in other.events(id_)]
            assert reasons.count("The worker shut down.") == 1
            assert [figure["epoch"] for figure in job["metrics"]["history"]] == list(range(1, 13))
            assert weights(other, id_) == expected


def test_a_time_limit_ends_the_job(service: Service, uploaded: dict[str, Any]) -> None:
    job = service.wait(service.submit(long_job(uploaded) | {"time_limit_seconds": 3}))
    assert job["status"] == "failed"
    assert job["error"]["type"] == "/problems/time-limit"
    again = service.http.post(f"/v1/jobs/{job['id']}/retry")
    assert again.status_code == 202
    assert again.json()["status"] == "queued"
    service.http.post(f"/v1/jobs/{job['id']}/cancel")
    service.wait(job["id"])


def test_events_survive_a_reconnect(service: Service, uploaded: dict[str, Any]) -> None:
    id_ = service.submit(long_job(uploaded, epochs=6))
    seen: list[int] = []
    last = ""
    for take in (3, 2, 10_000):
        headers = {"Last-Event-ID": last} if last else {}
        with service.http.stream("GET", f"/v1/jobs/{id_}/events", headers=headers) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            taken = 0
            for line in stream.iter_lines():
                if line.startswith("id:"):
                    last = line.removeprefix("id:").strip()
                    seen.append(int(last))
                    taken += 1
                    if taken == take:
                        break
    everything = service.events(id_)
    assert seen == [event["id"] for event in everything] == list(range(1, len(everything) + 1))
    assert everything[0]["kind"] == "queued"
    assert everything[-1]["kind"] == "succeeded"
    shares = [e["data"]["share"] for e in everything if e["kind"] == "progress"]
    assert shares == sorted(shares)


def test_the_api_and_the_workers_parents_never_load_tensorflow(
    service: Service, undisturbed: dict[str, Any]
) -> None:
    assert undisturbed["status"] == "succeeded"

    def loading() -> dict[bool, bool]:
        """Whether any template or job process, and any other process, has TensorFlow loaded."""
        found = {True: False, False: False}
        for process in service.processes():
            try:
                is_child = "workers.template" in process.cmdline()
                loads = any("tensorflow" in region.path for region in process.memory_maps())
            except psutil.AccessDenied:
                # Nobody but root may look into a job's process, and only those are so closed.
                loads = is_child
            except psutil.Error:
                continue  # It has just ended.
            found[is_child] = found[is_child] or loads
        return found

    service.until(lambda: loading()[True], "a template to load TensorFlow")
    assert loading()[False] is False


def test_many_clients_at_once(service: Service, uploaded: dict[str, Any]) -> None:
    """Ten submits with one key make one job."""
    spec = long_job(uploaded, epochs=1)
    ids = []

    def submit() -> None:
        answer = service.http.post("/v1/jobs", json=spec, headers={"Idempotency-Key": "ten"})
        ids.append(answer.json()["id"])

    threads = [threading.Thread(target=submit) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 10
    assert len(set(ids)) == 1
    service.http.post(f"/v1/jobs/{ids[0]}/cancel")
    assert service.wait(ids[0])["status"] == "cancelled"
