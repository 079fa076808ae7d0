"""Which loss and which metrics: asked for, read off the compile config, or told by the output."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from app.domain.errors import InvalidSpec
from app.domain.model import TrainingInfo
from app.domain.objective import CLASSIFICATION, Match, check_asked, check_metric, settle
from app.domain.recovery import LossName, MetricName
from app.domain.spec import PruningSpec
from workers.names import output_names
from workers.training.losses import SmoothedClassIndexes

METRICS: dict[str, MetricName] = {
    "accuracy": "accuracy",
    "acc": "accuracy",
    "sparse_categorical_accuracy": "accuracy",
    "categorical_accuracy": "accuracy",
    "binary_accuracy": "accuracy",
    "auc": "auc",
    "mean_squared_error": "mean_squared_error",
    "mse": "mean_squared_error",
    "mean_absolute_error": "mean_absolute_error",
    "mae": "mean_absolute_error",
}


@dataclass(frozen=True)
class OutputObjective:
    """The loss and metrics of one output."""

    output: str
    loss: LossName
    from_logits: bool
    metrics: tuple[MetricName, ...]

    def keras_loss(self, smoothing: float = 0.0) -> Any:
        """A fresh Keras loss; only one without smoothing can be stored in a model's file."""
        if smoothing and self.loss == "sparse_categorical_crossentropy":
            return SmoothedClassIndexes(smoothing, self.from_logits)
        config: dict[str, Any] = {"class_name": _class_name(self.loss), "config": {}}
        if self.loss in CLASSIFICATION:
            config["config"]["from_logits"] = self.from_logits
            if smoothing:
                config["config"]["label_smoothing"] = smoothing
        return keras.losses.deserialize(config)

    @property
    def classifies(self) -> bool:
        """Whether accuracy makes sense."""
        return self.loss in CLASSIFICATION


@dataclass(frozen=True)
class Objective:
    """Loss and metrics of all outputs, in the model's order."""

    outputs: tuple[OutputObjective, ...]
    notes: tuple[str, ...]

    @property
    def summary(self) -> str:
        """The losses in words."""
        return ", ".join(
            one.loss + (" from logits" if one.from_logits else "") for one in self.outputs
        )

    def compile(
        self, model: Any, optimizer: Any, smoothing: float = 0.0, batches_per_call: int = 1
    ) -> None:
        """Compile for training. XLA is off: it doubles the time of small convolutions on CPUs.

        Args:
            model: its outputs are in this objective's order.
            optimizer: a Keras optimizer.
            smoothing: of labels, where an output has classes.
            batches_per_call: batches that TensorFlow trains before it comes back to Python.
        """
        losses = [one.keras_loss(smoothing) for one in self.outputs]
        metrics = [
            ["accuracy"] if one.classifies else ["mean_absolute_error"] for one in self.outputs
        ]
        single = len(losses) == 1
        model.compile(
            optimizer=optimizer,
            loss=losses[0] if single else losses,
            metrics=metrics[0] if single else metrics,
            jit_compile=False,
            steps_per_execution=batches_per_call,
        )


def _class_name(loss: str) -> str:
    return "".join(word.capitalize() for word in loss.split("_"))


def infer(
    model: Any,
    training: TrainingInfo | None,
    targets: tuple[NDArray[Any], ...],
    spec: PruningSpec,
) -> Objective:
    """Settle loss and metrics for each output.

    Args:
        targets: one array per output, samples first.

    Raises:
        InvalidSpec: the asked loss or metric cannot be computed from this output and its targets,
            or there are no classes to smooth or weigh.
    """
    notes: list[str] = []
    found: list[OutputObjective] = []
    settled: list[tuple[LossName, Match]] = []
    asked = spec.fine_tune.loss if spec.fine_tune else None
    compiled = training.loss if training else None
    for tensor, name, target in zip(model.outputs, output_names(model), targets, strict=True):
        match = Match(
            width=tensor.shape[-1] or 1,
            activation=output_activation(tensor),
            shape=target.shape[1:],
            integer=bool(np.issubdtype(target.dtype, np.integer)),
            dtype=str(target.dtype),
        )
        loss, source = settle(match, asked, compiled)
        notes.append(f"Loss of {name}: {loss}, {source}.")
        logits = loss in CLASSIFICATION and match.activation not in ("softmax", "sigmoid")
        metrics = _metrics(loss, training, spec, match)
        found.append(OutputObjective(name, loss, logits, metrics))
        settled.append((loss, match))
    check_asked(spec, [tuple(tensor.shape) for tensor in model.inputs], settled)
    return Objective(tuple(found), tuple(notes))


def output_activation(tensor: Any) -> str | None:
    """Name of the activation that made an output tensor."""
    layer = tensor._keras_history.operation
    while hasattr(layer, "layers") and layer.layers:
        layer = layer.layers[-1]
    if isinstance(layer, keras.layers.Softmax):
        return "softmax"
    activation = getattr(layer, "activation", None)
    return getattr(activation, "__name__", None)


def _metrics(
    loss: LossName, training: TrainingInfo | None, spec: PruningSpec, match: Match
) -> tuple[MetricName, ...]:
    if spec.evaluate.metrics is not None:
        for metric in spec.evaluate.metrics:
            check_metric(metric, loss, match)
        return spec.evaluate.metrics
    found: list[MetricName] = ["accuracy" if loss in CLASSIFICATION else "mean_absolute_error"]
    for name in training.metrics if training else ():
        known = METRICS.get(name.lower())
        if known is not None and known not in found and _defined(known, loss, match):
            found.append(known)
    return tuple(found)


def _defined(metric: MetricName, loss: LossName, match: Match) -> bool:
    try:
        check_metric(metric, loss, match)
    except InvalidSpec:
        return False
    return True
