"""The README's walk is run as it stands, against a service on a free port."""

import os
import re
import subprocess
from pathlib import Path

import keras
import numpy as np

from tests.e2e.service import SECATEUR, Service

ROOT = Path(__file__).parents[2]


def blocks() -> list[str]:
    return re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def test_the_walk_with_curl(service: Service, tmp_path: Path) -> None:
    walk, prune = blocks()
    script = walk.replace("URL=http://127.0.0.1:8000", f"URL={service.url}")
    script += prune.replace(".venv/bin/secateur", str(SECATEUR))
    assert service.url in script
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "120"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "event: succeeded" in done.stdout
    assert "On held-out data: accuracy" in done.stdout
    model = keras.models.load_model(tmp_path / "model.keras")
    assert [layer.units for layer in model.layers] == [64, 32, 10]
    sparse = keras.models.load_model(tmp_path / "sparse.keras")
    kernels = [layer.kernel.numpy() for layer in sparse.layers]
    before = keras.models.load_model(tmp_path / "digits.keras", compile=False)
    weights = sum(int(np.prod(layer.kernel.shape)) for layer in before.layers)
    # Dead units are gone, some with weights that were left.
    assert sum(int(np.count_nonzero(kernel)) for kernel in kernels) <= weights - round(
        0.9 * weights
    )
    assert (tmp_path / "model.tflite").stat().st_size > 1000
    assert "Pruning report" in (tmp_path / "report.html").read_text()


def test_the_command_line_says_what_is_wrong(service: Service, tmp_path: Path) -> None:
    broken = tmp_path / "broken.keras"
    broken.write_bytes(b"PK\x03\x04 but no archive")
    done = subprocess.run(
        [SECATEUR, "prune", broken, "--units", "0.5", "--server", service.url],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("secateur: ")
    assert "Traceback" not in done.stderr
