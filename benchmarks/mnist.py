"""The literature's networks on MNIST, pruned by the service with default settings but for targets.

`python -m benchmarks.mnist [--only weights|units|curves] [--data ../shared/data/mnist.npz]
[--folder KEEP]`. It trains the starting networks, starts a service, sends it jobs over HTTP, and
holds the answers against the goals. Errors are on the 10,000 test digits, which neither training
nor choosing has seen: the service itself sets 6,000 of the training digits aside for validation.
The last line reads `N of M goals met`.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.digits import asked_for
from tests.e2e.service import Service, serve

BATCH = 128
MINUTES = {"lenet_300_100": 15.0, "lenet_5": 45.0}
"""Of a job, on two cores."""
SHARES = (*(round(0.05 * step, 2) for step in range(1, 20)), 0.97, 0.99)
"""Removed by the curves."""


@dataclass(frozen=True)
class Network:
    """A starting network: how it is trained, and what the literature starts from."""

    title: str
    epochs: int
    seed: int
    error: float
    """Per cent, of the literature's own start; ours must not be worse."""


NETWORKS = {
    "lenet_300_100": Network("LeNet-300-100", 30, 1, 1.64),
    "lenet_5": Network("LeNet-5 (20-50-500)", 12, 0, 0.80),
}
CURVE_EPOCHS = 3
"""Of the network of the curves: trained as the classic experiment did, quickly."""


@dataclass(frozen=True)
class Goal:
    """A job, and what has to be true of its figures."""

    network: str
    title: str
    prune: dict[str, Any]
    most_error: float | None
    """Per cent; None: no more than before."""
    literature: str
    runtimes: tuple[str, ...] = ()
    """On which it has to be faster."""


def weights(times: float) -> dict[str, Any]:
    """One of so many weights stays."""
    return {"granularity": "weight", "target": {"kind": "fraction", "remove": 1.0 - 1.0 / times}}


def channels(keep: float) -> dict[str, Any]:
    """At most this share of the multiply-accumulates stays."""
    return {"granularity": "channel", "target": {"kind": "macs", "keep": keep}}


WEIGHTS = (
    Goal("lenet_300_100", "12x, no loss", weights(12.0), None, "Han 2015: 12x at 1.59 %"),
    Goal("lenet_300_100", "over 68x", weights(68.5), 1.92, "Sparse VD 2017: 68x at 1.92 %"),
    Goal("lenet_5", "12x, no loss", weights(12.0), None, "Han 2015: 12x at 0.77 %"),
    Goal("lenet_5", "over 280x", weights(281.0), 0.90, "Sparse VD 2017: 280x at 0.75 %"),
)
FAST = ("litert", "onnxruntime")
UNITS = (
    # 266-88-33, its 266 inputs counted: 26,642 of 266,200 MACs. Inputs stay here.
    Goal("lenet_300_100", "10.0 % of the MACs", channels(0.1), 1.8, "L0 2018: 1.8 %", FAST),
    # 9-18-65-25: 390,675 of 2,293,000 MACs.
    Goal("lenet_5", "17.0 % of the MACs", channels(0.17), 1.0, "L0 2018: 1.0 %", FAST),
)


# --- networks ----------------------------------------------------------------------------------
def classic() -> Any:
    """784-1000-1000-500-200-10 without biases."""
    import keras

    inputs = keras.Input((28, 28, 1))
    x = keras.layers.Flatten()(inputs)
    for units in (1000, 1000, 500, 200):
        x = keras.layers.Dense(units, activation="relu", use_bias=False)(x)
    return keras.Model(inputs, keras.layers.Dense(10, activation="softmax", use_bias=False)(x))


