"""The verdict: figures put into words, the disappointing ones too."""

from app.domain.metrics import LatencyValue, Metrics, MetricValue, State, TargetFigure
from app.domain.prune import BlockGranularity, Granularity, NmGranularity, Prune, WeightGranularity
from app.domain.spec import PruningSpec

NOTICEABLE = 1.05
"""Ratios below this are no news."""
SEARCHED = ("bytes", "latency", "accuracy_drop")
"""Targets whose cut is found by measuring."""


def verdict(metrics: Metrics, spec: PruningSpec) -> tuple[str, ...]:
    """Sentences: size, speed, quality, and the target where there is something to say of it."""
    before, after = metrics.before, metrics.after
    untouched = (
        metrics.pruned.parameters == before.parameters
        and metrics.pruned.nonzero_parameters >= before.nonzero_parameters
        and not _shrunk(before, after)
    )
    return tuple(
        sentence
        for sentence in (
            _untouched(metrics.target, spec.prune.granularity)
            if untouched
            else _size(before, after, spec.prune),
            _speed(metrics, spec.prune),
            _quality(metrics),
            "" if metrics.target is None else _target(metrics.target),
        )
        if sentence
    )


def _too_little(granularity: Granularity) -> str:
    match granularity:
        case NmGranularity(n=n, m=m):
            return f"no kernel may lose weights, or their inputs are too few for {n}:{m}"
        case WeightGranularity():
            piece, whole = "weight", "kernel"
        case BlockGranularity():
            piece, whole = "block", "kernel"
        case _:
            piece, whole = "unit", "layer"
    return f"the target asks for less than one {piece} of any {whole} that may lose some"


def _untouched(target: TargetFigure | None, granularity: Granularity) -> str:
    if target is not None and target.kind == "accuracy_drop" and target.note:
        return f"NOTHING WAS REMOVED: {target.note}."
    if target is not None and target.kind in SEARCHED and target.met:
        return f"NOTHING WAS REMOVED: the target is met as it is; {target.note}."
    return f"NOTHING WAS REMOVED: {_too_little(granularity)}; the notes of the layers say why."


def _target(target: TargetFigure) -> str:
    """Missed and why, or more removed than asked and why; else what a search has reached."""
    # A share to remove is a least, everything else a most.
    bound = "at least" if target.kind == "fraction" else "at most"
    asked, achieved = (_amount(target, value) for value in (target.asked, target.achieved))
    said = f"{bound} {asked} {target.unit} asked, {achieved} achieved"
    if target.interval is not None:
        low, high = target.interval
        said += f", 95 % interval {low:.2f} to {high:.2f}"
    why = f": {target.note}" if target.note else ""
    if not target.met:
        return f"TARGET MISSED ({said}){why}."
    if not target.within:
        return f"The target is met with room to spare ({said}){why}."
    return f"The target is met ({said})." if target.kind in SEARCHED else ""


def _amount(target: TargetFigure, value: float) -> str:
    if target.kind == "accuracy_drop":
        return f"{value:.2f}"
    return f"{value:,.0f}" if target.kind == "bytes" else f"{value:.4g}"


def _size(before: State, after: State, prune: Prune) -> str:
    raw = before.bytes["keras"] / after.bytes["keras"]
    if prune.structured:
        return f"{_smaller(before, after)}; the .keras file is " + (
            f"{raw:.1f}x smaller." if raw >= NOTICEABLE else "not noticeably smaller."
        )
    packed = before.compressed_bytes["keras"] / after.compressed_bytes["keras"]
    share = 1 - after.nonzero_parameters / max(before.nonzero_parameters, 1)
    lost, zeros = f"became zero{_pattern(prune)}.", "zeros"
    if _shrunk(before, after):
        lost = (
            f"became zero or went with dead units{_pattern(prune)}. Without those units, "
            f"{_smaller(before, after)}."
        )
        zeros = "the zeros that are left"
    same = "no smaller as it is, because"
    if raw >= NOTICEABLE:
        same = f"{raw:.1f}x smaller as it is, although"
    return (
        f"{share:.1%} of the non-zero parameters {lost} The .keras file is {same} {zeros} are "
        f"stored like other numbers, and {packed:.1f}x smaller when compressed."
    )


def _smaller(before: State, after: State) -> str:
    return (
        f"{before.parameters:,} parameters became {after.parameters:,} "
        f"({_fewer(before.parameters, after.parameters)}), {before.macs:,} MACs became "
        f"{after.macs:,} ({_fewer(before.macs, after.macs)})"
    )


def _shrunk(before: State, after: State) -> bool:
    """Whether layers became narrower; with zeros, by the dead units that went."""
    return after.parameters < before.parameters


