"""The verdict says what the figures say; the report escapes what uploaders wrote."""

from typing import Any

import pytest

from app.domain.analysis import ModelAnalysis
from app.domain.job import Order
from app.domain.metrics import Metrics
from app.domain.spec import PruningSpec
from workers.engine import Shrunk
from workers.report.figures import shrink_note
from workers.report.html import render
from workers.report.verdict import verdict

HOSTILE = "<script>alert(1)</script>"


HALF = {"kind": "fraction", "remove": 0.5}


def spec(granularity: Any, **prune: Any) -> PruningSpec:
    return PruningSpec.model_validate(
        {
            "model": "mdl_1",
            "dataset": "dts_1",
            "prune": {"granularity": granularity, "target": HALF} | prune,
        }
    )


def state(parameters: int, ms: float, accuracy: float, speed: Any = None) -> dict[str, Any]:
    return {
        "parameters": parameters,
        "nonzero_parameters": parameters,
        "macs": parameters,
        "bytes": {"keras": parameters * 4},
        "compressed_bytes": {"keras": parameters * 3},
        "evaluation": {
            "accuracy": {
                "value": accuracy,
                "interval": [accuracy - 0.01, accuracy + 0.01],
                "samples": 1000,
            }
        },
        "latency": [
            {
                "runtime": "litert",
                "batch_size": 1,
                "threads": 1,
                "p50_ms": ms,
                "p95_ms": ms,
                "repeats": 50,
                "speed_up": speed and speed[0],
                "speed_up_interval": speed and speed[1:],
            }
        ],
    }


def figures(after_ms: float, speed: Any, accuracy: float = 0.9, **more: Any) -> Metrics:
    after = state(500, after_ms, accuracy, speed)
    return Metrics.model_validate(
        {
            "before": state(1000, 2.0, 0.9),
            "pruned": after,
            "after": after,
            "equality": {
                "max_abs_difference": 0.0,
                "output_scale": 1.0,
                "samples": 4,
                "holds": True,
            },
            "per_layer": [
                {
                    "name": HOSTILE,
                    "class": "Dense",
                    "parameters_before": 1000,
                    "parameters_after": 500,
                    "nonzero_after": 500,
                    "macs_before": 1000,
                    "macs_after": 500,
                }
            ],
            "phases_seconds": {"loading": 1.0},
            "verdict": [],
            "accuracy_measured": True,
            "peak_memory_bytes": 1,
            "seed": 0,
            "versions": {},
            "device": "a test",
        }
        | more
    )


SAME = (1.0, 0.98, 1.02)


def masked() -> dict[str, Any]:
    """Half of the parameters are zero, and all are there."""
    return state(1000, 2.0, 0.9, SAME) | {
        "nonzero_parameters": 500,
        "compressed_bytes": {"keras": 1500},
    }


@pytest.mark.parametrize(
    ("ms", "speed", "granularity", "said", "unsaid"),
    [
        (1.0, (2.0, 1.9, 2.1), "channel", "2.00x faster", "no speed-up"),
        (2.0, (1.0, 0.98, 1.02), "channel", "There is no speed-up on this machine", "x faster"),
        (1.8, (1.1, 0.9, 1.3), "channel", "not faster", "x faster"),
        (4.0, (0.5, 0.45, 0.55), "channel", "2.00x SLOWER", "x faster"),
        (2.0, SAME, "weight", "Dense kernels multiply zeros too", "x faster"),
    ],
)
def test_speed(ms: float, speed: Any, granularity: str, said: str, unsaid: str) -> None:
    more = {"after": masked()} if granularity == "weight" else {}
    text = verdict(figures(ms, speed, **more), spec(granularity))[1]
    assert said in text
    assert unsaid not in text


NM, BLOCK = {"kind": "n_m", "n": 1, "m": 3}, {"kind": "block", "shape": [4, 2]}


@pytest.mark.parametrize(
    ("prune", "size", "speed"),
    [
        (
            {"granularity": "n_m", "target": None},
            "50.0% of the non-zero parameters became zero: 2 of every 4 weights along the inputs "
            "of the pruned kernels. The .keras file is no smaller as it is, because zeros are "
            "stored like other numbers, and 2.0x smaller when compressed.",
            "no speed-up: granularity channel removes whole channels and makes models faster. 2:4 "
            "pays on hardware that skips its zeros, such as the sparse tensor cores of NVIDIA "
            "GPUs, through a runtime that uses them.",
        ),
        (
            {"granularity": NM, "target": None, "layers": [{"match": "*", "max_remove": 0.5}]},
            "became zero: up to 2 of every 3 weights",
            "1:3 pays only on hardware made to skip its zeros.",
        ),
        (
            {"granularity": BLOCK},
            "became zero, in blocks of 4 inputs by 2 outputs.",
            "no speed-up: granularity channel removes whole channels and makes models faster. "
            "Blocks of zeros pay in runtimes that have block-sparse kernels: in Dense layers "
            "LiteRT skips blocks of shape [4, 1] where export litert_sparse holds them.",
        ),
    ],
)
def test_patterns_are_named_and_promise_nothing(
    prune: dict[str, Any], size: str, speed: str
) -> None:
    said = verdict(figures(2.0, SAME, pruned=masked(), after=masked()), spec(**prune))
    assert size in said[0]
    assert speed in said[1]


