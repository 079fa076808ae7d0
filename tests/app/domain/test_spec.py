"""What a spec may say, and which field is named when it may not."""

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from app.domain import criteria, recovery, spec
from app.domain import prune as pruning
from app.domain.spec import PruningSpec

HALF = {"kind": "fraction", "remove": 0.5}
COMPLETE: dict[str, Any] = {"model": "mdl_1", "dataset": "dts_1", "prune": {"target": HALF}}


def with_(**parts: Any) -> dict[str, Any]:
    return COMPLETE | parts


def prune(**parts: Any) -> dict[str, Any]:
    return with_(prune={"target": HALF} | parts)


def only_prune(**parts: Any) -> dict[str, Any]:
    return with_(prune=parts)


def test_model_dataset_and_target_are_a_complete_job() -> None:
    made = PruningSpec.model_validate(COMPLETE)
    assert made.prune.granularity == pruning.ChannelGranularity()
    assert made.prune.criterion == criteria.MagnitudeCriterion()
    assert made.prune.scope == "layer"
    assert made.schedule == spec.OneShotSchedule()
    assert made.fine_tune == recovery.FineTune()
    assert made.evaluate.latency is not None
    assert made.exports == ("keras",)
    assert made.seed == 0


def test_a_bare_name_means_the_choice_without_settings() -> None:
    short = prune(granularity="weight", criterion="l1") | {
        "schedule": "iterative",
        "fine_tune": {"optimizer": "sgd"},
    }
    long = prune(granularity={"kind": "weight"}, criterion={"kind": "l1"}) | {
        "schedule": {"kind": "iterative"},
        "fine_tune": {"optimizer": {"kind": "sgd"}},
    }
    assert PruningSpec.model_validate(short) == PruningSpec.model_validate(long)


ACCEPTED = {
    "no data set": {"model": "mdl_1", "prune": {"target": HALF}},
    "no training": with_(fine_tune=None),
    "no early stopping": with_(fine_tune={"early_stopping": None}),
    "no latency": with_(evaluate={"latency": None}),
    "han's threshold": only_prune(granularity="weight", criterion="threshold"),
    "threshold with a skip": only_prune(
        granularity="weight", criterion="threshold", layers=[{"match": "last", "skip": True}]
    ),
    "macs": prune(target={"kind": "macs", "keep": 0.3}),
    "parameters of weights": prune(
        granularity="weight", target={"kind": "parameters", "keep": 0.1}
    ),
    "overrides": prune(
        layers=[{"match": "a*", "remove": 0.1, "max_remove": 0.2}, {"match": "b", "skip": True}]
    ),
    **{
        f"{criterion} of {granularity}": prune(granularity=granularity, criterion=criterion)
        for granularity, criterion in (
            ("weight", "lamp"),
            ("block", "taylor"),
            ("channel", "geometric_median"),
            ("unit", {"kind": "apoz", "samples": 64}),
        )
    },
    "learned blocks": prune(granularity="block", criterion="variational_dropout"),
    "control": prune(granularity="n_m", target=None) | {"control": "dense"},
    "rounding": prune(round_to=8, min_units=8),
    "global unit": prune(granularity="unit", scope="global"),
    "by sensitivity": prune(granularity="block", scope="sensitivity"),
    "iterative": with_(schedule={"kind": "iterative", "steps": 100}),
    "polynomial": with_(schedule={"kind": "polynomial", "steps": 3, "power": 1}),
    "largest seed": with_(seed=2**32 - 1),
    "all exports": with_(exports=["keras", "h5", "litert", "onnx"]),
}


