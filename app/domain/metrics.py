"""`metrics.json`: the figures of a job, each measured in that job."""

from pydantic import Field

from app.domain.base import Record
from app.domain.confinement import Confinement


class MetricValue(Record):
    """One metric on held-out samples."""

    value: float | None
    """None where it is no number: a diverged loss, an AUC of one class."""
    interval: tuple[float, float] | None = None
    """95 % confidence interval, where one is defined (Wilson's for accuracies)."""
    samples: int


class LatencyValue(Record):
    """Time of one call, before and after interleaved in the same run."""

    runtime: str
    batch_size: int
    threads: int
    p50_ms: float
    p95_ms: float
    repeats: int
    speed_up: float | None = None
    """Of the final model against the original: the median over pairs of neighbouring calls."""
    speed_up_interval: tuple[float, float] | None = None
    """95 % confidence interval of that median."""


class State(Record):
    """The model at one moment of the job."""

    parameters: int
    nonzero_parameters: int
    macs: int
    """Multiply-accumulates for one sample."""
    macs_exact: bool = True
    """False where an axis of variable length was counted as one step."""
    bytes: dict[str, int] = {}
    """Size by export, as written."""
    compressed_bytes: dict[str, int] = {}
    """Size by export after DEFLATE level 6: what a download or an app package costs."""
    zstd_bytes: dict[str, int] = {}
    """Size by export after Zstandard level 3."""
    memory_bytes: dict[str, int] = {}
    """Resident memory that opening the file and running one sample added to a process at its peak,
    by runtime, in whole pages; small models find room in memory that the process already has."""
    evaluation: dict[str, MetricValue] = {}
    latency: tuple[LatencyValue, ...] = ()
    exported: dict[str, dict[str, MetricValue]] = {}
    """Metrics of quantised files on the same held-out samples, run by their own runtime, by
    export."""


class EqualityFigure(Record):
    """Proof that removing equals masking, and that dead units were dead: the largest difference
    on probe inputs, of all cuts and of the shrink at the end."""

    max_abs_difference: float
    output_scale: float
    samples: int
    holds: bool


class SensitiveLayer(Record):
    """One layer, or several that lose units together."""

    layers: tuple[str, ...]
    values: tuple[float | None, ...]
    """The metric without each share of it; None where so much cannot go."""


class SensitivityFigure(Record):
    """What the original bears, layer by layer, on validation samples."""

    metric: str
    """Its name; `loss` where there is no other."""
    whole: float | None
    """Of the original."""
    shares: tuple[float, ...]
    layers: tuple[SensitiveLayer, ...]
    """In the model's order."""
    samples: int


class SparseFigure(Record):
    """A Dense kernel in sparse rows (CSR), beside the layer on LiteRT; one sample, one thread."""

    sparsity: float
    """Share of the kernel's entries that are zero."""
    dense_ms: float
    sparse_ms: float
    speed_up: float
    """Of sparse over dense: the median over pairs of neighbouring calls."""
    speed_up_interval: tuple[float, float]
    break_even: float | None
    """Sparsity from which on sparse is faster, by a line through measured random patterns; None
    where it never is, as for small layers."""


class LayerFigure(Record):
    """What happened to one layer."""

    name: str
    class_name: str = Field(alias="class")
    parameters_before: int
    parameters_after: int
    nonzero_after: int
    macs_before: int
    macs_after: int
    units_before: int | None = None
    units_after: int | None = None
    note: str | None = None
    sparse: SparseFigure | None = None
    """With zeros, of large Dense layers, where latency is measured."""


class EpochFigure(Record):
    """One epoch of fine-tuning."""

    epoch: int
    step: int
    seconds: float
    logs: dict[str, float | None]


class TensorFigure(Record):
    """An input or output of a file."""

    name: str
    """As its runtime calls it."""
    shape: tuple[int | None, ...]
    """None for an axis of any length."""
    dtype: str


