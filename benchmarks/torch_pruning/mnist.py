"""Secateur beside Torch-Pruning 1.6.1 on MNIST: `python -m benchmarks.torch_pruning.mnist`.

Both sides get the same trained LeNet-5 and ten epochs of training. Torch-Pruning is asked for a
share of its MACs, and Secateur, in one REST call with default settings, for the share that this
came to, since each side rounds its own way. The ONNX files are timed in turns in one process. The
last line reads `ahead on N of M`.
"""

import argparse
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.comparison import Row, print_sum, print_table
from benchmarks.digits import asked_for
from benchmarks.environments import interpreter
from benchmarks.mnist import channels, ended, prepared, workplace
from benchmarks.torch_pruning.timing import measure
from tests.e2e.service import serve

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
KEEP = 0.17
EPOCHS = 10
"""Of the spec's defaults."""
PAIRS = 300
Found = dict[str, Any]


def ours(folder: Path, files: dict[str, Path], keep: float) -> tuple[Found, Path]:
    """A job's figures, and its ONNX file."""
    with serve(folder / "service") as service:
        data = service.upload_dataset(files["data"], '{"scale": 0.00392156862745098}')
        spec = {
            "model": service.upload_model(files["lenet_5"])["id"],
            "dataset": data["id"],
            "prune": channels(keep),
            "exports": ["keras", "onnx"],
        }
        job = service.submit(spec)
        metrics, minutes = ended(service, job)
        return metrics | {"minutes": minutes}, service.download(job, "model.onnx", folder)


def original(folder: Path, files: dict[str, Path]) -> Path:
    """The network before pruning, as ONNX."""
    import keras

    from workers.exports.formats import write

    file = write(keras.models.load_model(files["lenet_5"]), "onnx", folder)
    return file.rename(folder / "dense.onnx")


def theirs(folder: Path, files: dict[str, Path]) -> Found:
    """The other side's figures; its file is in the folder."""
    import keras

    model = keras.models.load_model(files["lenet_5"])
    start = folder / "lenet_5_weights.npz"
    np.savez(start, **{f"w{place}": one for place, one in enumerate(model.get_weights())})
    done = subprocess.run(
        [
            *(interpreter(HERE, ".venv-torch"), "-m", "benchmarks.torch_pruning.mnist_side"),
            *(start, files["data"], folder, "--keep", str(KEEP), "--epochs", str(EPOCHS)),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    found: Found = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def main() -> None:
    """Both sides, one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="keeps networks and files")
    asked = asked_for(parser)
    if asked is None:
        return
    interpreter(HERE, ".venv-torch")
    with workplace(None if asked.folder is None else asked.folder.absolute()) as folder:
        files = prepared(folder, asked.data)
        dense = original(folder, files)
        other = theirs(folder, files)
        mine, file = ours(folder, files, other["macs"] / other["macs_before"])
        pairs = [(str(dense), other["onnx"]), (str(dense), str(file))]
        report(mine, other, measure(PAIRS, pairs), Path(other["onnx"]), file)


def report(mine: Found, other: Found, timed: list[Any], their_file: Path, my_file: Path) -> None:
    """The table and its last line."""
    after, before = mine["after"], mine["before"]
    error = 1.0 - after["evaluation"]["accuracy"]["value"]
    shares = other["macs"] / other["macs_before"], after["macs"] / before["macs"]
    rows = [
        Row("error on test digits", 1.0 - other["accuracy"], error, "{:.2%}"),
        Row("share of the MACs", *shares, "{:.3f}", level=0.01),
        Row("parameters", other["parameters"], after["parameters"], "{:,}"),
        Row("bytes of ONNX", their_file.stat().st_size, my_file.stat().st_size, "{:,}"),
        Row("ms of one sample", timed[0]["after_ms"], timed[1]["after_ms"], "{:.4f}"),
        Row(
            "times faster than before",
            *(pair["speed_up"] for pair in timed),
            "{:.2f}x",
            less=False,
        ),
    ]
    print_table("LeNet-5 on MNIST", "Torch-Pruning 1.6.1", rows)
    print(
        f"\nBefore: error {1.0 - other['accuracy_before']:.2%} there, "
        f"{1.0 - before['evaluation']['accuracy']['value']:.2%} here. Pruning and training: "
        f"{other['minutes']:.1f} min there, {mine['minutes']:.1f} min for the whole job here."
    )
    print_sum(rows)


if __name__ == "__main__":
    main()
