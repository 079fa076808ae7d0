"""The job spec: what a user may ask for.

The request body of `POST /v1/jobs` and the engine's input are this one type. Each choice is a
discriminated union; where a choice has no settings of its own, its bare name is accepted too
(`"criterion": "l1"` means `{"kind": "l1"}`). Shares are fractions in [0, 1], never percents.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from app.domain.base import Strict
from app.domain.choices import Named, Share, wrong
from app.domain.criteria import VariationalDropoutCriterion
from app.domain.prune import (
    CALIBRATED,
    Export,
    HeadGranularity,
    LayerGranularity,
    NmGranularity,
    Prune,
    Runtime,
    WeightGranularity,
)
from app.domain.queues import HIGHEST_PRIORITY, LOWEST_PRIORITY, Resources
from app.domain.recovery import CosineRate, Distillation, FineTune, MetricName


# --- schedule ----------------------------------------------------------------------------------
class OneShotSchedule(Strict):
    """Cut everything at once, then fine-tune."""

    kind: Literal["one_shot"] = "one_shot"


class IterativeSchedule(Strict):
    """Cut equal shares, training `epochs_per_step` after each. [Han et al. 2015]"""

    kind: Literal["iterative"] = "iterative"
    steps: int = Field(default=5, ge=1, le=100)
    epochs_per_step: int = Field(default=1, ge=1, le=1000)


class PolynomialSchedule(Strict):
    """Cut much at first and ever less later: share = 1 - (1 - progress)^power.

    [Zhu & Gupta 2017, arXiv:1710.01878, power 3]
    """

    kind: Literal["polynomial"] = "polynomial"
    steps: int = Field(default=8, ge=1, le=100)
    power: float = Field(default=3.0, gt=0, le=10)
    epochs_per_step: int = Field(default=1, ge=1, le=1000)


Schedule = Annotated[
    Annotated[
        OneShotSchedule | IterativeSchedule | PolynomialSchedule,
        Field(discriminator="kind"),
    ],
    Named,
]


# --- evaluation and exports --------------------------------------------------------------------
class Latency(Strict):
    """How latency is measured: before and after interleaved in one run, medians reported."""

    runtimes: tuple[Runtime, ...] = Field(default=("keras", "litert"), min_length=1, max_length=4)
    batch_sizes: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = Field(
        default=(1, 32), min_length=1, max_length=4
    )
    threads: tuple[Literal["one", "all"], ...] = Field(default=("one",), min_length=1, max_length=2)
    """Of LiteRT and ONNX Runtime: one, as on a busy server or a phone's single core, or as many as
    the worker has cores. Keras always uses all."""
    repeats: int = Field(default=50, ge=5, le=1000)


class Sensitivity(Strict):
    """How much each layer bears: cut alone, without training, and evaluated on validation samples.

    Layers that lose units together are cut together. [Li et al. 2017, arXiv:1608.08710, 3.2]
    """

    shares: tuple[Share, ...] = Field(default=(0.25, 0.5, 0.75, 0.9), min_length=1, max_length=10)
    """Of the layer's weights or units that are removed."""
    layers: int = Field(default=20, ge=1, le=200)
    """The ones with most parameters are looked at."""
    samples: int = Field(default=512, ge=1, le=1_000_000)


class Evaluate(Strict):
    """What is measured before, after the cut, and at the end."""

    metrics: tuple[MetricName, ...] | None = Field(default=None, min_length=1)
    """Inferred from the model's compile config and its loss when left out."""
    latency: Latency | None = Latency()
    sensitivity: Sensitivity | None = None
    """Left out: not looked at."""


MOSTLY_ZEROS = 0.9
"""Share of weights to remove from which on they are learned rather than looked at, by default."""
NEARLY_ALL_ZEROS = 0.97
"""From which on they are learned for twice as long, at the full price."""


