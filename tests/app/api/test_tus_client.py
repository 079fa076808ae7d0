"""A tus client that people use (tus-js-client), through connections that are cut."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.app.api.conftest import Api
from tests.app.api.test_resumable import ended
from tests.cutting import cutting

CLIENT = Path(__file__).parents[3] / "benchmarks" / "tus"
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program that uploads; skipped where it cannot be had: Secateur itself needs no node."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed: no tus client from npm to test with")
    folder = tmp_path_factory.mktemp("tus") / "client"
    shutil.copytree(CLIENT, folder, ignore=shutil.ignore_patterns("node_modules"))
    done = subprocess.run(
        ["npm", "ci", "--silent", "--prefer-offline"], cwd=folder, capture_output=True, timeout=120
    )
    if done.returncode:
        pytest.skip(f"npm could not install the tus client: {done.stderr.decode()[-300:]}")
    return folder / "upload.mjs"


def test_a_file_arrives_whole_through_cut_connections(
    api: Api, client: Path, tmp_path: Path
) -> None:
    samples = np.random.default_rng(0).integers(0, 255, (6000, 32, 32), dtype=np.uint8)
    file = tmp_path / "d.npz"
    np.savez(file, x=samples, y=np.arange(6000) % 10)
    said = {"kind": "dataset", "filename": file.name, "options": json.dumps({"scale": 1 / 255})}
    with cutting(api.address, after_bytes=MIB, cuts=5) as network:
        endpoint = f"http://127.0.0.1:{network.port}/v1/uploads"
        command = ["node", str(client), endpoint, str(file), json.dumps(said)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, env={"PATH": os.environ["PATH"]}
        )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["retries"] >= 1
    assert network.cuts_left == 0
    found = ended(api, "/v1/uploads/" + told["url"].rsplit("/", 1)[-1])
    assert found["state"] == "ready", found["error"]
    data = api.get(f"/v1/datasets/{found['dataset']}").json()
    assert data["bytes"] == file.stat().st_size
    assert data["splits"]["train"]["samples"] == 6000