def train(make: Callable[[], Any], epochs: int, seed: int, digits: Any, path: Path) -> None:
    """Adam with a cosine from 0.001 to 0, batches of 128, all 60,000 digits; nothing else."""
    import keras

    keras.utils.set_random_seed(seed)
    model = make()
    x, y = digits["x_train"].astype("float32") / 255.0, digits["y_train"]
    steps = epochs * -(-len(x) // BATCH)
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-3, steps)),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        steps_per_execution=32,
        jit_compile=False,
    )
    model.fit(x, y, batch_size=BATCH, epochs=epochs, verbose=0)
    model.save(path)


def prepared(folder: Path, data: Path) -> dict[str, Path]:
    """The data set and the starting networks; what is there already stays."""
    from benchmarks.fit import lenet_5, lenet_300_100

    with np.load(data, allow_pickle=False) as stored:
        digits = {f"{kind}_{split}": stored[f"{kind}_{split}"] for kind in "xy" for split in SPLITS}
    for split in SPLITS:
        digits[f"x_{split}"] = digits[f"x_{split}"][..., None]
    found = {"data": folder / "mnist.npz", "classic": folder / "classic.keras"}
    if not found["data"].exists():
        np.savez(found["data"], **digits)
    makers = {"lenet_300_100": lenet_300_100, "lenet_5": lenet_5}
    for name, network in NETWORKS.items():
        found[name] = folder / f"{name}.keras"
        if not found[name].exists():
            train(makers[name], network.epochs, network.seed, digits, found[name])
    if not found["classic"].exists():
        train(classic, CURVE_EPOCHS, 0, digits, found["classic"])
    return found


SPLITS = ("train", "test")


# --- jobs --------------------------------------------------------------------------------------
def error(state: dict[str, Any]) -> float:
    """Per cent of the test digits."""
    return round(100.0 * (1.0 - state["evaluation"]["accuracy"]["value"]), 2)


def ended(service: Service, job: str) -> tuple[dict[str, Any], float]:
    """The metrics of a job, and its minutes."""
    started = time.monotonic()
    while not (found := service.job(job))["done"]:
        time.sleep(1.0)
    if found["status"] != "succeeded":
        raise SystemExit(f"{job} {found['status']}: {found['error']}")
    return found["metrics"], (time.monotonic() - started) / 60.0


def reached(goal: Goal, metrics: dict[str, Any], minutes: float) -> tuple[bool, str]:
    """Whether a goal is met, and its line of the table."""
    before, after = metrics["before"], metrics["after"]
    limit = error(before) if goal.most_error is None else goal.most_error
    fair = error(before) <= NETWORKS[goal.network].error
    met = (
        fair
        and error(after) <= limit
        and metrics["target"]["met"]
        and minutes < MINUTES[goal.network]
    )
    if goal.runtimes:
        size = f"{before['macs'] / after['macs']:.1f}x fewer MACs"
        faster = {name: speedup(metrics, name) for name in goal.runtimes}
        met = met and min(faster.values()) > 1.0
        size += "".join(f", {times:.2f}x on {name}" for name, times in faster.items())
    else:
        size = f"{1.0 / (1.0 - metrics['target']['achieved']):.1f}x fewer weights"
    title = NETWORKS[goal.network].title
    return met, (
        f"| {title} | {goal.title}, error at most {limit:.2f} % | {size} | {error(before):.2f} % "
        f"| {error(after):.2f} % | {minutes:.1f} | {goal.literature} | {'yes' if met else 'NO'} |"
    )


def speedup(metrics: dict[str, Any], runtime: str) -> float:
    """How many times faster one sample is."""
    for one in metrics["after"]["latency"]:
        if one["runtime"] == runtime and one["batch_size"] == 1:
            return float(one["speed_up"])
    raise SystemExit(f"nothing was measured on {runtime}: {metrics['notes']}")


