"""Which loss and which metrics: asked for, read off the compile config, or told by the output."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from app.domain.errors import InvalidSpec
from app.domain.model import TrainingInfo
from app.domain.spec import LossName, MetricName, PruningSpec
from workers.names import output_names

LOSSES: dict[str, LossName] = {
    "sparse_categorical_crossentropy": "sparse_categorical_crossentropy",
    "categorical_crossentropy": "categorical_crossentropy",
    "binary_crossentropy": "binary_crossentropy",
    "mean_squared_error": "mean_squared_error",
    "mse": "mean_squared_error",
    "mean_absolute_error": "mean_absolute_error",
    "mae": "mean_absolute_error",
    "huber": "huber",
}
CLASSIFICATION = frozenset(
    {
        "sparse_categorical_crossentropy",
        "categorical_crossentropy",
        "binary_crossentropy",
    }
)
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

    def keras_loss(self) -> Any:
        """A fresh Keras loss."""
        loss = keras.losses.get(self.loss)
        config: dict[str, Any] = {"class_name": _class_name(self.loss), "config": {}}
        if self.loss in CLASSIFICATION:
            config["config"]["from_logits"] = self.from_logits
        return keras.losses.deserialize(config) if loss is not None else None

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

    def compile(self, model: Any, optimizer: Any) -> None:
        """Compile for training. XLA is off: it doubles the time of small convolutions on CPUs."""
        losses = [one.keras_loss() for one in self.outputs]
        metrics = [
            ["accuracy"] if one.classifies else ["mean_absolute_error"] for one in self.outputs
        ]
        single = len(losses) == 1
        model.compile(
            optimizer=optimizer,
            loss=losses[0] if single else losses,
            metrics=metrics[0] if single else metrics,
            jit_compile=False,
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
        InvalidSpec: the asked loss cannot be computed from this output and these targets.
    """
    notes: list[str] = []
    found = []
    asked = spec.fine_tune.loss if spec.fine_tune else None
    compiled = LOSSES.get((training.loss or "").lower()) if training else None
    for tensor, name, target in zip(model.outputs, output_names(model), targets, strict=True):
        activation = output_activation(tensor)
        loss = asked or _loss(compiled, activation, tensor.shape, target, notes)
        _check(loss, tensor.shape, target)
        logits = loss in CLASSIFICATION and activation not in ("softmax", "sigmoid")
        found.append(
            OutputObjective(name, loss, logits, _metrics(loss, training, spec, tensor.shape))
        )
    if asked is None:
        source = "the model's compile config" if compiled else "the model's output and the targets"
        notes.insert(0, f"Loss taken from {source}: {', '.join(one.loss for one in found)}.")
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


def _is_labels(target: NDArray[Any], width: int) -> bool:
    """Whether targets are class indexes rather than values of the output's own shape."""
    return bool(
        np.issubdtype(target.dtype, np.integer)
        and (target.ndim == 1 or target.shape[-1] != width or width == 1)
    )


def _loss(
    compiled: LossName | None,
    activation: str | None,
    shape: tuple[int | None, ...],
    target: NDArray[Any],
    notes: list[str],
) -> LossName:
    width = shape[-1] or 1
    labels = _is_labels(target, width)
    if compiled in ("sparse_categorical_crossentropy", "categorical_crossentropy"):
        fitting: LossName = (
            "sparse_categorical_crossentropy" if labels else "categorical_crossentropy"
        )
        if fitting != compiled:
            notes.append(
                f"The model was compiled with {compiled}; the targets are "
                f"{'class indexes' if labels else 'one-hot'}, so {fitting} is used."
            )
        return fitting
    if compiled is not None and not (width > 1 and labels):
        return compiled
    if compiled is not None:
        notes.append(
            f"The model was compiled with {compiled}; the targets are class indexes, so "
            "sparse_categorical_crossentropy is used."
        )
    if width > 1 and labels:
        return "sparse_categorical_crossentropy"
    if activation == "softmax":
        return "categorical_crossentropy"
    if activation == "sigmoid":
        return "binary_crossentropy"
    return "mean_squared_error"


def _check(loss: LossName, shape: tuple[int | None, ...], target: NDArray[Any]) -> None:
    width = shape[-1] or 1
    labels = _is_labels(target, width)
    if loss == "sparse_categorical_crossentropy" and not (labels and width > 1):
        raise InvalidSpec(
            f"Loss {loss} needs class indexes and at least two outputs; the targets have shape "
            f"{target.shape[1:]} and type {target.dtype}, the output has {width}.",
            field="fine_tune.loss",
        )
    dense = ("binary_crossentropy", "mean_squared_error", "mean_absolute_error", "huber")
    if loss in dense and labels and width > 1:
        raise InvalidSpec(
            f"Loss {loss} compares each of the {width} outputs with a value of its own; the "
            f"targets have shape {target.shape[1:]} and type {target.dtype}. Use "
            "sparse_categorical_crossentropy for class indexes.",
            field="fine_tune.loss",
        )
    if loss == "categorical_crossentropy" and (labels or width == 1):
        raise InvalidSpec(
            f"Loss {loss} needs one-hot targets of width {width}; the targets have shape "
            f"{target.shape[1:]}. Use sparse_categorical_crossentropy for class indexes.",
            field="fine_tune.loss",
        )


def _metrics(
    loss: LossName,
    training: TrainingInfo | None,
    spec: PruningSpec,
    shape: tuple[int | None, ...],
) -> tuple[MetricName, ...]:
    if spec.evaluate.metrics is not None:
        return spec.evaluate.metrics
    found: list[MetricName] = ["accuracy" if loss in CLASSIFICATION else "mean_absolute_error"]
    for name in training.metrics if training else ():
        known = METRICS.get(name.lower())
        if known is not None and known not in found:
            found.append(known)
    return tuple(found)
