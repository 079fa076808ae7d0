from app.domain.ids import new_id
from app.domain.spec import PruningSpec


def test_ids_tell_their_kind_and_are_never_the_same() -> None:
    made = {new_id("mdl") for _ in range(1000)}
    assert len(made) == 1000
    assert all(id_.startswith("mdl_") for id_ in made)


def test_a_spec_accepts_the_ids_that_are_made() -> None:
    model, dataset = new_id("mdl"), new_id("dts")
    made = PruningSpec.model_validate(
        {
            "model": model,
            "dataset": dataset,
            "prune": {"target": {"kind": "macs", "keep": 0.5}},
        }
    )
    assert (made.model, made.dataset) == (model, dataset)
