"""What is cut: granularity, criterion, target, and how layers share it."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from app.domain.base import Strict, Text
from app.domain.choices import Named, Share, wrong
from app.domain.criteria import (
    UNITS_ONLY,
    Calibrated,
    Criterion,
    MagnitudeCriterion,
    ThresholdCriterion,
    VariationalDropoutCriterion,
)

Runtime = Literal["keras", "litert", "litert_sparse", "onnxruntime"]
Export = Literal[
    "keras",
    "h5",
    "sparse_npz",
    "litert",
    "litert_sparse",
    "litert_float16",
    "litert_dynamic_int8",
    "litert_int8",
    "onnx",
    "onnx_int8",
    "saved_model",
]
QUANTISED: tuple[Export, ...] = (
    "litert_float16",
    "litert_dynamic_int8",
    "litert_int8",
    "onnx_int8",
)
"""Exports that compute something a little different; their metrics are measured on the file."""
CALIBRATED: tuple[Export, ...] = ("litert_int8", "onnx_int8")
"""Exports that look at data to find the range of each activation."""
BlockSide = Annotated[int, Field(ge=1, le=1024)]


# --- granularity -------------------------------------------------------------------------------
class WeightGranularity(Strict):
    """Single weights of kernels become zero; only dead units go: see `shrink`."""

    kind: Literal["weight"] = "weight"


class UnitGranularity(Strict):
    """Units of Dense layers are physically removed."""

    kind: Literal["unit"] = "unit"


class ChannelGranularity(Strict):
    """Channels of every layer are physically removed: convolution filters, Dense and recurrent
    units, the dimensions within attention heads. Heads stay: see granularity `head`.
    """

    kind: Literal["channel"] = "channel"


class NmGranularity(Strict):
    """N of every M neighbouring weights along the input axis stay (2:4 by default).

    Decides by itself how many weights go, so it takes no `target`. [Mishra et al. 2021,
    arXiv:2104.08378]
    """

    kind: Literal["n_m"] = "n_m"
    n: int = Field(default=2, ge=1, le=64)
    """Weights that stay of each run of `m`."""
    m: int = Field(default=4, ge=2, le=128)

    @model_validator(mode="after")
    def _removes_something(self) -> Self:
        if self.n >= self.m:
            raise wrong("n", f"n:m keeps n of every m weights, so n must be below m = {self.m}")
        return self


class BlockGranularity(Strict):
    """Rectangles of neighbouring weights become zero together; only dead units go: see `shrink`.

    A kernel counts as a matrix of inputs (its rows) by outputs (its columns).
    """

    kind: Literal["block"] = "block"
    shape: tuple[BlockSide, BlockSide] = (4, 4)
    """Rows (inputs) and columns (outputs) of a block."""


class HeadGranularity(Strict):
    """Whole attention heads are physically removed."""

    kind: Literal["head"] = "head"


class LayerGranularity(Strict):
    """Whole layers or residual blocks are physically removed, where the graph allows it."""

    kind: Literal["layer"] = "layer"


Granularity = Annotated[
    Annotated[
        WeightGranularity
        | NmGranularity
        | BlockGranularity
        | UnitGranularity
        | ChannelGranularity
        | HeadGranularity
        | LayerGranularity,
        Field(discriminator="kind"),
    ],
    Named,
]


# --- target ------------------------------------------------------------------------------------
class FractionTarget(Strict):
    """Remove this share of what the granularity counts and the model allows to go: weights, blocks,
    units, channels, heads, or residual blocks and layers."""

    kind: Literal["fraction"] = "fraction"
    remove: Share


class ParametersTarget(Strict):
    """Keep at most this share of the model's parameters (non-zero ones with weights)."""

    kind: Literal["parameters"] = "parameters"
    keep: Share


class MacsTarget(Strict):
    """Keep at most this share of the model's multiply-accumulates per sample."""

    kind: Literal["macs"] = "macs"
    keep: Share


class BytesTarget(Strict):
    """The file of an export is at most this large."""

    kind: Literal["bytes"] = "bytes"
    export: Export = "keras"
    max: int = Field(ge=1)
    """Bytes of the file as it is downloaded."""

    @model_validator(mode="after")
    def _is_written_without_data(self) -> Self:
        if self.export in CALIBRATED:
            raise wrong(
                "export",
                "the search for a size writes files without data: use litert_dynamic_int8, whose "
                "file is about as large",
            )
        return self


