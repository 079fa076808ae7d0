"""Data without targets: what the original model says stands for them.

Training on them is distillation from inputs alone, and accuracy is agreement with the original.
[Hinton et al. 2015, arXiv:1503.02531]
"""

from dataclasses import replace
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from app.domain.dataset import DatasetInfo
from app.domain.model import TrainingInfo
from app.domain.spec import PruningSpec
from workers.evaluation.evaluate import predicted
from workers.training.data import Data, Samples
from workers.training.objective import Objective, infer

Array = NDArray[Any]
NOTE = (
    "The data set has no targets: what the original model says of its inputs stands for them. So "
    "metrics say how far the result agrees with the original, and not how often either is right."
)


def settled(
    data: Data, described: DatasetInfo, model: Any, training: TrainingInfo | None, spec: PruningSpec
) -> tuple[Data, Objective]:
    """The data with targets, and the objective that fits them.

    Args:
        data: as it was read.
        described: what it is.
        model: the original.
        training: what the model's file says of its training.
        spec: the job's.

    Raises:
        InvalidSpec: the asked loss or metric does not go with the targets.
    """
    if described.unlabelled:
        return answered(data, model, training, spec)
    return data, infer(model, training, data.train.targets, spec)


def answered(
    data: Data, model: Any, training: TrainingInfo | None, spec: PruningSpec
) -> tuple[Data, Objective]:
    """The data with the original's answers as targets, and the objective that fits them.

    Answers of classes are probabilities, whether the model ends in them or in logits.
    """
    if training is not None:
        # Other metrics of the model's own want to know what is right.
        training = training.model_copy(update={"metrics": ()})
    said = [predicted(model, split) for split in (data.train, data.validation, data.test)]
    objective = infer(model, training, tuple(said[0]), spec)
    train, validation, test = (
        _with(split, answers, objective)
        for split, answers in zip((data.train, data.validation, data.test), said, strict=True)
    )
    whole = replace(data, train=train, validation=validation, test=test)
    return replace(whole, notes=(NOTE, *data.notes)), objective


def _with(samples: Samples, answers: list[Array], objective: Objective) -> Samples:
    targets = tuple(
        _probabilities(each, one.loss) if one.from_logits else each
        for each, one in zip(answers, objective.outputs, strict=True)
    )
    return replace(samples, targets=targets)


def _probabilities(logits: Array, loss: str) -> Array:
    squash = keras.ops.sigmoid if loss == "binary_crossentropy" else keras.ops.softmax
    found: Array = np.asarray(keras.ops.convert_to_numpy(squash(logits)), dtype=np.float32)
    return found
