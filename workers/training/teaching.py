"""Training with images that change, and with the original model as a teacher."""

import math
from typing import Any

import keras

from app.domain.recovery import Augmentation, FineTune
from workers.engine.graph import calls
from workers.engine.taps import graph_of
from workers.evaluation.evaluate import predicted
from workers.training.data import Samples
from workers.training.losses import distilled, unlike
from workers.training.objective import Objective

HARD, SOFT = "targets", "teacher"
MOST_BYTES = 256 * 1024 * 1024
"""Of a teacher's outputs for all samples; where they are larger it is asked batch by batch."""


class Teacher:
    """The original model, and what it says to training samples, asked once for all steps."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self._said: list[Any] | None = None

    def is_brief(self, samples: Samples) -> bool:
        """Whether its outputs for all samples fit in memory beside everything else."""
        axes = [tensor.shape[1:] for tensor in self.model.outputs]
        if any(axis is None for shape in axes for axis in shape):
            return False
        numbers: int = sum(math.prod(shape) for shape in axes)
        return 4 * samples.count * numbers <= MOST_BYTES

    def outputs(self, samples: Samples, batch_size: int) -> list[Any]:
        """One array per output of the model, in the samples' order, which are always the same."""
        if self._said is None:
            self._said = predicted(self.model, samples, max(batch_size, 256))
        return self._said


def wrapped(student: Any, objective: Objective, spec: FineTune, teacher: Teacher | None) -> Any:
    """What is compiled and fitted in a model's place: the model itself where that is enough.

    Args:
        student: the pruned model.
        objective: its losses.
        spec: what is asked for.
        teacher: for distillation.
    """
    if spec.distillation is None and spec.augmentation is None:
        return student
    return Taught(student, objective, spec, teacher)


class Taught(keras.Model):  # type: ignore[misc]
    """A student with its own layers and weights, changed images, a loss that listens to a teacher.

    Nothing of it is saved. `fit` takes what `taught_targets` makes; with plain targets, as in
    validation, the loss is that of the targets alone, and images stay as they are. A teacher of
    changed images is asked batch by batch, for the images that the student sees; so is one whose
    outputs are too large to keep. [Beyer et al.
    2022, arXiv:2106.05237]
    """

    def __init__(
        self, student: Any, objective: Objective, spec: FineTune, teacher: Teacher | None
    ) -> None:
        super().__init__(name=student.name)
        self.output_names = list(getattr(student, "output_names", ()))
        self.student = student
        self.changes = [] if spec.augmentation is None else _changes(spec.augmentation)
        self._objective, self._spec = objective, spec.distillation
        self._teacher = teacher
        self._matched: Matched | None = None
        if teacher is not None and spec.distillation is not None and spec.distillation.features:
            self._matched = Matched(student, teacher.model)

    def build(self, *_: Any) -> None:
        """Nothing is left to build: the student has its weights, and changes have none."""
        for change in self.changes:
            change.build(self.student.inputs[0].shape)
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """The student's outputs."""
        if self._matched is None:
            return self.student(inputs, training=training)
        return self._matched.outputs(inputs, training)

    def train_step(self, data: Any) -> Any:
        """One batch, its images changed."""
        x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
        for change in self.changes:
            x = change(x, training=True)
        return super().train_step((x, y, weights))

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """(1 - weight) of the targets' loss, weight of the teacher's, and all regularisation."""
        targets, teacher = _parts(y)
        weights = _parts(sample_weight)[0]
        hard = super().compute_loss(x, targets, y_pred, weights, training)
        if self._spec is None or not training:
            return hard
        if teacher is None and self._teacher is not None:
            teacher = keras.tree.flatten(self._teacher.model(x, training=False))
        pairs = zip(self._objective.outputs, teacher, keras.tree.flatten(y_pred), strict=True)
        apart = sum(
            distilled(one.loss, one.from_logits, self._spec.temperature, theirs, mine)
            for one, theirs, mine in pairs
        )
        soft = keras.ops.mean(apart if weights is None else apart * weights)
        if self._matched is not None:
            soft += self._spec.features * self._matched.apart(x)
        # Penalties of weights are in `hard`, and not the teacher's to make smaller.
        penalties = sum(self.losses) if self.losses else 0.0
        return (1.0 - self._spec.weight) * (hard - penalties) + self._spec.weight * soft + penalties

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Metrics compare with the targets."""
        return super().compute_metrics(x, _parts(y)[0], y_pred, _parts(sample_weight)[0])


MOST_MATCHED = 4


class Matched:
    """Layers of both models whose view of a batch is compared; see `losses.unlike`.

    They are up to four hidden layers with weights, evenly spread over the depth.
    """

    def __init__(self, student: Any, teacher: Any) -> None:
        mine, theirs = _hidden(student), _hidden(teacher)
        names = _spread([name for name in mine if name in theirs])
        graph = graph_of(student)
        self._count = len(graph.outputs)
        self._structure = graph._outputs_struct
        watched = [mine[name] for name in names]
        self._student = keras.Model(_listed(graph.inputs), [*graph.outputs, *watched])
        seen = [theirs[name] for name in names]
        self._teacher = keras.Model(_listed(graph_of(teacher).inputs), seen) if seen else None
        self._seen: list[Any] = []

    def outputs(self, inputs: Any, training: bool | None) -> Any:
        """The student's outputs; what its layers put out is kept for `apart`, in the same trace."""
        found = keras.tree.flatten(self._student(_listed(inputs), training=training))
        self._seen = found[self._count :]
        return keras.tree.pack_sequence_as(self._structure, found[: self._count])

    def apart(self, inputs: Any) -> Any:
        """Sum over the layers of how differently they see the batch that `outputs` was given."""
        if self._teacher is None:
            return 0.0
        theirs = keras.tree.flatten(self._teacher(_listed(inputs), training=False))
        return sum(unlike(one, mine) for one, mine in zip(theirs, self._seen, strict=True))


