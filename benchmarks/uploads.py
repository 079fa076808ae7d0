"""A gigabyte by tus through connections that are cut, against the same in one request.

`python -m benchmarks.uploads [GIB]` starts a service, installs the client of `benchmarks/tus` from
npm (node is needed for this alone) and prints a Markdown table. With `--bucket` the service's store
is a bucket of a test server, which keeps everything in memory: that measures Secateur's own part.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psutil

from tests.cutting import cutting
from tests.e2e.service import Service, serve
from tests.servers import s3

GIB = 1024**3
MIB = 1024**2
CLIENT = Path(__file__).parent / "tus"
CUTS = 10


def main() -> None:
    """Measure, print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("gib", type=float, nargs="?", default=1.0)
    parser.add_argument("--bucket", action="store_true")
    asked = parser.parse_args()
    subprocess.run(["npm", "ci", "--silent"], cwd=CLIENT, check=True)
    with tempfile.TemporaryDirectory(prefix="secateur-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        file = _made(folder / "big.npz", int(asked.gib * GIB))
        settings: dict[str, str] = {}
        if asked.bucket:
            endpoint = stack.enter_context(s3())
            os.environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
            settings = {"STORE_URL": "s3://secateur/bench", "STORE_ENDPOINT": endpoint}
        service = stack.enter_context(serve(folder / "service", **settings))
        print("| What | Seconds | Growth of the API's resident memory |\n|---|---|---|")
        for what, act in (("One request", _post), (f"tus, {CUTS} connections cut", _tus)):
            api = psutil.Process(service.process.pid)
            peak, before = _Peak(api), api.memory_info().rss
            told = act(service, file)
            growth = (peak.stop() - before) / MIB
            print(f"| {what} | {told} | {growth:.0f} MiB |", flush=True)


def _made(file: Path, size: int) -> Path:
    samples = size // 4096
    with file.open("wb") as target:
        x = np.random.default_rng(0).integers(0, 255, (samples, 64, 64), dtype=np.uint8)
        np.savez(target, x=x, y=np.arange(samples) % 10)
    return file


def _post(service: Service, file: Path) -> str:
    began = time.perf_counter()
    with file.open("rb") as content:
        answer = service.http.post(
            "/v1/datasets", files={"file": (file.name, content)}, timeout=600
        )
    assert answer.status_code == 201, answer.text
    return f"{time.perf_counter() - began:.1f}"


def _tus(service: Service, file: Path) -> str:
    said = json.dumps({"kind": "dataset", "filename": file.name})
    address = urlsplit(service.url)
    target = (str(address.hostname), int(address.port or 80))
    began = time.perf_counter()
    with cutting(target, file.stat().st_size // (CUTS + 2), CUTS) as network:
        done = subprocess.run(
            [
                *("node", str(CLIENT / "upload.mjs")),
                *(f"http://127.0.0.1:{network.port}/v1/uploads", str(file), said),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode or not done.stdout:
        raise SystemExit(f"The client did not finish: {done.stderr}\n{service.log()}")
    assert network.cuts_left == 0
    sent = time.perf_counter() - began
    told = json.loads(done.stdout)
    found = _ended(service, told["url"].rsplit("/", 1)[-1])
    assert found["state"] == "ready", found["error"]
    data = service.http.get(f"/v1/datasets/{found['dataset']}").json()
    assert data["bytes"] == file.stat().st_size
    whole = time.perf_counter() - began
    print(f"went on {told['retries']} times", file=sys.stderr)
    return f"{sent:.1f} until the last byte, {whole:.1f} until it was read"


def _ended(service: Service, id_: str) -> dict[str, Any]:
    def found() -> dict[str, Any] | None:
        said = dict(service.http.get(f"/v1/uploads/{id_}").json())
        return said if said["done"] else None

    return dict(service.until(found, "the upload to be read"))


class _Peak:
    """Largest resident memory of a process while it is looked at."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self._largest = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._stop.wait(0.02) and self._process.is_running():
            self._largest = max(self._largest, self._process.memory_info().rss)

    def stop(self) -> int:
        self._stop.set()
        self._thread.join()
        return self._largest


if __name__ == "__main__":
    main()
