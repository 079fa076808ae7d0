"""Swagger UI's examples work when "Execute" is pressed: each is sent as documented."""

import time
from pathlib import Path
from typing import Any

from tests.e2e.service import Service

EXAMPLES = Path(__file__).parents[2] / "app" / "examples"
# Refusals that are the documented answer to the example: the example job has succeeded.
MAY_CONFLICT = {"/v1/jobs/{job_id}/cancel", "/v1/jobs/{job_id}/retry"}
# Spoken by tus clients, in pieces that depend on each other; tests/app/api/test_resumable.py.
BY_TUS = {
    ("post", "/v1/uploads"),
    *((m, "/v1/uploads/{upload_id}") for m in ("get", "patch", "delete")),
}
UPLOADS = {"/v1/models": "digits.keras", "/v1/datasets": "digits.npz"}


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Method, path and operation; deletions last, jobs before what they need."""
    found = [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if (method, path) not in BY_TUS
    ]
    return sorted(found, key=lambda one: (one[0] == "delete", "/jobs" not in one[1]))


def filled(path: str, operation: dict[str, Any]) -> str:
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "path":
            # Examples of the parameter, not of its schema, which Swagger UI does not fill in.
            (example,) = parameter["examples"].values()
            value = example["value"]
            path = path.replace(f"{{{parameter['name']}}}", value)
    assert "{" not in path, f"{path} has a parameter without an example"
    return path


def bodies(operation: dict[str, Any]) -> list[dict[str, Any] | None]:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if content is None:
        return [None]
    assert content["examples"]
    return [example["value"] for example in content["examples"].values()]


def ended(service: Service, sweep: str) -> None:
    """Wait until all jobs of a sweep have."""
    deadline = time.monotonic() + 60
    while not service.http.get(sweep).json()["done"]:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_every_example_works(service: Service) -> None:
    job = service.http.get("/v1/jobs/job_example").json()
    assert service.wait(job["id"])["status"] == "succeeded"
    submitted = []
    for method, path, operation in operations(service.http.get("/openapi.json").json()):
        url = filled(path, operation)
        for body in bodies(operation):
            request: dict[str, Any] = {"json": body} if body else {}
            if method == "post" and path in UPLOADS:
                file = EXAMPLES / UPLOADS[path]
                request = {"files": {"file": (file.name, file.read_bytes())}}
            answer = service.http.request(method, url, **request)
            allowed = {200, 201, 202, 204} | ({409} if path in MAY_CONFLICT else set())
            assert answer.status_code in allowed, f"{method} {url}: {answer.text}"
            if method == "post" and path.startswith("/v1/sweeps"):
                # What it queues would keep the models, which are deleted at the end.
                sweep = answer.json()["links"]["self"]
                service.http.post(f"{sweep}/cancel")
                ended(service, sweep)
            if method == "post" and path == "/v1/jobs":
                submitted.append(answer.json()["id"])
                assert service.wait(submitted[-1])["status"] == "succeeded", submitted
    assert len(submitted) >= 3
    assert service.http.get("/v1/models/mdl_example").status_code == 200, "made anew when named"
