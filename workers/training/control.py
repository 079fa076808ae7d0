"""The control of a pruned model: a dense one of the same size, trained from scratch as long.

[Liu et al. 2019, Rethinking the Value of Network Pruning, arXiv:1810.05270]
"""

from typing import Any

import keras

from app.domain.criteria import MagnitudeCriterion
from app.domain.prune import ChannelGranularity, ParametersTarget
from app.domain.spec import OneShotSchedule, PruningSpec

NOTE = (
    "Control: the layers are as small as the cut makes them, but their weights are fresh ones, "
    "trained from scratch for all epochs of the job. What pruning gains is the difference to it."
)


def dense_spec(spec: PruningSpec, epochs: int) -> PruningSpec:
    """What a control cuts: zeros give way to channels, until the share of weights that zeros would
    leave is left of all parameters. One cut is enough, as nothing is trained in between. No teacher
    knows the original, and no early stop cuts a beginner short.

    Args:
        spec: the job's.
        epochs: of the whole job; here they all come at the end.
    """
    prune = spec.prune
    if not prune.structured:
        prune = prune.model_copy(
            update={
                "granularity": ChannelGranularity(),
                "criterion": MagnitudeCriterion(),
                "target": ParametersTarget(keep=1.0 - prune.zeros),
                # Shares of weights would mean shares of channels.
                "layers": tuple(one for one in prune.layers if one.skip),
            }
        )
    assert spec.fine_tune is not None  # A control without training is refused.
    alone = {"epochs": epochs, "early_stopping": None, "distillation": None}
    tuning = spec.fine_tune.model_copy(update=alone)
    return spec.model_copy(
        update={"prune": prune, "schedule": OneShotSchedule(), "fine_tune": tuning}
    )


def copied(model: Any) -> Any:
    """The same architecture with the same weights, in variables of its own."""
    made = keras.models.clone_model(model)
    for old, new in zip(model.variables, made.variables, strict=True):
        new.assign(old)
    return made


def fresh(model: Any, seed: int) -> Any:
    """The same architecture with new weights; what is not trained stays as it is.

    Args:
        model: a built model.
        seed: of the weights.
    """
    keras.utils.set_random_seed(seed)
    made = keras.models.clone_model(model)
    anew = {
        id(variable)
        for layer in made._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
        for variable in layer.non_trainable_variables
    }
    for old, new in zip(model.weights, made.weights, strict=True):
        if not new.trainable and id(new) not in anew:
            new.assign(old)
    return made
