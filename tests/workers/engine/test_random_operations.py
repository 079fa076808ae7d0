"""Random graphs of operations: whatever is cut is proven and predicted."""

import random
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

from app.domain.prune import Prune
from tests.workers.engine.zoo import cut_units, randomise
from tests.workers.engine.zoo_ops import numbers
from workers.engine import apply, count, predict, prove

Step = Callable[[random.Random, Any, list[Any]], Any]
"""Gets a tensor (batch, positions, channels) and all there are; gives another one."""


def like(r: random.Random, x: Any, pool: list[Any], axis: int) -> Any:
    """A tensor that has as many along an axis."""
    return r.choice([y for y in pool if y.shape[axis] == x.shape[axis]])


def halves(x: Any) -> list[Any]:
    return list(ops.split(x, 2 if x.shape[2] % 2 == 0 else [1], axis=-1))


def shuffled(x: Any) -> Any:
    half = x.shape[2] // 2
    grid = ops.reshape(x[..., : 2 * half], (-1, x.shape[1], 2, half))
    return ops.reshape(ops.swapaxes(grid, 2, 3), (-1, x.shape[1], 2 * half))


def attended(x: Any) -> Any:
    length, each = x.shape[1], x.shape[2] // 2
    q = ops.reshape(x[..., : 2 * each], (-1, length, 2, each))
    scores = ops.softmax(ops.einsum("bqhd,bkhd->bhqk", q, q))
    return ops.reshape(ops.einsum("bhqk,bkhd->bqhd", scores, q), (-1, length, 2 * each))


STEPS: tuple[Step, ...] = (
    lambda r, x, pool: layers.Dense(r.choice([4, 6, 8, 12]))(x),
    lambda r, x, pool: layers.Conv1D(r.choice([4, 6]), 1)(x),
    lambda r, x, pool: layers.LayerNormalization()(x),
    lambda r, x, pool: x * numbers(x.shape[2]) + numbers(x.shape[1], 1),
    lambda r, x, pool: r.choice([ops.add, ops.multiply, ops.maximum])(x, ops.sin(x)),
    lambda r, x, pool: ops.concatenate([x, like(r, x, pool, 1)], axis=2),
    lambda r, x, pool: ops.concatenate([x, like(r, x, pool, 2)], axis=1),
    lambda r, x, pool: ops.matmul(x, ops.swapaxes(like(r, x, pool, 2), 1, 2)),
    lambda r, x, pool: r.choice(halves(x)),
    lambda r, x, pool: x[..., : r.randint(1, x.shape[2])],
    lambda r, x, pool: x[..., -r.randint(1, x.shape[2]) :],
    lambda r, x, pool: x[..., :: 1 + (x.shape[2] % 2 == 0)],
    lambda r, x, pool: ops.flip(x, axis=r.choice([1, 2])),
    lambda r, x, pool: ops.swapaxes(x, 1, 2),
    lambda r, x, pool: ops.take(x, [r.randrange(x.shape[2]) for _ in range(5)], axis=2),
    lambda r, x, pool: ops.pad(x, ((0, 0), (0, 0), (r.randrange(2), r.randrange(2)))),
    lambda r, x, pool: ops.repeat(x, 2, axis=r.choice([1, 2])),
    lambda r, x, pool: ops.stack([x, ops.tanh(x)], axis=2)[:, :, r.randrange(2)],
    lambda r, x, pool: ops.normalize(x - ops.mean(x, axis=-1, keepdims=True), axis=-1),
    lambda r, x, pool: shuffled(x) if x.shape[2] > 1 else x,
    lambda r, x, pool: attended(x) if x.shape[2] > 1 else x,
    lambda r, x, pool: ops.reshape(x, (-1, x.shape[1] * x.shape[2], 1)),
)


def grown(seed: int) -> Any:
    r, i = random.Random(seed), keras.Input((4, 5))
    pool = [layers.Dense(8)(i)]
    for _ in range(r.randint(2, 8)):
        made = r.choice(STEPS)(r, r.choice(pool), pool)
        if 0 < np.prod(made.shape[1:]) < 500:
            pool.append(made)
    return randomise(keras.Model(i, [layers.Dense(2)(layers.Flatten()(x)) for x in pool[-2:]]))


NOTHING_TO_CUT = (11, 21)
"""Seeds of graphs all of whose units an output or an order needs."""


@pytest.mark.parametrize("seed", [seed for seed in range(24) if seed not in NOTHING_TO_CUT])
def test_whatever_is_cut_is_proven(seed: int) -> None:
    model = grown(seed)
    prune = Prune.model_validate({"target": {"kind": "fraction", "remove": 0.6}})
    cut = cut_units(model, prune, seed=seed)
    reduced = apply(model, cut)
    assert prove(model, reduced, cut, seed=seed).holds
    assert predict(model, cut) == count(reduced)
