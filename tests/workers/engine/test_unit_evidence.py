"""Units chosen by what was seen on data: evidence made up so that the choice is known."""

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from app.domain.errors import EngineRefusal
from app.domain.prune import Prune
from tests.workers.engine import zoo_blocks
from tests.workers.engine.zoo import cut_units, randomise
from workers.engine import Evidence, UnitCut, apply, choose, observe, prove
from workers.engine.graph import variable_keys


def spec(criterion: str, **settings: Any) -> Prune:
    target = {"kind": "fraction", "remove": 0.5}
    return Prune.model_validate({"criterion": criterion, "target": target} | settings)


@pytest.fixture(scope="module")
def model() -> Any:
    return randomise(
        keras.Sequential(
            [
                keras.Input((6, 6, 1)),
                layers.Conv2D(4, 3, name="conv"),
                layers.BatchNormalization(name="norm"),
                layers.ReLU(),
                layers.Flatten(),
                layers.Dense(2, name="out"),
            ]
        )
    )


def removed(model: Any, prune: Prune, evidence: Evidence | None = None) -> list[int]:
    cut = choose(model, prune, evidence=evidence)
    assert isinstance(cut, UnitCut)
    assert prove(model, apply(model, cut), cut).holds
    return list(cut.removed["conv"])


@pytest.mark.parametrize(
    ("criterion", "field", "values"),
    [
        ("taylor", "taylor", [4.0, 1.0, 3.0, 2.0]),
        ("activation", "activity", [4.0, 1.0, 3.0, 2.0]),
        ("apoz", "zeros", [0.1, 0.9, 0.2, 0.8]),
    ],
)
def test_the_least_seen_go(model: Any, criterion: str, field: str, values: list[float]) -> None:
    seen = np.array(values)
    if field == "taylor":
        key = next(key for key in variable_keys(model) if key.startswith("conv/0"))
        evidence = Evidence(taylor={key: np.broadcast_to(seen, (3, 3, 1, 4))})
    else:
        evidence = Evidence(activity={"conv": seen}, zeros={"conv": seen})
    assert removed(model, spec(criterion), evidence) == [1, 3]


def test_the_scale_of_the_normalisation_behind_decides(model: Any) -> None:
    model.get_layer("norm").gamma.assign([0.5, -2.0, 0.1, 1.0])
    assert removed(model, spec("batch_norm_scale")) == [0, 2]


def test_a_criterion_that_looks_at_data_needs_evidence(model: Any) -> None:
    with pytest.raises(EngineRefusal, match="looks at data"):
        choose(model, spec("taylor"))


@pytest.mark.parametrize("criterion", ["wanda", "activation", "apoz"])
@pytest.mark.parametrize("build", [zoo_blocks.recurrent, zoo_blocks.vit, zoo_blocks.nested])
def test_what_is_observed_ranks_units_of_every_kind(build: Any, criterion: str) -> None:
    model = randomise(build())
    random = np.random.default_rng(0)
    shapes = [[16, *(size or 8 for size in tensor.shape[1:])] for tensor in model.inputs]
    whole = build is zoo_blocks.recurrent
    inputs = [
        random.integers(0, 15, shape) if whole else random.standard_normal(shape)
        for shape in shapes
    ]
    evidence = observe(model, [inputs])
    cut = cut_with(model, spec(criterion), evidence)
    assert prove(model, apply(model, cut), cut).holds


def cut_with(model: Any, prune: Prune, evidence: Evidence) -> UnitCut:
    cut = choose(model, prune, evidence=evidence)
    assert isinstance(cut, UnitCut)
    return cut


def test_how_coupled_layers_count_changes_the_choice() -> None:
    """Column norms: layer a (1, 4, 3), b (5, 1, 1): the smallest mean is unit 2, max unit 2, and
    of the first layer alone unit 0.
    """
    i = keras.Input((1,))
    a, b = layers.Dense(3, name="a"), layers.Dense(3, name="b")
    model = keras.Model(i, layers.Dense(1)(layers.Add()([a(i), b(i)])))
    a.kernel.assign([[1.0, 4.0, 3.0]])
    b.kernel.assign([[5.0, 1.0, 1.0]])
    chosen = {
        how: cut_units(
            model, spec("magnitude", reduction=how, target={"kind": "fraction", "remove": 0.34})
        ).removed["a"]
        for how in ("mean", "sum", "max", "first")
    }
    assert {how: list(gone) for how, gone in chosen.items()} == {
        "mean": [2],
        "sum": [2],
        "max": [2],
        "first": [0],
    }