def _hidden(model: Any) -> dict[str, Any]:
    """What each layer with weights puts out, by name; not the model's outputs, nor of layers that
    are called several times.
    """
    graph = graph_of(model)
    outputs = {id(tensor) for tensor in graph.outputs}
    found: dict[str, list[Any]] = {}
    for node in calls(graph):
        if getattr(node.operation, "weights", ()):
            found.setdefault(node.operation.name, []).extend(node.output_tensors)
    return {
        name: tensors[0]
        for name, tensors in found.items()
        if len(tensors) == 1 and id(tensors[0]) not in outputs
    }


def _spread(names: list[str]) -> list[str]:
    if len(names) <= MOST_MATCHED:
        return names
    return [names[(place + 1) * len(names) // MOST_MATCHED - 1] for place in range(MOST_MATCHED)]


def _listed(inputs: Any) -> Any:
    flat = keras.tree.flatten(inputs)
    return flat[0] if len(flat) == 1 else flat


def _changes(spec: Augmentation) -> list[Any]:
    found = [keras.layers.RandomFlip("horizontal")] if spec.flip else []
    if spec.shift:
        moved = keras.layers.RandomTranslation(spec.shift, spec.shift, fill_mode="nearest")
        found.append(moved)
    return found


def _parts(y: Any) -> tuple[Any, Any]:
    """What belongs to the targets and to the teacher; `fit` repeats weights for each of them."""
    return (y[HARD], y[SOFT]) if isinstance(y, dict) else (y, None)


def taught_targets(samples: Samples, spec: FineTune, teacher: Teacher | None) -> Any:
    """What is fitted as targets; with what the teacher says, where that can be known beforehand."""
    if teacher is None or spec.distillation is None or spec.augmentation is not None:
        return samples.y
    if not teacher.is_brief(samples):
        return samples.y
    return {HARD: samples.y, SOFT: teacher.outputs(samples, spec.batch_size)}
