"""The part of a spec that says how a pruned model is trained to be good again."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from app.domain.base import Strict
from app.domain.choices import Named


class AdamOptimizer(Strict):
    """Adam; AdamW when `weight_decay` is given."""

    kind: Literal["adam"] = "adam"
    learning_rate: float = Field(default=1e-3, gt=0, le=10)
    weight_decay: float | None = Field(default=None, ge=0, le=1)


class SgdOptimizer(Strict):
    """Stochastic gradient descent with momentum."""

    kind: Literal["sgd"] = "sgd"
    learning_rate: float = Field(default=1e-2, gt=0, le=10)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float | None = Field(default=None, ge=0, le=1)


class RmspropOptimizer(Strict):
    """RMSprop."""

    kind: Literal["rmsprop"] = "rmsprop"
    learning_rate: float = Field(default=1e-3, gt=0, le=10)


Optimizer = Annotated[
    Annotated[AdamOptimizer | SgdOptimizer | RmspropOptimizer, Field(discriminator="kind")],
    Named,
]


class ConstantRate(Strict):
    """The optimizer's learning rate throughout."""

    kind: Literal["constant"] = "constant"
    warmup_epochs: float = Field(default=0.0, ge=0, le=1000)
    """Epochs in which the rate rises from 0, in a straight line."""


class CosineRate(Strict):
    """From the optimizer's learning rate down to a share of it, along half a cosine.

    Every cut of a schedule starts anew at the full rate. [Loshchilov & Hutter 2017,
    arXiv:1608.03983; learning-rate rewinding, Renda et al. 2020, arXiv:2003.02389]
    """

    kind: Literal["cosine"] = "cosine"
    final_share: float = Field(default=0.0, ge=0, le=1)
    """Share of the rate that is left after the last epoch."""
    warmup_epochs: float = Field(default=0.0, ge=0, le=1000)
    """Epochs in which the rate rises from 0, in a straight line; they count towards the epochs."""


Rate = Annotated[
    Annotated[ConstantRate | CosineRate, Field(discriminator="kind")],
    Named,
]

LossName = Literal[
    "sparse_categorical_crossentropy",
    "categorical_crossentropy",
    "binary_crossentropy",
    "mean_squared_error",
    "mean_absolute_error",
    "huber",
]
MetricName = Literal[
    "accuracy", "top_5_accuracy", "auc", "mean_squared_error", "mean_absolute_error"
]


class EarlyStopping(Strict):
    """Stop after `patience` epochs without a better validation loss; keep the best weights."""

    patience: int = Field(default=3, ge=1, le=1000)
    min_delta: float = Field(default=0.0, ge=0)


class Distillation(Strict):
    """The original model teaches: its outputs count beside the targets.

    Loss = (1 - weight)·loss(targets) + weight·T²·CE(teacher^(1/T), student^(1/T)) for classes; for
    other outputs the loss between both models' outputs. The noise of criterion variational_dropout
    is learned from the targets alone. Regularisation of weights stays whole, and
    masked steps of sequences count like others. [Hinton et al. 2015, arXiv:1503.02531]
    """

    temperature: float = Field(default=4.0, gt=0, le=100)
    """T: above 1 it also teaches how the wrong classes compare."""
    weight: float = Field(default=0.5, gt=0, le=1)
    """The teacher's part of the loss; 1 leaves the targets out."""
    features: float = Field(default=0.0, ge=0, le=1e6)
    """γ: factor on how differently both models find the samples of a batch alike, at up to four
    layers. Widths need not be the same, and the teacher is asked batch by batch. The paper has
    3000 for images. [Similarity-preserving distillation, Tung & Mori 2019, arXiv:1907.09682]"""


class Augmentation(Strict):
    """Random changes of training images, anew in each epoch; their targets stay."""

    flip: bool = False
    """Mirror half of the images left to right."""
    shift: float = Field(default=0.0, ge=0, le=0.5)
    """Move by up to this share of height and width; the edge is repeated."""

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if not self.flip and not self.shift:
            raise ValueError("augmentation says flip, shift or both; leave it out for neither")
        return self


class FineTune(Strict):
    """Training after the cut; pruned weights stay exactly zero throughout."""

    epochs: int = Field(default=10, ge=0, le=10_000)
    """Epochs after the last cut. 0 trains nothing; batch normalisation is measured anew."""
    batch_size: int = Field(default=128, ge=1, le=65536)
    optimizer: Optimizer = AdamOptimizer()
    learning_rate_schedule: Rate = CosineRate()
    """How the optimizer's learning rate changes, from batch to batch."""
    mixed_precision: bool = False
    """Hidden layers compute in bfloat16 while weights, their updates and outputs stay float32:
    faster on processors with units for it, slower on others. Results differ a little from those
    without. [Micikevicius et al. 2018, arXiv:1710.03740]"""
    clip_norm: float | None = Field(default=None, gt=0)
    """Gradients together are scaled down to this Euclidean norm. [Pascanu et al. 2013,
    arXiv:1211.5063]"""
    loss: LossName | None = None
    """Inferred from the model's compile config, or from its output, when left out."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of each label that is spread over all classes. [Szegedy et al. 2016,
    arXiv:1512.00567]"""
    class_weights: Literal["balanced"] | None = None
    """`balanced`: samples of rare classes count more, each class as much as any other."""
    augmentation: Augmentation | None = None
    """For models with one input of images, (height, width, channels)."""
    distillation: Distillation | None = Distillation()
    """`null`: the targets alone teach."""
    early_stopping: EarlyStopping | None = EarlyStopping()
    """`null` trains all epochs and keeps the last weights."""
