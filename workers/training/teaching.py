"""Training with a teacher: the original model's outputs count beside the targets."""

from typing import Any

import keras

from app.domain.recovery import Distillation
from workers.training.data import Samples
from workers.training.losses import distilled
from workers.training.objective import Objective

HARD, SOFT = "targets", "teacher"


class Taught(keras.Model):  # type: ignore[misc]
    """A student with its own layers and weights, and a loss that listens to a teacher.

    `fit` takes what `taught_targets` makes; with plain targets, as in validation, the loss is that
    of the targets alone.
    """

    def __init__(self, student: Any, objective: Objective, spec: Distillation) -> None:
        super().__init__(name=student.name)
        self.student = student
        self._objective, self._spec = objective, spec

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """The student's outputs."""
        return self.student(inputs, training=training)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """(1 - weight) of the targets' loss, and weight of the teacher's."""
        targets, teacher = _parts(y)
        hard = super().compute_loss(x, targets, y_pred, _parts(sample_weight)[0], training)
        if teacher is None:
            return hard
        pairs = zip(self._objective.outputs, teacher, keras.tree.flatten(y_pred), strict=True)
        soft = sum(
            distilled(one.loss, one.from_logits, self._spec.temperature, theirs, mine)
            for one, theirs, mine in pairs
        )
        return (1.0 - self._spec.weight) * hard + self._spec.weight * soft

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Metrics compare with the targets."""
        return super().compute_metrics(x, _parts(y)[0], y_pred, _parts(sample_weight)[0])


def _parts(y: Any) -> tuple[Any, Any]:
    """What belongs to the targets and to the teacher; `fit` repeats weights for each of them."""
    return (y[HARD], y[SOFT]) if isinstance(y, dict) else (y, None)


def taught_targets(samples: Samples, teacher: list[Any] | None) -> dict[str, Any]:
    """What `Taught.fit` takes as targets."""
    return {HARD: samples.y, SOFT: teacher}


def outputs_of(model: Any, samples: Samples, batch_size: int) -> list[Any]:
    """A teacher's outputs, one array per output of the model, in the samples' order."""
    found: list[Any] = keras.tree.flatten(
        model.predict(samples.x, batch_size=max(batch_size, 256), verbose=0)
    )
    return found
