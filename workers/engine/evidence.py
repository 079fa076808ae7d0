"""Evidence: what is seen of a model's kernels and units while data streams through it.

`observe` runs the model as it is deployed (no dropout, statistics fixed) and taps it on the way:
the inputs of every layer that owns kernels, wherever it is nested, and the activations behind
every layer. Only sums leave the compiled function. Nothing of the model changes. Gradients need an
objective: see `workers.training.evidence`.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from app.domain.errors import EngineRefusal
from workers.engine import graph
from workers.engine.criteria import Seen
from workers.engine.taps import chains, graph_of, graphs, inputs_tapped, outputs_tapped

Array = NDArray[Any]


@dataclass(frozen=True)
class Evidence:
    """What was seen of a model; a criterion that looks at data needs one of these."""

    taylor: Mapping[str, Array] = field(default_factory=dict)
    """Mean over batches of |w · ∂L/∂w|, the kernel's shape, by variable key."""
    squared_gradient: Mapping[str, Array] = field(default_factory=dict)
    """Mean over batches of (∂L/∂w)², the kernel's shape, by variable key."""
    signal_to_noise: Mapping[str, Array] = field(default_factory=dict)
    """w²/σ² of each weight, the kernel's shape, by variable key."""
    input_norm: Mapping[str, Array] = field(default_factory=dict)
    """Root of the mean over samples of the sum over positions of x², by variable key.

    That is ‖x‖ over all samples and positions, but for a factor that all layers share. It has as
    many axes as the kernel, with size 1 along those that do not matter.
    """
    activity: Mapping[str, Array] = field(default_factory=dict)
    """Mean |activation| of each output unit or channel, (units,), by layer path."""
    zeros: Mapping[str, Array] = field(default_factory=dict)
    """Share of each output unit's activations that are exactly zero, (units,), by layer path."""

    def of(self, key: str, shape: tuple[int, ...]) -> Seen:
        """What was seen of one kernel.

        Args:
            key: of the kernel (`workers.engine.graph.variable_keys`).
            shape: of the kernel.

        Raises:
            EngineRefusal: another model was observed.
        """
        layer = graph.layer_of(key)
        try:
            taylor, squared, signal, norm = (
                np.broadcast_to(known[key], shape) if key in known else None
                for known in (
                    self.taylor,
                    self.squared_gradient,
                    self.signal_to_noise,
                    self.input_norm,
                )
            )
        except ValueError as error:
            raise EngineRefusal(
                f"The evidence of {key} does not fit its shape {shape}: observe the model that is "
                "to be pruned."
            ) from error
        return Seen(taylor, squared, signal, norm, self.activity.get(layer), self.zeros.get(layer))


def observe(
    model: Any,
    batches: Iterable[Sequence[Array]],
    *,
    norms: bool = True,
    activations: bool = True,
) -> Evidence:
    """Stream samples through a model; input norms and activations of what it has.

    Layers that several inputs pass through are seen once for each: squares add up, activations
    are averaged. A layer's activations are those behind what follows it (`taps.outputs_tapped`):
    after the ReLU of convolution, normalisation and ReLU. What lies inside wrappers of unusual
    layers is not seen, and has no entry.

    Args:
        model: a built Sequential or Functional model.
        batches: the inputs in the model's order, each with the sample axis first.
        norms: whether to collect `input_norm`.
        activations: whether to collect `activity` and `zeros`.

    Raises:
        EngineRefusal: the model has no graph, there are no samples, or what it computes of them
            is not finite.
    """
    graph.ensure_supported(model)
    observer = _Observer(model, norms, activations)
    # XLA helps little where a function is used for some dozen calls; JAX without is not compiled.
    observer.compile(jit_compile=keras.backend.backend() == "jax")
    totals: dict[str, Array] = {}
    samples = 0
    for inputs in batches:
        count = len(inputs[0])
        for name, mean in observer.predict_on_batch(list(inputs)).items():
            totals[name] = totals.get(name, 0.0) + count * np.asarray(mean, dtype=np.float64)
        samples += count
    if samples == 0:
        raise EngineRefusal("There are no samples to observe the model on.")
    found = {name: total / samples for name, total in totals.items()}
    check_finite(found)
    squares = _part("squares", found)
    return Evidence(
        input_norm={key: np.sqrt(square) for key, square in squares.items()},
        activity=_part("activity", found),
        zeros=_part("zeros", found),
    )