def prune(service: Service, ids: dict[str, str], goals: tuple[Goal, ...]) -> Iterator[bool]:
    """Each goal's job, alone on the machine."""
    print("| Network | Goal | Result | Error before | after | Minutes | Literature | Met |")
    print("|---|---|---|---|---|---|---|---|")
    for goal in goals:
        spec: dict[str, Any] = {
            "model": ids[goal.network],
            "dataset": ids["data"],
            "prune": goal.prune,
        }
        if goal.runtimes:
            spec["evaluate"] = {"latency": {"runtimes": list(goal.runtimes)}}
        metrics, minutes = ended(service, service.submit(spec))
        met, line = reached(goal, metrics, minutes)
        print(line, flush=True)
        yield met


# --- curves ------------------------------------------------------------------------------------
def curves(service: Service, ids: dict[str, str], folder: Path) -> Iterator[bool]:
    """The classic experiment by one call, then with fine-tuning by another."""
    for name, fine_tune in (("one-shot", None), ("fine-tuned", {"epochs": 1})):
        base = {
            "model": ids["classic"],
            "dataset": ids["data"],
            "prune": {"criterion": "l2", "target": {"kind": "fraction"}},
            "fine_tune": fine_tune,
            "evaluate": {"latency": None},
        }
        grid = {"prune.granularity": ["weight", "unit"], "prune.target.remove": list(SHARES)}
        started = time.monotonic()
        answer = service.http.post("/v1/sweeps", json={"base": base, "grid": grid, "name": name})
        answer.raise_for_status()
        route = f"/v1/sweeps/{answer.json()['id']}"
        while not (sweep := service.http.get(route).json())["done"]:
            time.sleep(2.0)
        minutes = (time.monotonic() - started) / 60.0
        for kind in ("svg", "png"):
            plot = service.http.get(f"{route}/plot.{kind}")
            plot.raise_for_status()
            (folder / f"{name}.{kind}").write_bytes(plot.content)
        (folder / f"{name}.csv").write_text(service.http.get(f"{route}/table.csv").text)
        print(f"\n{name}: {sweep['counts']} in {minutes:.1f} min; {folder / name}.svg")
        print("| k | weights, accuracy | units, accuracy |\n|---|---|---|")
        half = len(SHARES)
        rows = sweep["jobs"]
        print(f"| 0 % | {accuracy(sweep['before'])} | {accuracy(sweep['before'])} |")
        for share, weight, unit in zip(SHARES, rows[:half], rows[half:], strict=True):
            both = " | ".join(accuracy(one["after"]) for one in (weight, unit))
            print(f"| {share:.0%} | {both} |", flush=True)
        yield sweep["counts"].get("succeeded") == 2 * half


def accuracy(state: dict[str, Any]) -> str:
    """Of the test digits."""
    return f"{state['evaluation']['accuracy']['value']:.4f}"


# --- all ---------------------------------------------------------------------------------------
@contextmanager
def workplace(kept: Path | None) -> Iterator[Path]:
    """A folder, thrown away unless it was named."""
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept
        return
    with tempfile.TemporaryDirectory(prefix="secateur-mnist-") as name:
        yield Path(name)


def main() -> None:
    """Train, start a service, send it everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("weights", "units", "curves"))
    parser.add_argument("--network", choices=tuple(NETWORKS))
    parser.add_argument("--folder", type=Path, help="keeps networks, service and plots")
    asked = asked_for(parser)
    if asked is None:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    met: list[bool] = []
    with workplace(asked.folder) as folder:
        files = prepared(folder, asked.data)
        with serve(folder / "service") as service:
            ids = {
                name: (
                    service.upload_dataset(path, '{"scale": 0.00392156862745098}')
                    if name == "data"
                    else service.upload_model(path)
                )["id"]
                for name, path in files.items()
            }
            for kind, goals in (("weights", WEIGHTS), ("units", UNITS)):
                if asked.only in (None, kind):
                    chosen = tuple(g for g in goals if asked.network in (None, g.network))
                    met += prune(service, ids, chosen)
            if asked.only in (None, "curves"):
                met += curves(service, ids, folder)
    print(f"{sum(met)} of {len(met)} goals met")


if __name__ == "__main__":
    main()
