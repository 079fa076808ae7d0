"""Sparse variational dropout: training that learns how much noise each weight bears.

[Molchanov, Ashukha & Vetrov 2017, arXiv:1701.05369, with the additive noise of its section 4.2. Of
Dense layers the noise is drawn per sample, for what they put out (Kingma et al. 2015,
arXiv:1506.02557), of all others for the weights, once per batch (Blundell et al. 2015,
arXiv:1505.05424), which needs no rule for what a layer computes.]
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from app.domain.criteria import VariationalDropoutCriterion
from workers.engine.evidence import Evidence
from workers.engine.graph import calls, kernels, values
from workers.engine.taps import graphs, instead
from workers.training.data import Samples
from workers.training.evidence import drawn
from workers.training.objective import Objective

Array = NDArray[Any]

INITIAL = -10.0
"""Logarithm of σ² to begin with: too little noise to be noticed."""
LARGEST = 8.0
"""Of |log α|: beyond, a weight is as good as kept, or as good as gone."""
SMALL = 1e-8
"""Added to w², whose logarithm is taken."""
DISTANCE = 25.0
"""Twice as far as log σ² goes until the least needed weights drown: not all steps lead on."""
EXACT = 0.1
"""Of the targets' standard deviation: what counts as unexplained where nothing is."""
SAMPLES = 4096
"""Of the training split that tell how well a model without classes fits."""


class Noisy(keras.Model):  # type: ignore[misc]
    """A model with its own layers and weights, and noise on its kernels while it trains.

    The loss gains the divergence of the noisy weights from their prior, per sample. Nothing of it
    is saved.
    """

    def __init__(self, model: Any, samples: int, scale: float, speed: float = 1.0) -> None:
        """`samples` are those of the training split; `scale` is that of the loss (`loss_scale`).

        Args:
            speed: factor on the steps by which an optimizer such as Adam moves log σ².
        """
        super().__init__(name=model.name)
        self.output_names = list(getattr(model, "output_names", ()))
        self.student = model
        self.inputs = model.inputs
        self.kernels = kernels(model)
        self._per_sample = scale / samples
        self._speed = speed
        self._seeds = keras.random.SeedGenerator(0)
        self._dense = dict(_dense(model, self.kernels))
        self.price = self.add_weight(shape=(), initializer="zeros", trainable=False, name="price")
        self._steps = {
            key: self.add_weight(
                shape=one.shape, initializer="zeros", dtype="float32", name=f"noise_{index}"
            )
            for index, (key, one) in enumerate(self.kernels.items())
        }

    def build(self, *_: Any) -> None:
        """Nothing is left to build."""
        self.built = True

    @property
    def log_variances(self) -> dict[str, Array]:
        """log σ² by variable key, the kernel's shape, precise enough to go on from exactly."""
        steps = {key: values(one).astype(np.float64) for key, one in self._steps.items()}
        return {key: INITIAL + self._speed * one for key, one in steps.items()}

    def restore(self, known: Mapping[str, Array]) -> None:
        """Take up what `log_variances` gave."""
        for key, one in self._steps.items():
            one.assign((known[key] - INITIAL) / self._speed)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """The model's outputs; in training those of weights drawn anew."""
        if not training:
            return self.student(inputs, training=training)
        ops = keras.ops
        mapped = {id(one): (one, one.value) for one in self.student.variables}
        divergence = 0.0
        with ExitStack() as noise_in:
            for key, kernel in self.kernels.items():
                weight = ops.convert_to_tensor(kernel.value)
                exact = ops.cast(weight, "float32")
                steps = ops.convert_to_tensor(self._steps[key])
                rate = log_rate(exact, INITIAL + self._speed * steps)
                divergence += ops.sum(divergences(rate))
                if key in self._dense:
                    layer, variance = self._dense[key], ops.exp(rate) * ops.square(exact)
                    noise_in.enter_context(instead(layer, "call", self._noisy(layer, variance)))
                else:
                    noise = self._normal(exact.shape)
                    noisy = exact + ops.exp(0.5 * rate) * ops.abs(exact) * noise
                    mapped[id(kernel)] = (kernel, ops.cast(noisy, weight.dtype))
            with keras.StatelessScope(state_mapping=list(mapped.values())) as scope:
                outputs = self.student(inputs, training=True)
        # Statistics and states of random numbers that the call has moved; this noise's own too.
        for variable in (*self.student.non_trainable_variables, self._seeds.state):
            value = scope.get_current_value(variable)
            if value is not None and value is not mapped.get(id(variable), (None, None))[1]:
                variable.assign(value)
        self.add_loss(ops.convert_to_tensor(self.price) * self._per_sample * divergence)
        return outputs

    def _noisy(self, layer: Any, variances: Any) -> Callable[..., Any]:
        """A Dense layer's call, with noise on what it puts out as its weights' noise makes it."""
        ops = keras.ops

        def call(inputs: Any, training: bool | None = None) -> Any:
            mean = ops.matmul(inputs, layer.kernel)
            exact = ops.cast(inputs, "float32")
            variance = ops.matmul(ops.square(exact), variances) + SMALL
            noise = ops.sqrt(variance) * self._normal(ops.shape(mean))
            mean = mean + ops.cast(noise, mean.dtype)
            if layer.bias is not None:
                mean = ops.add(mean, layer.bias)
            return mean if layer.activation is None else layer.activation(mean)

        return call

    def _normal(self, shape: Any) -> Any:
        return keras.random.normal(shape, dtype="float32", seed=self._seeds)


