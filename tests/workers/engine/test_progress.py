"""Schedules: steps add up to the one-shot cut, and survive a checkpoint."""

from typing import Any

import numpy as np
import pytest

from app.domain.prune import Prune
from tests.workers.engine.zoo import dense_block, lenet, mlp, randomise
from workers.engine import Progress, WeightCut, apply, begin, choose, count

FRACTION = {"kind": "fraction", "remove": 0.7}
SPECS: list[dict[str, Any]] = [
    {"target": FRACTION},
    {"target": FRACTION, "round_to": 4},
    {"target": FRACTION, "scope": "global", "criterion": "l1"},
    {"target": FRACTION, "layers": [{"match": "*dense*", "remove": 0.25}]},
    {"target": FRACTION, "granularity": "weight"},
    {"target": FRACTION, "granularity": "weight", "scope": "global"},
    {"granularity": "weight", "criterion": {"kind": "threshold", "quality": 0.8}},
]


def stepwise(model: Any, spec: Prune, noise: float) -> tuple[Any, Any]:
    progress = begin(model)
    random = np.random.default_rng(0)
    cut = None
    for share in (0.2, 0.5, 0.9, 1.0):
        saved = Progress.from_json(progress.to_json(), progress.masks)
        cut = choose(model, spec, share=share, progress=saved)
        model, progress = apply(model, cut), cut.progress
        for variable in model.trainable_weights if noise else ():
            values = np.array(variable.numpy())
            variable.assign(values + noise * (values != 0) * random.standard_normal(values.shape))
    return model, cut


@pytest.fixture(scope="module", params=[mlp, lenet, dense_block], ids=lambda f: f.__name__)
def model(request: pytest.FixtureRequest) -> Any:
    return randomise(request.param())


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_steps_add_up(model: Any, spec: dict[str, Any]) -> None:
    prune = Prune.model_validate(spec)
    once = count(apply(model, choose(model, prune)))
    steps = count(stepwise(model, prune, 0.0)[0])
    if prune.scope == "global" and prune.granularity.kind != "weight":
        assert units(once) == units(steps)  # what is small next to its mean may change
    else:
        assert (once.parameters, once.nonzero_parameters) == (
            steps.parameters,
            steps.nonzero_parameters,
        )


def units(counts: Any) -> int:
    return sum(layer.units or 0 for layer in counts.layers)


@pytest.mark.parametrize("kind", ["parameters", "macs"])
def test_budgets_hold_at_the_last_step(model: Any, kind: str) -> None:
    prune = Prune.model_validate({"target": {"kind": kind, "keep": 0.5}})
    reduced, _ = stepwise(model, prune, 0.1)
    before, after = getattr(count(model), kind), getattr(count(reduced), kind)
    assert 0.35 * before < after <= 0.5 * before


def test_later_masks_hold_earlier_ones(model: Any) -> None:
    prune = Prune.model_validate({"target": FRACTION, "granularity": "weight"})
    progress = begin(model)
    earlier: dict[str, Any] = {}
    for share in (0.3, 0.6, 1.0):
        cut = choose(model, prune, share=share, progress=progress)
        assert isinstance(cut, WeightCut)
        for key, mask in cut.masks.items():
            assert (~mask).sum() == round(share * 0.7 * mask.size)
            assert not (mask & ~earlier.get(key, mask)).any()
        earlier, progress = dict(cut.masks), cut.progress
        model = randomise(apply(model, cut), seed=7)
