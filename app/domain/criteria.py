"""How weights and units are ranked: the criteria of a spec."""

from typing import Annotated, Literal

from pydantic import Field

from app.domain.base import Strict
from app.domain.choices import Named


class MagnitudeCriterion(Strict):
    """|w| of a weight, Euclidean norm of a unit: the smallest go first. [Han et al. 2015]"""

    kind: Literal["magnitude"] = "magnitude"


class L1Criterion(Strict):
    """Sum of |w| over a unit: the smallest go first. [Li et al. 2017, arXiv:1608.08710]"""

    kind: Literal["l1"] = "l1"


class L2Criterion(Strict):
    """Euclidean norm of a unit: the smallest go first."""

    kind: Literal["l2"] = "l2"


class RandomCriterion(Strict):
    """By chance, from the spec's seed: the control that any criterion must beat."""

    kind: Literal["random"] = "random"


class ThresholdCriterion(Strict):
    """Weights below quality × the layer's standard deviation become zero.

    Decides how many weights go by itself, so it takes no `target`. [Han et al. 2015,
    arXiv:1506.02626]
    """

    kind: Literal["threshold"] = "threshold"
    quality: float = Field(gt=0, le=10, default=1.0)
    """Factor on the standard deviation of the layer's weights."""


class LampCriterion(Strict):
    """Layer-adaptive magnitude: w² over the sum of the squares not yet smaller, per layer.

    Meant for scope `global`. [Lee et al. 2021, arXiv:2010.07611]
    """

    kind: Literal["lamp"] = "lamp"


class GeometricMedianCriterion(Strict):
    """Units nearest to all others of their layer are the most replaceable: they go first.

    FPGM. [He et al. 2019, arXiv:1811.00250]
    """

    kind: Literal["geometric_median"] = "geometric_median"


class BatchNormScaleCriterion(Strict):
    """|γ| of the batch normalisation behind a channel; its norm where there is none.

    Network slimming. [Liu et al. 2017, arXiv:1708.06519]
    """

    kind: Literal["batch_norm_scale"] = "batch_norm_scale"


class Calibrated(Strict):
    """A criterion that looks at data: `samples` of the training split, streamed."""

    samples: int = Field(default=1024, ge=1, le=1_000_000)


class TaylorCriterion(Calibrated):
    """First-order estimate of the change in loss, |w · ∂L/∂w|.

    [Molchanov et al. 2019, arXiv:1906.10771]
    """

    kind: Literal["taylor"] = "taylor"


class FisherCriterion(Calibrated):
    """Optimal brain damage with the Fisher diagonal for the Hessian: ½ w² E[(∂L/∂w)²].

    [LeCun et al. 1990; Theis et al. 2018, arXiv:1801.05787]
    """

    kind: Literal["fisher"] = "fisher"


class WandaCriterion(Calibrated):
    """|w| times the norm of the input that it reads. [Sun et al. 2023, arXiv:2306.11695]"""

    kind: Literal["wanda"] = "wanda"


class ApozCriterion(Calibrated):
    """Units whose activations are most often zero go first (average percentage of zeros).

    [Hu et al. 2016, arXiv:1607.03250]
    """

    kind: Literal["apoz"] = "apoz"


class ActivationCriterion(Calibrated):
    """Mean absolute activation of a unit: the quietest go first.

    [Molchanov et al. 2017, arXiv:1611.06440]
    """

    kind: Literal["activation"] = "activation"


class VariationalDropoutCriterion(Strict):
    """Learns how much noise each weight bears: those that the noise drowns go first.

    Before the first cut, and between cuts, training adds Gaussian noise to every weight, w + σ·ε,
    learns σ along with w, and prices what a weight tells through its noise (the Kullback-Leibler
    divergence from a log-uniform prior), so that weights which the loss does not need drown. Takes
    long, and reaches higher sparsity than any criterion that only looks. Meant for scope `global`.
    [Sparse variational dropout, Molchanov et al. 2017, arXiv:1701.05369]
    """

    kind: Literal["variational_dropout"] = "variational_dropout"
    epochs: int = Field(default=60, ge=1, le=10_000)
    """Of learning before the first cut."""
    warmup_epochs: float = Field(default=20.0, ge=0, le=10_000)
    """Epochs in which the price rises from 0, in a straight line."""
    price: float = Field(default=1.0, gt=0, le=1000)
    """Factor on the divergence; 1 is the variational bound itself, more drowns more weights."""


Criterion = Annotated[
    Annotated[
        MagnitudeCriterion
        | L1Criterion
        | L2Criterion
        | RandomCriterion
        | ThresholdCriterion
        | LampCriterion
        | GeometricMedianCriterion
        | BatchNormScaleCriterion
        | TaylorCriterion
        | FisherCriterion
        | WandaCriterion
        | ApozCriterion
        | ActivationCriterion
        | VariationalDropoutCriterion,
        Field(discriminator="kind"),
    ],
    Named,
]


UNITS_ONLY = (
    GeometricMedianCriterion,
    BatchNormScaleCriterion,
    ApozCriterion,
    ActivationCriterion,
)
"""Criteria that say something of whole units only."""
