"""Secateur beside TensorFlow's Model Optimization Toolkit 0.8.1: `python -m benchmarks.tfmot.run`.

Both sides prune the same trained LeNet-300-100 on MNIST to the same share of weights, train for as
many epochs, and write the files that they have. Secateur gets one REST call with default settings.
All models are timed in turns in one process. The last line reads `ahead on N of M`.
"""

import argparse
import gzip
import json
import os
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.comparison import Row, print_sum, print_table
from benchmarks.digits import asked_for
from benchmarks.environments import interpreter
from benchmarks.mnist import ended, prepared, weights, workplace
from tests.e2e.service import serve

HERE = Path(__file__).parent
TIMES = 12.0
"""One of so many weights stays."""
ROUNDS = 400
WARM_UP = 20
Found = dict[str, Any]


def ours(folder: Path, files: dict[str, Path]) -> tuple[Found, dict[str, Path]]:
    """A job's figures, and its files."""
    with serve(folder / "service") as service:
        data = service.upload_dataset(files["data"], '{"scale": 0.00392156862745098}')
        spec = {
            "model": service.upload_model(files["lenet_300_100"])["id"],
            "dataset": data["id"],
            "prune": weights(TIMES),
            "exports": ["keras", "litert", "sparse_npz"],
        }
        job = service.submit(spec)
        metrics, minutes = ended(service, job)
        names = {"keras": "model.keras", "litert": "model.tflite", "sparse": "model.sparse.npz"}
        found = {key: service.download(job, name, folder) for key, name in names.items()}
    return metrics | {"minutes": minutes}, found


def theirs(folder: Path, files: dict[str, Path], epochs: int) -> Found:
    """The toolkit's figures; its files are in the folder."""
    import keras

    model = keras.models.load_model(files["lenet_300_100"])
    start = folder / "weights.npz"
    np.savez(start, **{f"w{place}": one for place, one in enumerate(model.get_weights())})
    model.export(str(folder / "dense.tflite"), format="litert", verbose=False)
    done = subprocess.run(
        [
            *(
                interpreter(HERE, ".venv-tfmot"),
                HERE / "tfmot_side.py",
                start,
                files["data"],
                folder,
            ),
            *("--remove", str(1.0 - 1.0 / TIMES), "--epochs", str(epochs)),
        ],
        capture_output=True,
        text=True,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""},
    )
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    found: Found = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def timed(files: dict[str, Path]) -> dict[str, float]:
    """Milliseconds of one sample on LiteRT with one thread, by file: medians, in turns."""
    from ai_edge_litert.interpreter import Interpreter

    x = np.random.default_rng(0).random((1, 28, 28, 1), dtype=np.float32)
    calls = {}
    for name, file in files.items():
        one = Interpreter(model_path=str(file), num_threads=1)
        one.allocate_tensors()
        one.set_tensor(one.get_input_details()[0]["index"], x)
        calls[name] = one
    found: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(ROUNDS + WARM_UP):
        for name, one in calls.items():
            started = time.perf_counter()
            one.invoke()
            if turn >= WARM_UP:
                found[name].append(time.perf_counter() - started)
    return {name: 1e3 * statistics.median(values) for name, values in found.items()}


def zipped(file: Path) -> int:
    """Bytes after gzip."""
    return len(gzip.compress(file.read_bytes()))


def main() -> None:
    """Both sides, one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="keeps networks and files")
    asked = asked_for(parser)
    if asked is None:
        return
    interpreter(HERE, ".venv-tfmot")
    with workplace(asked.folder) as folder:
        files = prepared(folder, asked.data)
        mine, made = ours(folder, files)
        other = theirs(folder, files, len(mine["history"]))
        models = {
            "dense": folder / "dense.tflite",
            "tfmot": folder / "tfmot.tflite",
            "tfmot_sparse": folder / "tfmot_sparse.tflite",
            "ours": made["litert"],
        }
        ms = timed(models)
        sizes = {name: (file.stat().st_size, zipped(file)) for name, file in made.items()}
        report(mine, other, ms, sizes)


def report(mine: Found, other: Found, ms: dict[str, float], sizes: dict[str, Any]) -> None:
    """The table and its last line."""
    accuracy = mine["after"]["evaluation"]["accuracy"]["value"]
    best = min(ms["tfmot"], ms["tfmot_sparse"])
    files = other["files"]
    smallest = min(packed for _, packed in files.values())
    fewer = other["weights"] / other["nonzero"], 1.0 / (1.0 - mine["target"]["achieved"])
    rows = [
        Row("accuracy", other["accuracy"], accuracy, "{:.4f}", less=False),
        Row("weights, times fewer", *fewer, "{:.1f}x", less=False, level=0.01),
        Row("bytes of .keras", files["tfmot.keras"][0], sizes["keras"][0], "{:,}"),
        Row("… gzipped", files["tfmot.keras"][1], sizes["keras"][1], "{:,}"),
        Row("bytes of LiteRT", files["tfmot.tflite"][0], sizes["litert"][0], "{:,}"),
        Row("… gzipped", files["tfmot.tflite"][1], sizes["litert"][1], "{:,}"),
        Row(
            "bytes of the sparse file",
            files["tfmot_sparse.tflite"][0],
            sizes["sparse"][0],
            "{:,}",
        ),
        Row("smallest file, gzipped", smallest, min(z for _, z in sizes.values()), "{:,}"),
        Row("ms of one sample on LiteRT", best, ms["ours"], "{:.4f}"),
        Row(
            "times faster than dense",
            ms["dense"] / best,
            ms["dense"] / ms["ours"],
            "{:.2f}x",
            less=False,
        ),
    ]
    print_table("LeNet-300-100 on MNIST", "tfmot 0.8.1", rows)
    print(
        f"\nBefore: accuracy {other['accuracy_before']:.4f}, {ms['dense']:.4f} ms. "
        f"{len(mine['history'])} epochs each: {other['minutes']:.1f} and {mine['minutes']:.1f} min."
    )
    print_sum(rows)


if __name__ == "__main__":
    main()
