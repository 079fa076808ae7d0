"""Evidence from a job's training data: what a criterion needs to see, and nothing else.

Gradients come from an optimizer that only adds up what it is handed. They are those of the model
as it is deployed: without dropout, with the statistics of batch normalisation as they are, and of
the data's loss alone, without penalties on weights. So each sample's gradient is its own, and no
state of the model moves. On every backend of Keras.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from app.domain.criteria import (
    ActivationCriterion,
    ApozCriterion,
    Calibrated,
    Criterion,
    FisherCriterion,
    TaylorCriterion,
    WandaCriterion,
)
from app.domain.errors import EngineRefusal
from workers.engine.evidence import Evidence, check_finite, observe, packed
from workers.engine.graph import is_float, values, variable_keys
from workers.training.data import Data, Samples
from workers.training.objective import Objective

Array = NDArray[Any]

OBSERVED_AT_ONCE = 64
"""Samples of a batch that is only looked at."""
GRADIENT_BATCH = 16
"""Samples whose gradients are averaged before they are judged.

Criteria are defined by the gradients of single samples. Those of batches of B are cheaper, and rank
alike: at a minimum, where the mean gradient is zero, the mean square is 1/B of the samples' own.
Small batches keep away from what is left of the mean.
"""
_STREAM = 2
"""Of the job's seed: 0 and 1 hold out the splits."""


def collect(
    model: Any,
    data: Data,
    objective: Objective,
    criterion: Criterion,
    seed: int,
    at_most: int | None = None,
) -> Evidence:
    """See what a criterion needs to see, on `criterion.samples` of the training split.

    The samples are drawn by the seed; where there are several batches, those that do not fill one
    are left out. The model is exactly the same afterwards.

    Args:
        at_most: fewer samples than the criterion asks for, where a glance is enough.

    Raises:
        EngineRefusal: what the model computes of the samples is not finite, or says nothing.
    """
    if not isinstance(criterion, Calibrated):
        return Evidence()
    wanted = min(criterion.samples, at_most or criterion.samples)
    samples = drawn(data.train, wanted, seed)
    match criterion:
        case TaylorCriterion():
            return Evidence(taylor=gradients(model, samples, objective, squared=False))
        case FisherCriterion():
            return Evidence(squared_gradient=gradients(model, samples, objective, squared=True))
        case WandaCriterion():
            return observe(model, _inputs(samples), activations=False)
        case ActivationCriterion() | ApozCriterion():
            found = observe(model, _inputs(samples), norms=False)
            if isinstance(criterion, ApozCriterion):
                _check_zeros(found, samples.count)
            return found


def _check_zeros(found: Evidence, samples: int) -> None:
    if not any(bool(shares.any()) for shares in found.zeros.values()):
        raise EngineRefusal(
            "Criterion apoz counts activations that are exactly zero, as ReLU makes them, and on "
            f"{samples} samples this model had none. Use criterion activation."
        )


# --- samples -----------------------------------------------------------------------------------
def drawn(samples: Samples, count: int, seed: int) -> Samples:
    """`count` samples drawn by the seed, in stored order; all where there are no more."""
    if count >= samples.count:
        return samples
    chosen = np.random.default_rng([seed, _STREAM]).permutation(samples.count)[:count]
    chosen.sort()
    return Samples(
        {name: array[chosen] for name, array in samples.inputs.items()},
        tuple(array[chosen] for array in samples.targets),
        count,
    )


def _full_batches(samples: Samples, size: int) -> Iterator[tuple[list[Array], list[Array]]]:
    size = min(size, samples.count)
    return samples.head(samples.count // size * size).batches(size)


def _inputs(samples: Samples) -> Iterator[list[Array]]:
    return (inputs for inputs, _ in _full_batches(samples, OBSERVED_AT_ONCE))


# --- gradients ---------------------------------------------------------------------------------
def gradients(
    model: Any, samples: Samples, objective: Objective, *, squared: bool
) -> dict[str, Array]:
    """Means over batches of |w · ∂L/∂w|, or of (∂L/∂w)² where `squared`, by variable key.

    Of all trained matrices and larger, (the variable's shape), float32. Layers that the model
    freezes count as well: that they do not train says nothing of what they are worth.

    Raises:
        EngineRefusal: a gradient is not finite.
    """
    deployed = _Deployed(model)
    with _unfrozen(model):
        sums = _Sums(squared)
        objective.compile(deployed, sums)
        deployed.optimizer.build(deployed.trainable_variables)
        for inputs, targets in _full_batches(samples, GRADIENT_BATCH):
            deployed.train_on_batch(inputs, targets if len(targets) > 1 else targets[0])
    found = sums.means()
    means = {
        key: found[id(variable)]
        for key, variable in variable_keys(model).items()
        if id(variable) in found
    }
    check_finite(means)
    return means


class _Sums(keras.optimizers.Optimizer):  # type: ignore[misc]
    """An optimizer that leaves every variable as it is, and adds up what the gradients say."""

    def __init__(self, squared: bool) -> None:
        super().__init__(learning_rate=0.0, name="sums")
        self._squared = squared
        self._sums: dict[int, Any] = {}

    def build(self, variables: list[Any]) -> None:
        super().build(variables)
        for index, variable in enumerate(variables):
            if len(variable.shape) > 1 and is_float(variable):
                # Half precision would lose small gradients in a sum.
                self._sums[id(variable)] = self.add_variable(
                    variable.shape, initializer="zeros", dtype="float32", name=f"sum_{index}"
                )

    def apply(self, grads: list[Any], trainable_variables: list[Any] | None = None) -> None:
        # In the place of the whole update: no clipping, decay, averages or constraints.
        for variable, gradient in zip(
            trainable_variables or self._trainable_variables, grads, strict=True
        ):
            if gradient is not None and (total := self._sums.get(id(variable))) is not None:
                gradient = keras.ops.cast(keras.ops.convert_to_tensor(gradient), "float32")
                total.assign_add(
                    keras.ops.square(gradient)
                    if self._squared
                    else keras.ops.abs(keras.ops.cast(variable, "float32") * gradient)
                )
        self._iterations.assign_add(1)

    def means(self) -> dict[int, Array]:
        """Over the batches so far, by `id` of the variable; those with gradients of half precision
        that overflowed were left out."""
        steps = np.float32(values(self.iterations))
        return {number: values(total) / steps for number, total in self._sums.items()}


class _Deployed(keras.Model):  # type: ignore[misc]
    """A model as it computes once deployed, whatever it is told; its loss is that of the data."""

    def __init__(self, model: Any) -> None:
        super().__init__(name="deployed")
        self.deployed = model

    def call(self, inputs: Any) -> Any:
        outputs = self.deployed(packed(self.deployed, inputs), training=False)
        flat = keras.tree.flatten(outputs)
        return flat[0] if len(flat) == 1 else flat

    @property
    def losses(self) -> list[Any]:
        return []


@contextmanager
def _unfrozen(model: Any) -> Iterator[None]:
    """All weights that can train do, for a while; parents come before what they hold."""
    layers = [(layer, layer.trainable) for layer in model._flatten_layers()]
    variables = [(variable, variable.trainable) for variable in model.variables]
    try:
        for layer, _ in layers:
            layer.trainable = True
        yield
    finally:
        for layer, was in layers:
            layer.trainable = was
        for variable, trained in variables:
            variable.trainable = trained