class PruningSpec(Strict):
    """A job: model, data, what to cut, how to recover, what to measure, what to hand back.

    Where 90 % or more of the weights are to be zero, there are data, and nothing is said of
    criterion, scope, schedule and fine_tune, the job learns which weights can go: criterion
    variational_dropout (at a price of 0.3; from 97 % on at 1, with 120 epochs) with scope global,
    ten cuts with two epochs after each, and 20 epochs in which the original teaches, with a cosine
    rate. That takes about 100 epochs, or 160.
    """

    model: str = Field(pattern=r"^mdl_[0-9A-Za-z]{1,40}$")
    dataset: str | None = Field(default=None, pattern=r"^dts_[0-9A-Za-z]{1,40}$")
    prune: Prune
    schedule: Schedule = OneShotSchedule()
    fine_tune: FineTune | None = FineTune()
    """`null` prunes without training."""
    control: Literal["dense"] | None = None
    """`dense`: a control to compare with. After the cut, weights are drawn anew and trained from
    scratch for all epochs of the job; granularities that make zeros cut channels instead, to as
    many parameters. The other control is criterion random. [Liu et al. 2019, arXiv:1810.05270]"""
    evaluate: Evaluate = Evaluate()
    exports: tuple[Export, ...] = Field(default=("keras",), min_length=1)
    seed: int = Field(default=0, ge=0, lt=2**32)
    time_limit_seconds: int | None = Field(default=None, ge=1)
    """The service's limit when left out."""
    resources: Resources = Resources()
    priority: int = Field(default=0, ge=LOWEST_PRIORITY, le=HIGHEST_PRIORITY)
    """Higher ones start sooner. One step is worth as much waiting as the service says."""

    @model_validator(mode="after")
    def _learns_what_is_mostly_zeros(self) -> Self:
        said = self.model_fields_set & {"schedule", "fine_tune"}
        said |= self.prune.model_fields_set & {"criterion", "scope"}
        zeros = self.prune.zeros
        weights = isinstance(self.prune.granularity, WeightGranularity)
        if self.dataset is None or said or not weights or zeros < MOSTLY_ZEROS:
            return self
        criterion = VariationalDropoutCriterion(price=0.3)
        if zeros >= NEARLY_ALL_ZEROS:
            criterion = VariationalDropoutCriterion(epochs=120)
        learned = {
            "prune": self.prune.model_copy(update={"criterion": criterion, "scope": "global"}),
            "schedule": PolynomialSchedule(steps=10, epochs_per_step=2),
            "fine_tune": FineTune(
                epochs=20,
                learning_rate_schedule=CosineRate(),
                distillation=Distillation(),
                early_stopping=None,
            ),
        }
        for name, value in learned.items():
            object.__setattr__(self, name, value)
        self.model_fields_set.update(learned)
        return self

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.dataset is None and self.fine_tune is not None:
            if "fine_tune" in self.model_fields_set:
                raise wrong(
                    "fine_tune",
                    "fine_tune needs a dataset: name one, or leave fine_tune out to prune "
                    "without training",
                )
            object.__setattr__(self, "fine_tune", None)
        if self.evaluate.sensitivity is not None:
            self._check_sensitivity()
        if self.dataset is None and self.evaluate.metrics is not None:
            raise wrong(
                "evaluate.metrics",
                "evaluate.metrics needs a dataset: name one, or leave metrics out",
            )
        if self.dataset is None and self.prune.judges:
            raise wrong(
                "prune.target",
                "an accuracy_drop target measures accuracy: name a dataset, or use a target such "
                "as macs",
            )
        if self.dataset is None and self.prune.scope == "sensitivity":
            raise wrong(
                "prune.scope",
                "scope sensitivity measures the loss without a share of each layer: name a "
                "dataset, or use scope layer or global",
            )
        if self.dataset is None and self.prune.needs_data:
            raise wrong(
                "prune.criterion",
                f"criterion {self.prune.criterion.kind} looks at data: name a dataset, or use "
                "magnitude",
            )
        if self.fine_tune is None and isinstance(self.prune.criterion, VariationalDropoutCriterion):
            raise wrong(
                "prune.criterion",
                "criterion variational_dropout is learned by training, and this job does not "
                "train: give a dataset and fine_tune, or use criterion magnitude",
            )
        if self.control is not None:
            self._check_control()
        if self.fine_tune is None and not isinstance(self.schedule, OneShotSchedule):
            raise wrong(
                "schedule",
                f"schedule {self.schedule.kind} trains between cuts, and this job does not train: "
                "give a dataset and fine_tune, or use schedule one_shot",
            )
        looking = [one for one in self.exports if one in CALIBRATED]
        if self.dataset is None and looking:
            raise wrong(
                "exports",
                f"{looking[0]} looks at data to find the range of each activation: name a dataset, "
                "or use litert_dynamic_int8",
            )
        if len(set(self.exports)) != len(self.exports):
            raise wrong("exports", "exports names a format twice")
        return self

    def _check_control(self) -> None:
        if self.fine_tune is None:
            raise wrong(
                "control",
                "a dense control is trained from scratch: give a dataset and fine_tune, or leave "
                "control out",
            )
        if self.prune.judges:
            raise wrong(
                "control",
                "a control is as large as a pruned model, and accuracy_drop finds out how large "
                "that is: use the share that it found as a macs or parameters target",
            )
        if not self.prune.structured and not self.prune.zeros:
            raise wrong(
                "control",
                f"how many weights criterion {self.prune.criterion.kind} removes is not known "
                "beforehand: use a parameters or fraction target",
            )

    def _check_sensitivity(self) -> None:
        if self.dataset is None:
            raise wrong(
                "evaluate.sensitivity",
                "sensitivity is what a cut does to the metric: name a dataset, or leave it out",
            )
        if isinstance(self.prune.granularity, NmGranularity | HeadGranularity | LayerGranularity):
            raise wrong(
                "evaluate.sensitivity",
                f"sensitivity cuts shares of single layers, and granularity "
                f"{self.prune.granularity.kind} has none: use weight, block, unit or channel",
            )
