"""Which loss and metrics fit an output and its targets: known before a job is queued."""

from collections.abc import Sequence

from app.domain.base import Record
from app.domain.errors import InvalidSpec
from app.domain.prune import AccuracyDropTarget, Target
from app.domain.recovery import FineTune, LossName, MetricName
from app.domain.spec import PruningSpec

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
"""Names in compile configs of the losses that can be computed here."""
CLASSIFICATION: frozenset[LossName] = frozenset(
    {"sparse_categorical_crossentropy", "categorical_crossentropy", "binary_crossentropy"}
)


class Match(Record):
    """One output beside its targets."""

    width: int
    """Length of the output's last axis."""
    activation: str | None
    shape: tuple[int, ...]
    """Of one sample's target."""
    integer: bool
    dtype: str

    @property
    def labels(self) -> bool:
        """Whether the targets are class indexes rather than values of the output's own shape."""
        return self.integer and (not self.shape or self.shape[-1] != self.width or self.width == 1)


def settle(match: Match, asked: LossName | None, compiled: str | None) -> tuple[LossName, str]:
    """The loss of an output, and where it comes from in words.

    Args:
        asked: by the spec; it wins.
        compiled: the name in the model's compile config.

    Raises:
        InvalidSpec: the asked loss cannot be computed from this output and these targets.
    """
    if asked is not None:
        _check_loss(asked, match)
        return asked, "as asked for"
    known = LOSSES.get((compiled or "").lower())
    if known is None:
        loss = _told_by_output(match)
        if compiled is None:
            return loss, "told by the output and its targets"
        return loss, f"instead of the model's own {compiled}, which is not known here"
    fitting: LossName = (
        "sparse_categorical_crossentropy" if match.labels else "categorical_crossentropy"
    )
    categorical = known in ("sparse_categorical_crossentropy", "categorical_crossentropy")
    if known != fitting and (categorical or (match.labels and match.width > 1)):
        kind = "class indexes" if match.labels else "one-hot"
        return fitting, f"instead of the model's {known}, because the targets are {kind}"
    return known, "taken from the model's compile config"


def _told_by_output(match: Match) -> LossName:
    if match.width > 1 and match.labels:
        return "sparse_categorical_crossentropy"
    if match.activation == "softmax":
        return "categorical_crossentropy"
    if match.activation == "sigmoid":
        return "binary_crossentropy"
    return "mean_squared_error"


def _check_loss(loss: LossName, match: Match) -> None:
    targets = f"the targets have shape {match.shape} and type {match.dtype}"
    if loss == "sparse_categorical_crossentropy":
        if not match.labels or match.width == 1:
            raise InvalidSpec(
                f"Loss {loss} needs class indexes and at least two outputs; {targets}, and the "
                f"output has {match.width}.",
                field="fine_tune.loss",
            )
    elif loss == "categorical_crossentropy":
        if match.labels or match.width == 1:
            raise InvalidSpec(
                f"Loss {loss} needs one-hot targets of width {match.width}; {targets}. Use "
                "sparse_categorical_crossentropy for class indexes.",
                field="fine_tune.loss",
            )
    elif match.labels and match.width > 1:
        raise InvalidSpec(
            f"Loss {loss} compares each of the {match.width} outputs with a value of its own; "
            f"{targets}. Use sparse_categorical_crossentropy for class indexes.",
            field="fine_tune.loss",
        )


Settled = Sequence[tuple[LossName, Match]]
"""Loss and targets of each output."""
Shapes = Sequence[tuple[int | None, ...] | None]
"""Of a model's inputs, with the batch axis; None where one is not known."""


def check_asked(spec: PruningSpec, shapes: Shapes, found: Settled) -> None:
    """Hold what a spec asks of training, target and exports against a model and its targets.

    Args:
        spec: the job's.
        shapes: of the model's inputs; none where only running the model tells.
        found: all outputs, or none where not all are known.

    Raises:
        InvalidSpec: they do not go together.
    """
    _check_exports(spec, len(shapes))
    if spec.fine_tune is not None:
        _check_images(spec.fine_tune, shapes, found)
    if found:
        if spec.fine_tune is not None:
            _check_classes(spec.fine_tune, found)
        _check_target(spec.prune.target, [loss for loss, _ in found])


def _check_exports(spec: PruningSpec, inputs: int) -> None:
    if "litert_int8" in spec.exports and inputs > 1:
        raise InvalidSpec(
            f"litert_int8 finds ranges of activations for models with one input, and this one has "
            f"{inputs}: use litert_dynamic_int8.",
            field="exports",
        )


def _check_images(spec: FineTune, shapes: Shapes, found: Settled) -> None:
    if spec.augmentation is None:
        return
    if shapes and None not in shapes and (len(shapes) != 1 or len(shapes[0] or ()) != 4):
        told = ", ".join(str(shape) for shape in shapes)
        raise InvalidSpec(
            "augmentation changes images, one input of (batch, height, width, channels); this "
            f"model takes {told}: leave it out.",
            field="fine_tune.augmentation",
        )
    for _, match in found:
        if len(match.shape) > 1:
            raise InvalidSpec(
                "augmentation moves images and leaves targets, and these targets have places of "
                f"their own (shape {match.shape}): leave it out.",
                field="fine_tune.augmentation",
            )


def _check_classes(spec: FineTune, found: Settled) -> None:
    losses = ", ".join(dict.fromkeys(loss for loss, _ in found))
    if spec.label_smoothing and not any(loss in CLASSIFICATION for loss, _ in found):
        raise InvalidSpec(
            f"label_smoothing spreads labels over classes, and loss {losses} has none: leave it "
            "out.",
            field="fine_tune.label_smoothing",
        )
    if spec.class_weights is None:
        return
    if len(found) > 1:
        raise InvalidSpec(
            f"class_weights weighs samples by the class of the only output, and this model has "
            f"{len(found)}: leave it out.",
            field="fine_tune.class_weights",
        )
    loss, match = found[0]
    one_hot = loss == "categorical_crossentropy" and len(match.shape) == 1
    one_class = one_hot or (loss in CLASSIFICATION and match.shape in ((), (1,)))
    if not one_class:
        raise InvalidSpec(
            f"class_weights needs one class per sample; the loss is {loss}, and targets have "
            f"shape {match.shape}: leave it out.",
            field="fine_tune.class_weights",
        )


def _check_target(target: Target | None, losses: Sequence[LossName]) -> None:
    if isinstance(target, AccuracyDropTarget) and not any(one in CLASSIFICATION for one in losses):
        raise InvalidSpec(
            f"An accuracy_drop target needs an output with classes; the loss is "
            f"{', '.join(dict.fromkeys(losses))}. Use a target such as macs.",
            field="prune.target",
        )


def check_metric(metric: MetricName, loss: LossName, match: Match) -> None:
    """Raises `InvalidSpec` when a metric is not defined for an output with this loss."""
    if metric in ("accuracy", "top_5_accuracy") and loss not in CLASSIFICATION:
        raise InvalidSpec(
            f"{metric} is not defined for loss {loss}; use mean_absolute_error or "
            "mean_squared_error.",
            field="evaluate.metrics",
        )
    if metric == "top_5_accuracy" and match.width < 6:
        raise InvalidSpec(
            f"top_5_accuracy says nothing of {match.width} outputs: use accuracy.",
            field="evaluate.metrics",
        )
    if metric == "auc" and (loss not in CLASSIFICATION or match.width > 2):
        raise InvalidSpec(
            f"auc is defined for two classes; the output has {match.width} units and loss {loss}.",
            field="evaluate.metrics",
        )