def _pattern(prune: Prune) -> str:
    match prune.granularity:
        case NmGranularity(n=n, m=m):
            limited = any(override.max_remove is not None for override in prune.layers)
            many = f"up to {m - n}" if limited else f"{m - n}"
            return f": {many} of every {m} weights along the inputs of the pruned kernels"
        case BlockGranularity(shape=(rows, columns)):
            return f", in blocks of {rows} inputs by {columns} outputs"
        case _:
            return ""


def _fewer(before: int, after: int) -> str:
    ratio = before / max(after, 1)
    return (
        f"{ratio:.1f}x fewer" if ratio >= NOTICEABLE else f"{1 - after / max(before, 1):.1%} fewer"
    )


def _speed(metrics: Metrics, prune: Prune) -> str:
    pairs = list(zip(metrics.before.latency, metrics.after.latency, strict=True))
    if not pairs:
        return "Latency was not measured."
    said = "; ".join(_one_speed(before, after) for before, after in pairs)
    text = f"Measured on {metrics.device}: {said}."
    faster = any(_is_faster(after) for _, after in pairs)
    if not prune.structured and not faster:
        gone = _shrunk(metrics.before, metrics.after)
        zeros = "the zeros that are left" if gone else "zeros too"
        text += (
            f" Dense kernels multiply {zeros}, so there is no speed-up: granularity channel "
            "removes whole channels and makes models faster." + _who_gains(prune.granularity)
        )
    elif not faster:
        text += (
            " There is no speed-up on this machine: at this size the cost of a call is not its "
            "multiplications."
        )
    return text


def _who_gains(granularity: Granularity) -> str:
    match granularity:
        case NmGranularity(n=2, m=4):
            return (
                " 2:4 pays on hardware that skips its zeros, such as the sparse tensor cores of "
                "NVIDIA GPUs, through a runtime that uses them."
            )
        case NmGranularity(n=n, m=m):
            return f" {n}:{m} pays only on hardware made to skip its zeros."
        case BlockGranularity():
            return (
                " Blocks of zeros pay in runtimes that have block-sparse kernels: in Dense layers "
                "LiteRT skips blocks of shape [4, 1] where export litert_sparse holds them."
            )
        case _:
            return ""


def _is_faster(after: LatencyValue) -> bool:
    """Faster beyond doubt: the whole interval lies above what is noticeable."""
    return after.speed_up_interval is not None and after.speed_up_interval[0] >= NOTICEABLE


def _is_slower(after: LatencyValue) -> bool:
    return after.speed_up_interval is not None and after.speed_up_interval[1] <= 1 / NOTICEABLE


def _threads(row: LatencyValue) -> str:
    """Said where it is not the usual: Keras uses all threads, the others one."""
    return f" with {row.threads} threads" if row.runtime != "keras" and row.threads > 1 else ""


def _one_speed(before: LatencyValue, after: LatencyValue) -> str:
    ratio = after.speed_up or before.p50_ms / after.p50_ms
    if _is_faster(after):
        word = f"{ratio:.2f}x faster"
    elif _is_slower(after):
        word = f"{1 / ratio:.2f}x SLOWER"
    else:
        word = "not faster"
    return (
        f"{word} on {before.runtime} at batch size {before.batch_size}{_threads(before)} "
        f"({before.p50_ms:.3g} → {after.p50_ms:.3g} ms)"
    )


def _quality(metrics: Metrics) -> str:
    if not metrics.accuracy_measured:
        return "Accuracy was not measured: the job had no data set."
    said = []
    for name, before in metrics.before.evaluation.items():
        if not name.endswith("loss"):
            said.append(_one_quality(name, before, metrics.after.evaluation[name]))
    for export, after in metrics.after.exported.items():
        before_export = metrics.before.exported[export]
        for name, value in after.items():
            if not name.endswith("loss"):
                text = _one_quality(name, before_export[name], value)
                said.append(f"as {export}, {text}")
    where = "On held-out data"
    if metrics.unlabelled:
        where = "Against the original's own answers on held-out inputs"
    return f"{where}: " + "; ".join(said) + "." if said else ""


def _one_quality(name: str, before: MetricValue, after: MetricValue) -> str:
    if before.value is None or after.value is None:
        return f"{name} is not defined"
    if name.endswith(("accuracy", "auc")):
        points = (after.value - before.value) * 100
        text = f"{name} {before.value:.2%} → {after.value:.2%} ({points:+.2f} points)"
    else:
        text = f"{name} {before.value:.4g} → {after.value:.4g}"
    if after.interval is not None and _overlap(before.interval, after.interval):
        text += f", whose 95 % intervals on {after.samples:,} samples overlap"
    return text


def _overlap(a: tuple[float, float] | None, b: tuple[float, float]) -> bool:
    return a is not None and a[0] <= b[1] and b[0] <= a[1]