@pytest.mark.parametrize("body", ACCEPTED.values(), ids=ACCEPTED)
def test_accepted(body: dict[str, Any]) -> None:
    made = PruningSpec.model_validate(body)
    assert PruningSpec.model_validate_json(made.model_dump_json()) == made


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no model": ({"prune": {"target": HALF}}, "model"),
    "data set as model": (with_(model="dts_1"), "model"),
    "model as data set": (with_(dataset="mdl_1"), "dataset"),
    "path as model": (with_(model="mdl_../x"), "model"),
    "newline after model": (with_(model="mdl_1\n"), "model"),
    "no prune": ({"model": "mdl_1"}, "prune"),
    "no target": (only_prune(granularity="channel"), "prune"),
    "percent": (prune(target={"kind": "fraction", "remove": 50}), "prune.target.fraction.remove"),
    "nothing removed": (
        prune(target={"kind": "fraction", "remove": 0}),
        "prune.target.fraction.remove",
    ),
    "all removed": (
        prune(target={"kind": "fraction", "remove": 1}),
        "prune.target.fraction.remove",
    ),
    "not a number": (
        prune(target={"kind": "fraction", "remove": float("nan")}),
        "prune.target.fraction.remove",
    ),
    "another target's setting": (
        prune(target={"kind": "macs", "remove": 0.5}),
        "prune.target.macs.keep",
    ),
    "unknown target": (prune(target={"kind": "magic"}), "prune.target"),
    "target by bare name": (prune(target="fraction"), "prune.target"),
    "unknown criterion": (prune(criterion="hessian"), "prune.criterion"),
    "unknown granularity": (prune(granularity="filter"), "prune.granularity"),
    "unknown scope": (prune(scope="model"), "prune.scope"),
    "heads by sensitivity": (prune(granularity="head", scope="sensitivity"), "prune"),
    "learned by sensitivity": (
        prune(granularity="weight", criterion="variational_dropout", scope="sensitivity"),
        "prune",
    ),
    "bytes by sensitivity": (
        prune(target={"kind": "bytes", "max": 1000}, scope="sensitivity"),
        "prune",
    ),
    "scope sensitivity without data": (
        {"model": "mdl_1", "prune": {"target": HALF, "scope": "sensitivity"}},
        "",
    ),
    "typo": (with_(fine_tuning={}), "fine_tuning"),
    "typo below": (with_(fine_tune={"epoch": 3}), "fine_tune.epoch"),
    "typo in a choice": (
        prune(criterion={"kind": "l1", "p": 2}),
        "prune.criterion.l1.p",
    ),
    "threshold with target": (prune(granularity="weight", criterion="threshold"), "prune"),
    "threshold of channels": (only_prune(criterion="threshold"), "prune"),
    "global threshold": (
        only_prune(granularity="weight", criterion="threshold", scope="global"),
        "prune",
    ),
    "threshold with a fraction": (
        only_prune(
            granularity="weight", criterion="threshold", layers=[{"match": "a", "remove": 0.1}]
        ),
        "prune",
    ),
    **{
        f"{criterion} of {granularity}": (
            only_prune(
                granularity=granularity,
                criterion=criterion,
                target=None if granularity == "n_m" else HALF,
            ),
            "prune",
        )
        for criterion in ("geometric_median", "batch_norm_scale", "apoz", "activation")
        for granularity in ("weight", "n_m", "block")
    },
    "macs of weights": (
        prune(granularity="weight", target={"kind": "macs", "keep": 0.5}),
        "prune",
    ),
    "rounded weights": (prune(granularity="weight", round_to=8), "prune"),
    "override that says nothing": (prune(layers=[{"match": "a"}]), "prune.layers.0"),
    "override that says both": (
        prune(layers=[{"match": "a", "skip": True, "remove": 0.1}]),
        "prune.layers.0",
    ),
    "empty pattern": (prune(layers=[{"match": "", "skip": True}]), "prune.layers.0.match"),
    "NUL in a pattern": (
        prune(layers=[{"match": "[!\x00]*", "skip": True}]),
        "prune.layers.0.match",
    ),
    "too many overrides": (
        prune(layers=[{"match": "a", "skip": True}] * 201),
        "prune.layers",
    ),
    "training without data": (
        {"model": "mdl_1", "prune": {"target": HALF}, "fine_tune": {"epochs": 1}},
        "",
    ),
    "metrics without data": (
        {"model": "mdl_1", "prune": {"target": HALF}, "evaluate": {"metrics": ["accuracy"]}},
        "",
    ),
    "steps without training": (with_(schedule="iterative", fine_tune=None), ""),
    "steps without data": (
        {"model": "mdl_1", "prune": {"target": HALF}, "schedule": "polynomial"},
        "",
    ),
    "infinite patience": (
        with_(fine_tune={"early_stopping": {"min_delta": float("inf")}}),
        "fine_tune.early_stopping.min_delta",
    ),
    "export twice": (with_(exports=["keras", "keras"]), ""),
    "no export": (with_(exports=[]), "exports"),
    "negative seed": (with_(seed=-1), "seed"),
    "seed over 32 bits": (with_(seed=2**32), "seed"),
    "seed over 64 bits": (with_(seed=2**80), "seed"),
    "no time": (with_(time_limit_seconds=0), "time_limit_seconds"),
    "augmentation of nothing": (with_(fine_tune={"augmentation": {}}), "fine_tune.augmentation"),
    "accuracy without data": (
        {
            "model": COMPLETE["model"],
            "prune": {"target": {"kind": "accuracy_drop", "max_points": 1}},
        },
        "",
    ),
    "bytes that need data": (
        prune(target={"kind": "bytes", "export": "litert_int8", "max": 1000}),
        "prune.target.bytes",
    ),
    "control of a search": (
        prune(target={"kind": "accuracy_drop", "max_points": 1}) | {"control": "dense"},
        "",
    ),
    "control without training": (with_(control="dense", fine_tune=None), ""),
    "control of who knows what": (
        only_prune(granularity="weight", criterion="threshold") | {"control": "dense"},
        "",
    ),
    "sensitivity without data": (
        {
            "model": COMPLETE["model"],
            "prune": {"target": HALF},
            "evaluate": {"sensitivity": {}},
        },
        "",
    ),
    "sensitivity of heads": (
        prune(granularity="head") | {"evaluate": {"sensitivity": {}}},
        "",
    ),
    "learned without training": (
        prune(granularity="weight", criterion="variational_dropout") | {"fine_tune": None},
        "",
    ),
    "learned units": (only_prune(criterion="variational_dropout"), "prune"),
    "ranges without data": (
        {"model": COMPLETE["model"], "prune": {"target": HALF}, "exports": ["litert_int8"]},
        "",
    ),
    "macs of zeros": (
        only_prune(
            granularity="weight",
            target={"kind": "accuracy_drop", "max_points": 1, "measure": "macs"},
        ),
        "prune",
    ),
    "fewer than no epochs": (with_(fine_tune={"epochs": -1}), "fine_tune.epochs"),
    "no metric": (with_(evaluate={"metrics": []}), "evaluate.metrics"),
    "list": (with_(prune=[]), "prune"),
}


