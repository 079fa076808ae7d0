"""What the model was compiled with: names only, for defaults and hints."""

import re
from typing import Any

from app.domain.model import TrainingInfo

_WRAPPERS = frozenset({"LossFunctionWrapper", "MeanMetricWrapper", "function"})


def read_training(config: Any) -> TrainingInfo | None:
    """The compile config of a `.keras` file, or the training config of an `.h5` file."""
    if not isinstance(config, dict):
        return None
    losses = _leaves(config.get("loss"))
    names = {name for loss in losses if (name := _name(loss))}
    optimizer = config.get("optimizer", config.get("optimizer_config"))
    metrics = [_metric_name(item) for item in _leaves(config.get("metrics"))]
    return TrainingInfo(
        loss=names.pop() if len(names) == 1 else None,
        loss_from_logits=_from_logits(losses),
        metrics=tuple(dict.fromkeys(name for name in metrics if name)),
        optimizer=_name(optimizer),
    )


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