def test_dead_units_that_went_make_the_file_smaller() -> None:
    small = masked() | {"parameters": 800, "macs": 800, "bytes": {"keras": 3200}}
    said = verdict(figures(2.0, SAME, pruned=masked(), after=small), spec("weight"))
    assert said[0] == (
        "50.0% of the non-zero parameters became zero or went with dead units. Without those "
        "units, 1,000 parameters became 800 (1.2x fewer), 1,000 MACs became 800 (1.2x fewer). "
        "The .keras file is 1.2x smaller as it is, although the zeros that are left are stored "
        "like other numbers, and 2.0x smaller when compressed."
    )
    assert "Dense kernels multiply the zeros that are left, so there is no speed-up" in said[1]


def test_shrinking_is_told_in_words() -> None:
    shrunk = Shrunk(None, {}, 90, {"a": (300, 214), "b": (100, 96)}, {"b/1/bias": 5, "c/3/bias": 1})
    assert shrink_note(shrunk) == (
        "90 units were dead and removed without changing what the model computes: a 300 → 214, "
        "b 100 → 96. 6 constant values went into the biases of b, c."
    )
    many = {f"layer_{number}": (2, 1) for number in range(10)}
    assert shrink_note(Shrunk(None, {}, 1, many)) == (
        "1 unit was dead and removed without changing what the model computes: "
        + ", ".join(f"layer_{number} 2 → 1" for number in range(8))
        + ", and 2 more."
    )


@pytest.mark.parametrize(
    ("granularity", "said"),
    [
        ("n_m", "no kernel may lose weights, or their inputs are too few for 2:4"),
        ("weight", "the target asks for less than one weight of any kernel that may lose some"),
        ("block", "the target asks for less than one block of any kernel that may lose some"),
        ("channel", "the target asks for less than one unit of any layer that may lose some"),
    ],
)
def test_nothing_removed_is_said_first(granularity: str, said: str) -> None:
    same = state(1000, 2.0, 0.9)
    unchanged = figures(2.0, None, pruned=same, after=same)
    target = None if granularity == "n_m" else HALF
    first = verdict(unchanged, spec(granularity, target=target))[0]
    assert first == f"NOTHING WAS REMOVED: {said}; the notes of the layers say why."


def test_quality_names_noise_and_real_losses() -> None:
    assert (
        "intervals on 1,000 samples overlap"
        in verdict(figures(1.0, (2, 2, 2), 0.895), spec("channel"))[2]
    )
    lost = verdict(figures(1.0, (2, 2, 2), 0.80), spec("channel"))[2]
    assert "(-10.00 points)" in lost
    assert "noise" not in lost


def order(granularity: str) -> Order:
    return Order.model_validate(
        {
            "job": "job_1",
            "kind": "prune",
            "attempt": 1,
            "spec": spec(granularity),
            "model": {
                "format": "keras",
                "keras_version": None,
                "legacy": False,
                "inputs": [],
                "outputs": [],
                "parameters": 0,
                "layers": [],
            },
            "model_path": "m",
            "out": "o",
            "scratch": "s",
        }
    )


def analysis(frozen: str | None = None) -> ModelAnalysis:
    return ModelAnalysis.model_validate(
        {
            "model": "mdl_1",
            "engine": "1",
            "parameters": 1000,
            "macs": 1000,
            "seconds": 0.1,
            "layers": [{"name": HOSTILE, "class": "Dense", "units": 8, "frozen": frozen}],
            "edges": [["pixels", HOSTILE]],
        }
    )


def test_report_escapes_names() -> None:
    page = render(figures(1.0, (2.0, 1.9, 2.1)), order("unit"), analysis())
    assert HOSTILE not in page
    assert "&lt;script&gt;" in page


def test_the_report_draws_units_before_and_after() -> None:
    metrics = figures(1.0, (2.0, 1.9, 2.1))
    cut = metrics.per_layer[0].model_copy(update={"units_before": 8, "units_after": 3})
    page = render(metrics.model_copy(update={"per_layer": (cut,)}), order("unit"), analysis())
    assert "8 → 3 units</text>" in page


@pytest.mark.parametrize(
    ("note", "frozen", "granularity", "why"),
    [
        (None, "an output", "unit", "an output"),
        ("kept 8", "an output", "unit", "kept 8; an output"),
        ("stays: an output", "an output", "unit", "stays: an output"),
        ("kept 8", None, "unit", "kept 8"),
        (None, "an output", "weight", ""),
    ],
)
def test_the_table_says_why(
    note: str | None, frozen: str | None, granularity: str, why: str
) -> None:
    metrics = figures(1.0, (2.0, 1.9, 2.1))
    one = metrics.per_layer[0].model_copy(update={"note": note})
    page = render(
        metrics.model_copy(update={"per_layer": (one,)}), order(granularity), analysis(frozen)
    )
    assert f'<td class="text quiet">{why}</td>' in page
