"""What the model was compiled with: names only, for defaults and hints."""

import re
from typing import Any

from app.domain.model import TrainingInfo


def _names(*lines: str) -> frozenset[str]:
    return frozenset(name for line in lines for name in line.split())


_COMMON = _names(
    "binary_crossentropy categorical_crossentropy sparse_categorical_crossentropy poisson hinge",
    "squared_hinge categorical_hinge kl_divergence kullback_leibler_divergence kld mae mape mse",
    "msle cosine_similarity mean_absolute_error mean_absolute_percentage_error",
    "mean_squared_error mean_squared_logarithmic_error binary_focal_crossentropy",
    "categorical_focal_crossentropy logcosh",
)
LOSSES = _COMMON | _names(
    "log_cosh huber huber_loss tversky dice circle ctc bce categorical_generalized_cross_entropy"
)
METRICS = _COMMON | _names(
    "accuracy acc binary_accuracy categorical_accuracy sparse_categorical_accuracy auc precision",
    "recall top_k_categorical_accuracy sparse_top_k_categorical_accuracy f1_score fbeta_score",
    "r2_score root_mean_squared_error log_cosh_error mean sum true_positives true_negatives",
    "false_positives false_negatives precision_at_recall recall_at_precision io_u binary_io_u",
    "mean_io_u one_hot_io_u one_hot_mean_io_u sensitivity_at_specificity",
    "specificity_at_sensitivity concordance_correlation pearson_correlation",
)
OPTIMIZERS = _names(
    "sgd adam adam_w adamw adamax adadelta adafactor adagrad ftrl lamb lion muon nadam rmsprop",
    "rm_sprop rms_prop loss_scale_optimizer schedule_free_adam_w multi_optimizer",
)
"""Known names, in the spellings of Keras 2 and 3."""
_WRAPPERS = frozenset({"LossFunctionWrapper", "MeanMetricWrapper", "function"})


def read_training(config: Any) -> TrainingInfo | None:
    """The compile config of a `.keras` file, or the training config of an `.h5` file."""
    if not isinstance(config, dict):
        return None
    losses = _leaves(config.get("loss"))
    names = {name for loss in losses if (name := _known(_name(loss), LOSSES))}
    optimizer = config.get("optimizer", config.get("optimizer_config"))
    metrics = [
        _known(_metric_name(item), METRICS) or _known(_name(item), METRICS)
        for item in _leaves(config.get("metrics"))
    ]
    return TrainingInfo(
        loss=names.pop() if len(names) == 1 else None,
        loss_from_logits=_from_logits(losses),
        metrics=tuple(dict.fromkeys(name for name in metrics if name)),
        optimizer=_known(_name(optimizer), OPTIMIZERS),
    )


def _known(name: str | None, names: frozenset[str]) -> str | None:
    """The name where it is one of Keras; what else is written there is nobody's business."""
    return name if name is not None and (name in names or name.lower() in names) else None


def snake_case(name: str) -> str:
    """`SparseCategoricalCrossentropy` as `sparse_categorical_crossentropy`, as Keras does it."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict) and "class_name" not in value:
        return [leaf for item in value.values() for leaf in _leaves(item)]
    if isinstance(value, list):
        return [leaf for item in value for leaf in _leaves(item)]
    return [] if value is None else [value]


def _name(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if not isinstance(value, dict) or not isinstance(value.get("class_name"), str):
        return None
    class_name = value["class_name"].rsplit(">", 1)[-1]
    if class_name not in _WRAPPERS:
        return snake_case(class_name)
    config = value.get("config")
    if isinstance(config, dict):
        config = config.get("fn", config.get("name"))
    return _name(config)


def _metric_name(value: Any) -> str | None:
    config = value.get("config") if isinstance(value, dict) else None
    if isinstance(config, dict) and isinstance(config.get("name"), str):
        name: str = config["name"]
        return name
    return _name(value)


def _from_logits(losses: list[Any]) -> bool | None:
    found: set[bool] = set()
    for loss in losses:
        if isinstance(loss, str):
            # A loss given by name has its defaults.
            found.update([False] if "crossentropy" in loss else [])
        elif isinstance(loss, dict) and isinstance(loss.get("config"), dict):
            logits = loss["config"].get("from_logits")
            found.update([logits] if isinstance(logits, bool) else [])
    return found.pop() if len(found) == 1 else None