class LatencyTarget(Strict):
    """A call on a runtime takes at most this long, as measured on the worker's machine."""

    kind: Literal["latency"] = "latency"
    runtime: Runtime = "litert"
    batch_size: int = Field(default=1, ge=1, le=4096)
    keep: Share | None = None
    """At most this share of the original's time."""
    max_ms: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        if (self.keep is None) == (self.max_ms is None):
            raise ValueError("a latency target says either keep or max_ms")
        return self


class AccuracyDropTarget(Strict):
    """As small as possible while at most so much accuracy is lost.

    Candidates are pruned and trained one after the other, each as the rest of the spec says, and
    judged on the validation samples: with 95 % confidence, the loss must be within the limit.
    Where no validation split is stored, half of a stored test split judges, since training samples
    would flatter. The other test samples choose nothing: they give the final figure.
    """

    kind: Literal["accuracy_drop"] = "accuracy_drop"
    max_points: float = Field(ge=0, le=100)
    """Percentage points of accuracy; of the output that loses most, where there are several."""
    measure: Literal["parameters", "macs"] | None = None
    """What is made small. Left out: MACs, with zeros the parameters that are not zero."""
    trials: int = Field(default=8, ge=1, le=100)
    """Candidates that are tried at most."""
    minutes: float | None = Field(default=None, gt=0)
    """No candidate is begun that would end later than this; the first is tried anyway. A job that
    goes on after a crash counts anew."""


Target = Annotated[
    FractionTarget
    | ParametersTarget
    | MacsTarget
    | BytesTarget
    | LatencyTarget
    | AccuracyDropTarget,
    Field(discriminator="kind"),
]


# --- prune -------------------------------------------------------------------------------------
class LayerOverride(Strict):
    """What differs for the layers whose name matches; the last match wins field by field."""

    match: Text = Field(min_length=1, max_length=200)
    """Shell-style pattern of layer names: `block5_*`, `dense_?`, `predictions`."""
    skip: bool = False
    """Leave these layers as they are."""
    remove: Share | None = None
    """Remove this share here, instead of the target's."""
    max_remove: Share | None = None
    """Never remove more than this share here."""

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        if self.skip and (self.remove is not None or self.max_remove is not None):
            raise ValueError(
                "skip leaves the layer as it is: give either skip or remove/max_remove"
            )
        if not self.skip and self.remove is None and self.max_remove is None:
            raise ValueError("an override says skip, remove or max_remove")
        return self