def _dense(model: Any, kernels: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Plain Dense layers by the key of their kernel, those in nested graphs too.

    What wrappers such as TimeDistributed hold is left out: they call it in ways of their own.
    """
    keys = {id(kernel): key for key, kernel in kernels.items()}
    for one in graphs(model):
        for node in calls(one):
            layer = node.operation
            if type(layer) is keras.layers.Dense and layer.quantization_mode is None:
                yield keys[id(layer.kernel)], layer


def log_rate(weight: Any, log_variance: Any) -> Any:
    """log α = log σ² - log w², within what matters; same shape out."""
    rate = log_variance - keras.ops.log(keras.ops.square(weight) + SMALL)
    return keras.ops.clip(rate, -LARGEST, LARGEST)


def divergences(log_rates: Any) -> Any:
    """KL(q || log-uniform prior) of each weight, but for a constant; same shape out.

    [Equation 14 of the paper]
    """
    ops = keras.ops
    known = 0.63576 * ops.sigmoid(1.87320 + 1.48695 * log_rates)
    return 0.63576 - known + 0.5 * ops.softplus(-log_rates)


def loss_scale(model: Any, objective: Objective, samples: Samples, seed: int) -> float:
    """What one nat of likelihood is in units of the loss.

    Cross-entropies are in nats. Errors of numbers become likelihoods by the noise that the model
    leaves unexplained: Gaussian noise for squares, Laplacian for absolute values.
    """
    if any(one.classifies for one in objective.outputs):
        return 1.0
    few = drawn(samples, SAMPLES, seed)
    linear = objective.outputs[0].loss == "mean_absolute_error"
    objective.compile(model, keras.optimizers.SGD())
    left = float(model.evaluate(few.x, few.y, verbose=0, return_dict=True)["loss"])
    spread = float(np.mean([np.std(target) for target in few.targets]))
    least = EXACT * spread if linear else (EXACT * spread) ** 2
    if left < 1e-3 * least:
        # The model's own answers stand for targets: nothing is left unexplained.
        left = least
    return max(left * (1.0 if linear else 2.0) / len(objective.outputs), 1e-12)


def speed(learning_rate: float, updates: int) -> float:
    """How much faster than the weights log σ² has to move to arrive within `updates`."""
    return max(1.0, DISTANCE / (learning_rate * updates))


def price(criterion: VariationalDropoutCriterion, epochs: int) -> float:
    """Factor on the divergence after so many epochs of learning."""
    if epochs >= criterion.warmup_epochs:
        return criterion.price
    return criterion.price * epochs / criterion.warmup_epochs


def evidence(model: Any, log_variances: Mapping[str, Array]) -> Evidence:
    """The ratio of signal to noise, w²/σ², of every kernel; where nothing was learned, w² itself.

    Args:
        log_variances: log σ² by variable key.
    """
    found = {}
    for key, kernel in kernels(model).items():
        squares = np.square(values(kernel).astype(np.float64))
        found[key] = squares / np.exp(log_variances.get(key, np.float64(0.0)))
    return Evidence(signal_to_noise=found)
