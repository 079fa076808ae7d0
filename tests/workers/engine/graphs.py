"""Random functional graphs from the layer zoo, and the laws that hold for every one of them."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import keras
from keras import layers

from app.domain.errors import EngineRefusal
from app.domain.prune import Prune
from tests.workers.engine.zoo import randomise
from workers.engine import Counts, apply, choose, count, predict, prove

Draw = Callable[[int], int]
"""A number from 0 to below its argument."""
Step = Callable[[Any, Draw], Any]
REFUSALS = ("can be removed", "no layer or residual block", "can be reached", "remain. Ask")
"""How the engine says that a graph has nothing of a granularity, or cannot meet a target."""
ACTIVATIONS = (None, "relu", "tanh", "gelu", "sigmoid")


def _width(draw: Draw) -> int:
    return (4, 6, 8, 12)[draw(4)]


def _activation(draw: Draw) -> str | None:
    return ACTIVATIONS[draw(len(ACTIVATIONS))]


def _spatial(x: Any) -> int:
    return int(x.shape[1])


# --- images (batch, rows, columns, channels) ---------------------------------------------------
def conv(x: Any, draw: Draw) -> Any:
    size = min(1 + draw(3), _spatial(x))
    padding = ("same", "valid")[draw(2)]
    return layers.Conv2D(_width(draw), size, padding=padding, activation=_activation(draw))(x)


def grouped(x: Any, draw: Draw) -> Any:
    groups = next(g for g in (3, 2, 1) if int(x.shape[-1]) % g == 0)
    return layers.Conv2D(groups * _width(draw), 3, padding="same", groups=groups)(x)


def depthwise(x: Any, draw: Draw) -> Any:
    return layers.DepthwiseConv2D(3, padding="same", depth_multiplier=1 + draw(2))(x)


def separable(x: Any, draw: Draw) -> Any:
    return layers.SeparableConv2D(_width(draw), 3, padding="same", activation=_activation(draw))(x)


def transposed(x: Any, draw: Draw) -> Any:
    return layers.Conv2DTranspose(_width(draw), 2, padding="same")(x)


def pool(x: Any, draw: Draw) -> Any:
    if _spatial(x) < 4:
        return x
    kind = (layers.MaxPooling2D, layers.AveragePooling2D)[draw(2)]
    return layers.ZeroPadding2D(1)(kind(2)(x)) if draw(2) else kind(2)(x)


def squeeze_excite(x: Any, draw: Draw) -> Any:
    channels = int(x.shape[-1])
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(_width(draw), 1, activation="relu")(gate)
    return layers.Multiply()([x, layers.Conv2D(channels, 1, activation="sigmoid")(gate)])


def residual(x: Any, draw: Draw) -> Any:
    y = layers.Conv2D(int(x.shape[-1]), 3, padding="same", activation=_activation(draw))(x)
    return (layers.Add, layers.Maximum, layers.Average)[draw(3)]()([x, y])


def dense_block(x: Any, draw: Draw) -> Any:
    return layers.Concatenate()([x, layers.Conv2D(_width(draw), 3, padding="same")(x)])


def shuffle(x: Any, draw: Draw) -> Any:
    rows, columns, channels = (int(n) for n in x.shape[1:])
    groups = next(g for g in (3, 2, 1) if channels % g == 0)
    y = layers.Reshape((rows, columns, groups, channels // groups))(x)
    return layers.Reshape((rows, columns, channels))(layers.Permute((1, 2, 4, 3))(y))


def to_sequence(x: Any, draw: Draw) -> Any:
    return layers.Reshape((-1, int(x.shape[-1])))(x)


# --- sequences (batch, steps, channels) --------------------------------------------------------
def dense(x: Any, draw: Draw) -> Any:
    return layers.Dense(_width(draw), activation=_activation(draw))(x)


def attend(x: Any, draw: Draw) -> Any:
    attention = layers.MultiHeadAttention(1 + draw(3), 4, value_dim=2 + draw(3))
    return layers.Add()([x, attention(x, x)])


def recurrent(x: Any, draw: Draw) -> Any:
    kind = (layers.LSTM, layers.GRU, layers.SimpleRNN)[draw(3)]
    rnn = kind(_width(draw), return_sequences=True)
    return layers.Bidirectional(rnn)(x) if draw(2) else rnn(x)


def conv_1d(x: Any, draw: Draw) -> Any:
    return layers.Conv1D(_width(draw), 3, padding="causal", activation=_activation(draw))(x)


def mix(x: Any, draw: Draw) -> Any:
    y = layers.Dense(int(x.shape[1]))(layers.Dense(_width(draw))(layers.Permute((2, 1))(x)))
    return layers.Add()([x, layers.Permute((2, 1))(y)])


def twice(x: Any, draw: Draw) -> Any:
    """A nested model that is used twice."""
    i = keras.Input(x.shape[1:])
    inner = keras.Model(i, layers.Dense(int(x.shape[-1]), activation=_activation(draw))(i))
    return inner(inner(x)) if draw(2) else layers.Concatenate()([inner(x), x])


# --- any -----------------------------------------------------------------------------------------
def normalise(x: Any, draw: Draw) -> Any:
    kind = draw(4)
    if kind == 0:
        return layers.BatchNormalization()(x)
    if kind == 1:
        return layers.LayerNormalization()(x)
    if kind == 2:
        groups = next(g for g in (3, 2, 1) if int(x.shape[-1]) % g == 0)
        return layers.GroupNormalization(groups)(x)
    return layers.RMSNormalization()(x)


def activate(x: Any, draw: Draw) -> Any:
    return (layers.ReLU(), layers.LeakyReLU(), layers.PReLU(), layers.Dropout(0.3))[draw(4)](x)


STEPS: Mapping[str, tuple[Step, ...]] = MappingProxyType(
    {
        "image": (
            conv,
            conv,
            grouped,
            depthwise,
            separable,
            transposed,
            pool,
            squeeze_excite,
            residual,
            dense_block,
            shuffle,
            normalise,
            activate,
            to_sequence,
        ),
        "sequence": (dense, attend, recurrent, conv_1d, mix, twice, normalise, activate),
    }
)


def build(draw: Draw, steps: int = 7) -> Any:
    """A graph of that many steps, sometimes in two towers that are joined, with two outputs."""
    i = keras.Input((6, 6, 3))
    towers = [layers.Conv2D(_width(draw), 3, padding="same")(i) for _ in range(1 + draw(2))]
    for _ in range(steps):
        which = draw(len(towers))
        x = towers[which]
        kind = STEPS["image" if len(x.shape) == 4 else "sequence"]
        towers[which] = kind[draw(len(kind))](x, draw)
    flat = [
        layers.Flatten()(x)
        if draw(2)
        else (layers.GlobalAveragePooling2D if len(x.shape) == 4 else layers.GlobalMaxPooling1D)()(
            x
        )
        for x in towers
    ]
    x = layers.Concatenate()(flat) if len(flat) > 1 else flat[0]
    x = layers.Dense(6, activation="relu")(x)
    return randomise(keras.Model(i, [layers.Dense(3)(x), layers.Dense(2)(flat[0])]))


def spec(draw: Draw) -> Prune:
    """What is asked of it."""
    share = (0.2, 0.5, 0.8, 0.95)[draw(4)]
    target: dict[str, Any] = {"kind": "fraction", "remove": share}
    if draw(4) == 0:
        target = {"kind": ("macs", "parameters")[draw(2)], "keep": 0.7}
    return Prune.model_validate(
        {
            "target": target,
            "scope": ("layer", "global", "isomorphic")[draw(3)],
            "granularity": ("channel", "channel", "channel", "head", "layer", "unit")[draw(6)],
            "criterion": ("magnitude", "l1", "random")[draw(3)],
        }
    )


def ordered(counts: Counts) -> Counts:
    """The rows by name: leaving blocks out may reorder what does not depend on each other."""
    return replace(counts, layers=tuple(sorted(counts.layers, key=lambda row: row.name)))


def check(model: Any, prune: Prune, folder: Path) -> bool:
    """The laws; False where nothing of this granularity can be removed, or the target not met."""
    try:
        cut = choose(model, prune, seed=1)
    except EngineRefusal as refusal:
        if not any(words in refusal.detail for words in REFUSALS):
            raise
        return False
    reduced = apply(model, cut)
    proof = prove(model, reduced, cut, seed=2)
    assert proof.holds, (prune, proof, [(x.name, type(x).__name__) for x in model.layers])
    assert ordered(predict(model, cut)) == ordered(count(reduced))
    assert [tuple(t.shape) for t in reduced.outputs] == [tuple(t.shape) for t in model.outputs]
    path = folder / "model.keras"
    reduced.save(path)
    loaded = keras.models.load_model(path)
    assert prove(model, loaded, cut, seed=3).holds
    return True