def scales(model: Any) -> dict[str, Array]:
    """γ of the batch normalisation directly behind each layer, (units,), by layer path.

    "Directly" allows for what may stand in a chain (`taps.chains`). Layers without one behind
    them, or with one that does not scale, have no entry.
    """
    found: dict[str, Array] = {}
    paths = {id(layer): path for path, layer in graph.leaves(model)}
    for one in graphs(model):
        for maker, *behind in chains(one):
            for node in behind:
                gamma = getattr(node.operation, "gamma", None)
                if isinstance(node.operation, keras.layers.BatchNormalization):
                    if gamma is not None:
                        name = paths.get(id(maker.operation), maker.operation.name)
                        found.setdefault(name, graph.values(gamma))
                    break
    return found


def check_finite(found: Mapping[str, Array]) -> None:
    """Raises `EngineRefusal` where something observed is infinite or no number."""
    for name, values in found.items():
        if not bool(np.isfinite(values).all()):
            raise EngineRefusal(
                f"What was observed of {name.split(':')[-1]} on data is not finite. Check that the "
                "inputs are scaled as the model was trained (options.scale of the data set), or "
                "use a criterion that looks at weights alone."
            )


def packed(model: Any, inputs: Any) -> Any:
    """A flat list of inputs in the structure that the model was built with."""
    functional = graph_of(model)
    return keras.tree.pack_sequence_as(functional._inputs_struct, keras.tree.flatten(inputs))


def _part(kind: str, found: Mapping[str, Array]) -> dict[str, Array]:
    start = f"{kind}:"
    return {name[len(start) :]: v for name, v in found.items() if name.startswith(start)}


class _Observer(keras.Model):  # type: ignore[misc]
    """From inputs to the means over a batch, by name, of what is seen on their way."""

    def __init__(self, model: Any, norms: bool, activations: bool) -> None:
        super().__init__(name="observer")
        self.observed = model
        self._norms = norms
        self._activations = activations
        self._keys = {id(variable): key for key, variable in graph.variable_keys(model).items()}
        self._paths = {id(layer): path for path, layer in graph.leaves(model)}

    def call(self, inputs: Any) -> dict[str, Any]:
        squares: dict[str, list[Any]] = {}
        outputs: dict[str, list[Any]] = {}

        def on_input(variable: Any, square: Any) -> None:
            if (key := self._keys.get(id(variable))) is not None:
                squares.setdefault(key, []).append(square)

        def on_output(layer: Any, output: Any) -> None:
            name = self._paths.get(id(layer), layer.name)
            outputs.setdefault(name, []).append(_moments(layer, output))

        with ExitStack() as taps:
            if self._norms:
                taps.enter_context(inputs_tapped(self.observed, on_input))
            if self._activations:
                taps.enter_context(outputs_tapped(self.observed, on_output))
            self.observed(packed(self.observed, inputs), training=False)
        samples = keras.ops.cast(keras.ops.shape(keras.tree.flatten(inputs)[0])[0], "float32")
        means = {f"squares:{key}": sum(found) / samples for key, found in squares.items()}
        for name, found in outputs.items():
            means[f"activity:{name}"] = sum(one for one, _ in found) / len(found)
            means[f"zeros:{name}"] = sum(one for _, one in found) / len(found)
        return means


def _moments(layer: Any, output: Any) -> tuple[Any, Any]:
    """Mean |activation| and share of zeros of each unit, over samples and positions."""
    first = getattr(layer, "data_format", None) == "channels_first"
    rank = len(output.shape)
    others = [axis for axis in range(rank) if axis != (1 if first else rank - 1)]
    size = keras.ops.abs(keras.ops.cast(output, "float32"))
    silent = keras.ops.cast(keras.ops.equal(size, 0.0), "float32")
    return keras.ops.mean(size, axis=others), keras.ops.mean(silent, axis=others)