class Prune(Strict):
    """What is cut, how it is chosen, and how much of it."""

    granularity: Granularity = ChannelGranularity()
    criterion: Criterion = MagnitudeCriterion()
    scope: Literal["layer", "global", "isomorphic", "latency", "sensitivity"] = "layer"
    """`layer`: the share holds in every layer. `global`: layers compete. `isomorphic`: layers of
    like structure compete among themselves; weights all do. [Fang et al. 2024, arXiv:2407.04616]
    `latency`: layers compete, and units that give little computation for their time go sooner.
    [Shen et al. 2022, arXiv:2110.10811]. `sensitivity`: each layer is first cut alone, without
    training, and loses a share that costs as much of the loss on validation samples as any other's.
    [After Li et al. 2017, arXiv:1608.08710]"""
    reduction: Literal["mean", "sum", "max", "first"] = "mean"
    """How the saliencies of coupled layers' slices become one unit's. [Fang et al. 2023,
    arXiv:2301.12900]"""
    normalisation: Literal["none", "mean", "max", "gaussian", "lamp"] = "mean"
    """How units of different layers are made comparable where layers compete."""
    target: Target | None = None
    layers: tuple[LayerOverride, ...] = Field(default=(), max_length=200)
    round_to: int | None = Field(default=None, ge=1, le=256)
    """Keep a multiple of this many units in each layer. Left out: none with a fraction target;
    with the others up to 8, which fills the lanes of SIMD units, where the layer is wide enough."""
    min_units: int = Field(default=1, ge=1, le=65536)
    """Keep at least this many units in each layer."""
    shrink: bool = True
    """With zeros (`weight`, `n_m`, `block`): at the end, remove units that have become dead. These
    are units that nobody reads any more, and units whose weights are all zero, whose value goes
    into the biases of their readers. Outputs stay the same. `false` keeps all shapes."""

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        structured = self.structured
        if isinstance(self.granularity, NmGranularity):
            if self.target is not None:
                raise ValueError(
                    "granularity n_m decides by n and m how much goes: leave target out"
                )
            if self.scope != "layer":
                raise ValueError("granularity n_m is per run of weights: scope must be layer")
            if isinstance(self.criterion, ThresholdCriterion):
                raise ValueError("granularity n_m keeps the best n: threshold does not apply")
            if any(override.remove is not None for override in self.layers):
                raise ValueError("granularity n_m takes skip overrides only")
        if isinstance(self.criterion, ThresholdCriterion):
            if self.target is not None:
                raise ValueError(
                    "criterion threshold decides by its quality how much goes: leave target out"
                )
            if not isinstance(self.granularity, WeightGranularity):
                raise ValueError("criterion threshold is defined for granularity weight only")
            if self.scope != "layer":
                raise ValueError("criterion threshold is per layer: scope must be layer")
            if any(override.remove is not None for override in self.layers):
                raise ValueError("criterion threshold takes skip overrides only")
        elif self.target is None and not isinstance(self.granularity, NmGranularity):
            raise wrong(
                "target", 'target is missing; for example {"kind": "fraction", "remove": 0.5}'
            )
        if isinstance(self.criterion, UNITS_ONLY) and not structured:
            raise wrong(
                "criterion",
                f"criterion {self.criterion.kind} ranks whole units, and granularity "
                f"{self.granularity.kind} only puts weights to zero: use granularity channel, or "
                "a criterion of weights such as magnitude, lamp or taylor",
            )
        if isinstance(self.criterion, VariationalDropoutCriterion) and structured:
            raise wrong(
                "criterion",
                "criterion variational_dropout learns which weights can be zero, and granularity "
                f"{self.granularity.kind} removes whole units: use granularity weight, n_m or "
                "block, or a criterion of units such as taylor",
            )
        if isinstance(self.target, MacsTarget | BytesTarget | LatencyTarget) and not structured:
            raise ValueError(
                f"zero weights are still stored and multiplied, so granularity "
                f"{self.granularity.kind} cannot reach a {self.target.kind} target: use "
                "granularity channel, or a fraction or parameters target"
            )
        if (
            isinstance(self.target, AccuracyDropTarget)
            and self.target.measure == "macs"
            and not structured
        ):
            raise wrong(
                "target.measure",
                f"zero weights are still multiplied, so granularity {self.granularity.kind} saves "
                "no MACs: leave measure out, or use granularity channel",
            )
        if self.scope == "latency" and (
            not structured or isinstance(self.granularity, LayerGranularity)
        ):
            raise wrong(
                "scope",
                f"scope latency weighs the time of units, and granularity {self.granularity.kind} "
                "removes none: use granularity channel, or scope global",
            )
        if not structured and (self.round_to is not None or self.min_units != 1):
            raise ValueError("round_to and min_units count units: use granularity unit or channel")
        if self.scope == "sensitivity":
            self._check_sensitivity()
        return self

    def _check_sensitivity(self) -> None:
        if isinstance(self.granularity, NmGranularity | HeadGranularity | LayerGranularity):
            raise wrong(
                "scope",
                "scope sensitivity cuts shares of single layers, and granularity "
                f"{self.granularity.kind} has none: use weight, block, unit or channel, or another "
                "scope",
            )
        if isinstance(self.criterion, VariationalDropoutCriterion):
            raise wrong(
                "scope",
                "criterion variational_dropout learns how much each layer loses: use scope global",
            )
        if isinstance(self.target, BytesTarget | LatencyTarget):
            raise wrong(
                "scope",
                f"scope sensitivity does not search for a {self.target.kind} target: use a "
                "fraction, parameters, macs or accuracy_drop target, or another scope",
            )

    @property
    def structured(self) -> bool:
        """Whether layers become physically smaller, rather than sparse."""
        return not isinstance(
            self.granularity, WeightGranularity | NmGranularity | BlockGranularity
        )

    @property
    def zeros(self) -> float:
        """Share of weights that are asked to become zero; 0 where units go, or that is not said."""
        if isinstance(self.granularity, NmGranularity):
            return 1.0 - self.granularity.n / self.granularity.m
        if self.structured:
            return 0.0
        match self.target:
            case FractionTarget(remove=remove):
                return remove
            case ParametersTarget(keep=keep):
                return 1.0 - keep
            case _:
                return 0.0

    @property
    def measure(self) -> Literal["parameters", "macs"]:
        """What an accuracy_drop target makes small."""
        named = self.target.measure if isinstance(self.target, AccuracyDropTarget) else None
        return named or ("macs" if self.structured else "parameters")

    @property
    def judges(self) -> bool:
        """Whether candidates are made and judged by what they lose."""
        return isinstance(self.target, AccuracyDropTarget)

    @property
    def needs_data(self) -> bool:
        """Whether the criterion looks at data."""
        return isinstance(self.criterion, Calibrated)
