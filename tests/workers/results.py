"""Results of each kind of job, as a child tells them."""

from typing import Any

from tests.app.plots.test_job import metrics

_SIZE = {"parameters": 2, "nonzero_parameters": 2, "macs": 1, "bytes": 8}
_MODEL = {"model": "mdl_1", "engine": "1", "parameters": 2, "macs": 1}
RESULTS: dict[str, dict[str, Any]] = {
    "prune": metrics().model_dump(mode="json", by_alias=True),
    "plan": {"granularity": "unit", "before": _SIZE, "after": _SIZE, "layers": []},
    "analysis": {"seconds": 0.1, "layers": [], "edges": [], "notes": []} | _MODEL,
}
