"""What cannot be done is refused with a reason, when it is asked and not hours later."""

from pathlib import Path
from typing import Any

from tests.e2e.service import Service


def test_a_dry_run_explains_what_cannot_be_pruned(
    service: Service, uploaded: dict[str, Any]
) -> None:
    answer = service.http.post(
        "/v1/specs/validate",
        json={
            "model": uploaded["cnn"],
            "prune": {
                "target": {"kind": "fraction", "remove": 0.5},
                "layers": [{"match": "*", "skip": True}],
            },
        },
    )
    problem = answer.json()
    assert answer.status_code == 422
    assert problem["type"] == "/problems/engine-refusal"
    assert "conv_1" in problem["detail"]


def test_an_unreachable_target_says_what_is_reachable(
    service: Service, uploaded: dict[str, Any]
) -> None:
    job = service.wait(
        service.submit(
            {"model": uploaded["mlp"], "prune": {"target": {"kind": "macs", "keep": 0.0001}}}
        )
    )
    assert job["status"] == "failed"
    assert job["error"]["type"] == "/problems/engine-refusal"
    assert job["error"]["fault"] == "client"
    assert service.http.get(f"/v1/jobs/{job['id']}/artifacts/log.txt").status_code == 200


def test_data_that_does_not_fit_is_refused_at_submit(
    service: Service, files: Path, uploaded: dict[str, Any]
) -> None:
    wide = service.upload_dataset(files / "wide.npz")["id"]
    answer = service.http.post(
        "/v1/jobs",
        json={
            "model": uploaded["cnn"],
            "dataset": wide,
            "prune": {"target": {"kind": "fraction", "remove": 0.5}},
        },
    )
    assert answer.status_code == 422
    assert answer.json()["type"] == "/problems/dataset-mismatch"
    assert "8" in answer.json()["detail"]
    assert "9" in answer.json()["detail"]


def test_a_loss_or_metric_that_cannot_be_computed_is_refused_at_submit(
    service: Service, uploaded: dict[str, Any]
) -> None:
    spec = {
        "model": uploaded["cnn"],
        "dataset": uploaded["data"],
        "prune": {"target": {"kind": "fraction", "remove": 0.5}},
    }
    for more, field in (
        ({"fine_tune": {"loss": "mean_squared_error"}}, "fine_tune.loss"),
        ({"evaluate": {"metrics": ["auc"]}}, "evaluate.metrics"),
    ):
        for route in ("/v1/jobs", "/v1/specs/validate"):
            answer = service.http.post(route, json=spec | more)
            assert answer.status_code == 422, answer.text
            assert answer.json()["type"] == "/problems/invalid-spec"
            assert answer.json()["field"] == field
