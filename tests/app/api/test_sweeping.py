"""Sweeps over HTTP."""

from typing import Any

import pytest

from app.api.sweeps import EXAMPLES
from tests.app.api.conftest import SPEC, Api, check_problem

GRID = {"prune.target.remove": [0.2, 0.4]}


def submit(api: Api, **parts: Any) -> dict[str, Any]:
    answer = api.post("/v1/sweeps", json={"base": SPEC, "grid": GRID} | parts)
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/v1/sweeps/{answer.json()['id']}"
    return dict(answer.json())


def test_what_the_grid_overwrites_must_be_storable_too(any_api: Api) -> None:
    # As JSON has it; JSONB of PostgreSQL does not know the character.
    base = SPEC | {"seed": "\0"}
    answer = any_api.post("/v1/sweeps", json={"base": base, "grid": {"seed": [1]}})
    assert check_problem(answer)["field"] == "base"


def test_a_sweep_from_submit_to_delete(any_api: Api) -> None:
    api = any_api
    sweep = submit(api, name="two shares")
    url = sweep["links"]["self"]
    assert (sweep["name"], sweep["counts"]) == ("two shares", {"queued": 2})
    assert api.get(url).json() == sweep
    assert sweep in api.get("/v1/sweeps").json()["items"]
    jobs = api.get("/v1/jobs", params={"sweep": sweep["id"]}).json()["items"]
    assert {job["id"] for job in jobs} == {job["job"] for job in sweep["jobs"]}

    table = api.get(sweep["links"]["table"])
    assert table.headers["content-type"].startswith("text/csv")
    assert len(table.text.splitlines()) == 3

    for kind, media_type in (("svg", "image/svg+xml"), ("png", "image/png")):
        picture = api.get(f"{url}/plot.{kind}", params={"theme": "dark"})
        assert (picture.status_code, picture.headers["content-type"]) == (200, media_type)
    check_problem(api.get(f"{url}/plot.gif"))

    check_problem(api.delete(url))
    assert api.post(f"{url}/cancel").json()["done"]
    assert api.post(f"{url}/retry").json()["counts"] == {"queued": 2}
    api.post(f"{url}/cancel")
    assert api.delete(url).status_code == 204
    assert check_problem(api.get(url))["status"] == 404
    assert api.get(f"/v1/jobs/{sweep['jobs'][0]['job']}").status_code == 404


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_are_accepted(api: Api, name: str) -> None:
    assert api.post("/v1/sweeps", json=EXAMPLES[name]["value"]).status_code == 202


@pytest.mark.parametrize(
    ("parts", "field", "said"),
    [
        (
            {"grid": {"prune.target.remove": [0.5, 90]}},
            "grid (prune.target.remove = 90)",
            "fraction between 0 and 1",
        ),
        ({"grid": {"seed.x": [1]}, "base": SPEC | {"seed": 1}}, "grid", "no fields inside"),
        ({"grid": {}}, "grid", "what varies"),
        ({"base": None, "grid": {}, "specs": [SPEC, {"model": "x"}]}, "specs.1", "model"),
        ({"grid": {"dataset": ["dts_none"]}}, "grid (dataset = 'dts_none')", "no data set"),
    ],
)
def test_refusals_name_the_spec(api: Api, parts: dict[str, Any], field: str, said: str) -> None:
    before = api.get("/v1/jobs").json()
    answer = api.post("/v1/sweeps", json={"base": SPEC, "grid": GRID} | parts)
    assert answer.status_code == 422
    problem = check_problem(answer)
    assert problem["field"] == field
    assert said in problem["detail"]
    assert api.get("/v1/jobs").json() == before