class FileFigure(Record):
    """An exported file of the final model: how to feed it, how near it is to the Keras model."""

    name: str
    inputs: tuple[TensorFigure, ...] = ()
    outputs: tuple[TensorFigure, ...] = ()
    """In the model's order."""
    details: dict[str, str] = {}
    """Versions and operation sets."""
    difference: float | None = None
    """Largest difference to the Keras model's outputs, as a share of the largest; None where they
    are of other shapes or not finite at other places, or where the file has no runtime."""
    samples: int = 0
    """On which that was seen: held-out ones, random numbers where there are no data."""


class TrialFigure(Record):
    """One measured cut on the way to a bytes, latency or accuracy_drop target; with the first two
    the original is the first."""

    keep: float
    """Share of the parameters (bytes) or MACs (latency) that this cut leaves; with accuracy_drop of
    what it makes small."""
    parameters: int
    macs: int
    value: float
    """What was measured, in the target's unit: points of accuracy lost on validation samples with
    accuracy_drop."""
    interval: tuple[float, float] | None = None
    """95 % confidence interval of the value, where it is noisy."""
    predicted: float | None = None
    """What the model of the search foresaw before this trial."""


class TargetFigure(Record):
    """What the spec's target asked for, and what became of it."""

    kind: str
    asked: float
    achieved: float
    unit: str
    met: bool
    """Whether what was asked is reached: at most so many bytes, at least so many units gone."""
    within: bool
    """Whether it is met and hit: achieved lies within 1 % of asked, latency within 2 %."""
    note: str | None = None
    """Why it was missed, or why more was removed than asked."""
    interval: tuple[float, float] | None = None
    """95 % confidence interval of what was achieved, with accuracy_drop."""
    trials: tuple[TrialFigure, ...] = ()


class Metrics(Record):
    """The whole of metrics.json."""

    before: State
    pruned: State
    after: State
    equality: EqualityFigure | None
    """None where nothing was physically removed after which outputs could be compared."""
    files: dict[str, FileFigure] = {}
    """By export: what is handed out."""
    per_layer: tuple[LayerFigure, ...]
    history: tuple[EpochFigure, ...] = ()
    phases_seconds: dict[str, float]
    sensitivity: SensitivityFigure | None = None
    target: TargetFigure | None = None
    """None where the criterion or granularity decides by itself how much goes."""
    verdict: tuple[str, ...]
    """In words: what became smaller and faster, and plainly what did not."""
    notes: tuple[str, ...] = ()
    """Decisions taken on the user's behalf: inferred loss, held-out share, kept units."""
    accuracy_measured: bool
    unlabelled: bool = False
    """Whether metrics compare with the original's answers, because the data have no targets."""
    loss: str | None = None
    peak_memory_bytes: int
    """Of the job's process. Libraries that it shares with the template of jobs' processes count as
    far as it has used them."""
    seed: int
    versions: dict[str, str]
    device: str
    confinement: Confinement = Confinement()
    """What held the job's process while it worked on the upload."""


class PlannedLayer(Record):
    """What a plan would do to one layer."""

    name: str
    class_name: str = Field(alias="class")
    units: int | None
    """Units or channels now; None for layers without."""
    removed: int
    """Units removed; weights set to zero with granularities weight, n_m and block."""
    parameters_before: int
    parameters_after: int
    macs_before: int
    macs_after: int
    note: str | None = None
    """Why nothing, or less than asked, would be cut here."""


class PlannedState(Record):
    """Predicted size."""

    parameters: int
    nonzero_parameters: int
    macs: int
    bytes: int
    """Bytes of the weights in their own dtypes; container overhead is not counted."""


class Plan(Record):
    """Answer of the dry run: nothing was queued, trained or stored."""

    granularity: str
    before: PlannedState
    after: PlannedState
    layers: tuple[PlannedLayer, ...]
    target: TargetFigure | None = None
    """For bytes and latency targets: what was measured, or estimated, for this plan."""
    notes: tuple[str, ...] = ()
    waiting_reason: str | None = None
    """Why the job itself would wait: no worker that is alive can take it."""
