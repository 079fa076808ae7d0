"""Losses that Keras does not have: smoothed class indexes, and a teacher's outputs."""

from typing import Any

import keras
from keras import ops

from app.domain.recovery import LossName

_CLASSES: frozenset[LossName] = frozenset(
    {"sparse_categorical_crossentropy", "categorical_crossentropy"}
)
_SMALLEST = 1e-7
"""Probabilities below count as this, as in Keras' own losses."""


class SmoothedClassIndexes(keras.losses.Loss):  # type: ignore[misc]
    """Cross-entropy of class indexes, each smoothed into a distribution over all classes."""

    def __init__(self, smoothing: float, from_logits: bool) -> None:
        super().__init__(name="sparse_categorical_crossentropy")
        self._smoothing, self._from_logits = smoothing, from_logits

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """(samples, …[, 1]) and (samples, …, classes) -> (samples, …)."""
        indexes = ops.squeeze(y_true, -1) if len(y_true.shape) == len(y_pred.shape) else y_true
        return keras.losses.categorical_crossentropy(
            ops.one_hot(ops.cast(indexes, "int32"), y_pred.shape[-1]),
            y_pred,
            from_logits=self._from_logits,
            label_smoothing=self._smoothing,
        )


def distilled(
    loss: LossName, from_logits: bool, temperature: float, teacher: Any, student: Any
) -> Any:
    """How far a student's outputs are from the teacher's, (samples,): the mean over their places.

    For classes T²·CE(softmax(t/T), softmax(s/T)) with logits t and s, for probabilities of their
    own T²·BCE alike; for other outputs the mean squared (or absolute) difference.
    [Hinton et al. 2015, arXiv:1503.02531, section 2]

    Args:
        loss: of this output.
        from_logits: whether its outputs are logits, rather than probabilities.
        temperature: T.
        teacher: outputs, (samples, …, outputs).
        student: the same.
    """
    # Gradients of a logarithm overflow 16 bits.
    teacher, student = (ops.cast(outputs, "float32") for outputs in (teacher, student))
    if loss in _CLASSES:
        soft = ops.softmax(_logits(teacher, from_logits) / temperature)
        scaled = _logits(student, from_logits) / temperature
        apart = keras.losses.categorical_crossentropy(soft, scaled, from_logits=True)
        return temperature**2 * _per_sample(apart)
    if loss == "binary_crossentropy":
        soft = ops.sigmoid(_odds(teacher, from_logits) / temperature)
        scaled = _odds(student, from_logits) / temperature
        apart = keras.losses.binary_crossentropy(soft, scaled, from_logits=True)
        return temperature**2 * _per_sample(apart)
    return _per_sample(keras.losses.get(loss)(teacher, student))


def unlike(teacher: Any, student: Any) -> Any:
    """How differently two layers find the samples of a batch alike: ‖G_T - G_S‖² / b², a number.

    G has a row per sample, the products of its activations with those of all b samples, of length
    one. [Tung & Mori 2019, arXiv:1907.09682, equations 1 to 4]

    Args:
        teacher: activations, (samples, …).
        student: the same layer's, of any width.
    """
    return ops.mean(ops.square(_likeness(teacher) - _likeness(student)))


def _likeness(activations: Any) -> Any:
    flat = ops.reshape(ops.cast(activations, "float32"), (ops.shape(activations)[0], -1))
    return ops.normalize(ops.matmul(flat, ops.transpose(flat)), axis=1)


def _per_sample(values: Any) -> Any:
    return ops.mean(ops.reshape(values, (ops.shape(values)[0], -1)), axis=1)


def _logits(outputs: Any, from_logits: bool) -> Any:
    """Logits up to a constant per sample, which softmax does not see."""
    return outputs if from_logits else ops.log(ops.maximum(outputs, _SMALLEST))


def _odds(outputs: Any, from_logits: bool) -> Any:
    if from_logits:
        return outputs
    inside = ops.clip(outputs, _SMALLEST, 1.0 - _SMALLEST)
    return ops.log(inside / (1.0 - inside))