@pytest.mark.parametrize(("body", "field"), REFUSED.values(), ids=REFUSED)
def test_refused_at_the_field(body: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        PruningSpec.model_validate(body)
    assert field in {".".join(map(str, found["loc"])) for found in caught.value.errors()}


def test_a_criterion_of_units_says_what_to_do_with_weights() -> None:
    with pytest.raises(ValidationError, match=r"apoz ranks .* use granularity channel"):
        PruningSpec.model_validate(prune(granularity="weight", criterion="apoz"))


MANY: dict[str, dict[str, Any]] = {
    "weights": {"kind": "fraction", "remove": 0.9},
    "parameters": {"kind": "parameters", "keep": 0.1},
}


@pytest.mark.parametrize("target", MANY.values(), ids=MANY)
def test_many_zeros_are_learned_where_nothing_else_is_said(target: dict[str, Any]) -> None:
    made = PruningSpec.model_validate(prune(granularity="weight", target=target))
    assert made.prune.criterion == criteria.VariationalDropoutCriterion(price=0.3)
    assert made.prune.scope == "global"
    assert made.schedule == spec.PolynomialSchedule(steps=10, epochs_per_step=2)
    assert made.fine_tune is not None
    assert made.fine_tune.distillation == recovery.Distillation()
    assert made.fine_tune.early_stopping is None
    assert PruningSpec.model_validate_json(made.model_dump_json()) == made


def test_nearly_all_zeros_are_learned_for_longer() -> None:
    target = {"kind": "fraction", "remove": 0.97}
    made = PruningSpec.model_validate(prune(granularity="weight", target=target))
    assert made.prune.criterion == criteria.VariationalDropoutCriterion(epochs=120)


@pytest.mark.parametrize(
    "said",
    [
        {"schedule": "iterative"},
        {"fine_tune": {"epochs": 3}},
        {"fine_tune": None},
        {"dataset": None},
        {"prune": {"scope": "global"}},
        {"prune": {"criterion": "magnitude"}},
        {"prune": {"granularity": "channel"}},
        {"prune": {"target": {"kind": "fraction", "remove": 0.89}}},
    ],
    ids=str,
)
def test_what_is_said_of_the_method_holds(said: dict[str, Any]) -> None:
    body = prune(granularity="weight", target=MANY["weights"])
    made = PruningSpec.model_validate(
        body | said | {"prune": body["prune"] | said.get("prune", {})}
    )
    assert made.prune.criterion == criteria.MagnitudeCriterion()


def test_without_a_data_set_nothing_is_trained() -> None:
    assert PruningSpec.model_validate(ACCEPTED["no data set"]).fine_tune is None


def test_a_spec_is_frozen() -> None:
    made = PruningSpec.model_validate(COMPLETE)
    with pytest.raises(ValidationError, match="frozen"):
        made.seed = 1  # type: ignore[misc]


# --- round trips -------------------------------------------------------------------------------
shares = st.floats(0.001, 0.999)
overrides = st.one_of(
    st.builds(pruning.LayerOverride, match=st.just("dense_*"), skip=st.just(True)),
    st.builds(pruning.LayerOverride, match=st.just("dense_?"), remove=shares),
    st.builds(pruning.LayerOverride, match=st.just("[ab]*"), max_remove=shares),
)
prunes = st.builds(
    pruning.Prune,
    granularity=st.sampled_from([pruning.UnitGranularity(), pruning.ChannelGranularity()]),
    criterion=st.sampled_from(
        [criteria.L1Criterion(), criteria.L2Criterion(), criteria.RandomCriterion()]
    ),
    scope=st.sampled_from(["layer", "global"]),
    target=st.one_of(
        st.builds(pruning.FractionTarget, remove=shares),
        st.builds(pruning.ParametersTarget, keep=shares),
        st.builds(pruning.MacsTarget, keep=shares),
    ),
    layers=st.lists(overrides, max_size=3).map(tuple),
    round_to=st.none() | st.integers(1, 256),
)
optimizers = st.one_of(
    st.builds(recovery.AdamOptimizer, learning_rate=st.floats(1e-6, 10)),
    st.builds(recovery.SgdOptimizer, nesterov=st.booleans(), momentum=st.floats(0, 0.99)),
    st.builds(recovery.RmspropOptimizer),
)
specs = st.builds(
    PruningSpec,
    model=st.from_regex(r"mdl_[0-9A-Za-z]{1,40}", fullmatch=True),
    dataset=st.from_regex(r"dts_[0-9A-Za-z]{1,40}", fullmatch=True),
    prune=prunes,
    schedule=st.one_of(
        st.builds(spec.IterativeSchedule, steps=st.integers(1, 100)),
        st.builds(spec.PolynomialSchedule, power=st.floats(0.1, 10)),
        st.just(spec.OneShotSchedule()),
    ),
    fine_tune=st.builds(
        recovery.FineTune,
        epochs=st.integers(0, 10_000),
        optimizer=optimizers,
        learning_rate_schedule=st.builds(recovery.CosineRate, final_share=st.floats(0, 1)),
        label_smoothing=st.floats(0, 0.99),
        distillation=st.none() | st.builds(recovery.Distillation, temperature=st.floats(0.1, 9)),
    ),
    seed=st.integers(0, 2**32 - 1),
    time_limit_seconds=st.none() | st.integers(1, 10**6),
)


@given(specs)
def test_what_is_dumped_is_read_back(made: PruningSpec) -> None:
    assert PruningSpec.model_validate(made.model_dump(mode="json")) == made
    assert PruningSpec.model_validate_json(made.model_dump_json()) == made


def test_a_job_without_data_is_read_back() -> None:
    made = PruningSpec.model_validate(ACCEPTED["no data set"])
    assert PruningSpec.model_validate_json(made.model_dump_json()) == made


@pytest.mark.parametrize(
    "union",
    [pruning.Granularity, criteria.Criterion, spec.Schedule, recovery.Optimizer, recovery.Rate],
)
def test_the_schema_knows_the_short_form(union: Any) -> None:
    choice, short = TypeAdapter(union).json_schema()["anyOf"]
    kinds = {member.model_fields["kind"].default for member in get_args(get_args(union)[0])}
    assert set(short["enum"]) == set(choice["discriminator"]["mapping"]) == kinds
