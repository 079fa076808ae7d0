"""Seconds of an epoch: plain `model.fit(x, y, batch_size=32)` beside a job's training, in turns.

`python -m benchmarks.fit [--epochs 6] [--data ../shared/data/mnist.npz]`. Both train the same
network from the same weights on the same 50,000 digits; the job's training also validates on 10,000
after each epoch, as it always does. It runs twice: does the same seed give the same weights?
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from app.domain.prune import FractionTarget, Prune
from app.domain.recovery import ConstantRate, FineTune
from app.domain.spec import PruningSpec
from benchmarks.digits import asked_for
from workers import engine
from workers.measure.latency import cores
from workers.training.data import Data, Samples
from workers.training.fine_tune import FineTuner
from workers.training.objective import infer
from workers.training.state import JobState

GOAL = 1.5
HELD_OUT = 10_000


def lenet_300_100() -> Any:
    """Dense layers of 300, 100 and 10."""
    inputs = keras.Input((28, 28, 1))
    x = keras.layers.Flatten()(inputs)
    for units in (300, 100):
        x = keras.layers.Dense(units, activation="relu")(x)
    return keras.Model(inputs, keras.layers.Dense(10, activation="softmax")(x))


def lenet_5() -> Any:
    """Caffe's: convolutions of 20 and 50 filters, a Dense layer of 500."""
    inputs = x = keras.Input((28, 28, 1))
    for filters in (20, 50):
        x = keras.layers.Conv2D(filters, 5, activation="relu")(x)
        x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dense(500, activation="relu")(x)
    return keras.Model(inputs, keras.layers.Dense(10, activation="softmax")(x))


def digits(path: Path) -> Data:
    """MNIST, its last 10,000 training digits for validation."""
    with np.load(path, allow_pickle=False) as stored:
        x, y = stored["x_train"], stored["y_train"]
        test = _samples(stored["x_test"], stored["y_test"])
    return Data(
        train=_samples(x[:-HELD_OUT], y[:-HELD_OUT]),
        validation=_samples(x[-HELD_OUT:], y[-HELD_OUT:]),
        test=test,
    )


def _samples(x: Any, y: Any) -> Samples:
    images = x[..., None].astype("float32") / 255.0
    return Samples({"input": images}, (y.astype("int32"),), len(y))


def fresh(make: Callable[[], Any]) -> Any:
    """A network with the weights that all sides begin with."""
    keras.utils.set_random_seed(0)
    return make()


def plain(make: Callable[[], Any], data: Data) -> tuple[Any, Callable[[], float]]:
    """A user's own training: the model, and what trains it for an epoch and tells the seconds."""
    model = fresh(make)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])

    def epoch() -> float:
        started = time.perf_counter()
        model.fit(data.train.x, data.train.y, batch_size=32, verbose=0)
        return time.perf_counter() - started

    return model, epoch


def ours(make: Callable[[], Any], data: Data, epochs: int, told: Callable[[float], None]) -> Any:
    """A job's training, computed as the spec's defaults have it: the model.

    `told` hears each epoch's seconds.
    """
    model = fresh(make)
    # Alike in what is learned: a constant rate, and the targets alone.
    tuning = FineTune(
        epochs=epochs,
        learning_rate_schedule=ConstantRate(),
        distillation=None,
        early_stopping=None,
    )
    prune = Prune(target=FractionTarget(remove=0.5))
    spec = PruningSpec(model="mdl_fit", dataset="dts_fit", prune=prune, fine_tune=tuning)
    objective = infer(model, None, data.train.targets, spec)
    state = JobState(model=model, progress=engine.begin(model, prune))
    tuner = FineTuner(
        state,
        data,
        objective,
        tuning,
        0,
        lambda *_: None,
        lambda figure: told(figure.seconds),
    )
    tuner.train(epochs, final=True)
    return model


def accuracy(model: Any, data: Data) -> float:
    """On the test digits."""
    guessed = model.predict(data.test.x, batch_size=1000, verbose=0).argmax(axis=1)
    return float((guessed == data.test.targets[0]).mean())


def row(name: str, make: Callable[[], Any], data: Data, epochs: int) -> bool:
    """Print a line of the table; whether the goal is met."""
    theirs, epoch = plain(make, data)
    mine: list[float] = []
    others: list[float] = []

    def in_turns(seconds: float) -> None:
        mine.append(seconds)
        others.append(epoch())

    model = ours(make, data, epochs, in_turns)
    again = ours(make, data, epochs, lambda _: None)
    same = all(map(np.array_equal, model.get_weights(), again.get_weights()))
    # The first epoch of each compiles.
    ratios = [theirs / ours for theirs, ours in zip(others[1:], mine[1:], strict=True)]
    faster = statistics.median(ratios)
    print(
        f"| {name} | {statistics.median(others[1:]):.2f} | {statistics.median(mine[1:]):.2f} "
        f"| {faster:.2f}x ({min(ratios):.2f} to {max(ratios):.2f}) "
        f"| {accuracy(theirs, data):.4f} | {accuracy(model, data):.4f} "
        f"| {'yes' if same else 'NO'} |",
        flush=True,
    )
    return same and faster >= GOAL


def main() -> None:
    """Both networks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=6)
    asked = asked_for(parser)
    if asked is None:
        return
    data = digits(asked.data)
    print(f"{cores()} cores, TensorFlow threads as they come, {asked.epochs} epochs")
    print("| Network | plain fit, s | a job, s | faster | plain accuracy | accuracy | repeats |")
    print("|---|---|---|---|---|---|---|")
    met = [
        row("LeNet-300-100", lenet_300_100, data, asked.epochs),
        row("LeNet-5 (20-50-500)", lenet_5, data, asked.epochs),
    ]
    print(f"{sum(met)} of {len(met)} at least {GOAL}x faster, and exactly repeatable")


if __name__ == "__main__":
    main()
