"""Orders as the API makes them, for files in a folder."""

from pathlib import Path
from typing import Any

from app.domain.dataset import DatasetOptions
from app.domain.job import Order
from app.domain.spec import PruningSpec
from app.intake.datasets import inspect_dataset
from app.intake.models import inspect_model


def make_order(
    model: Path,
    folder: Path,
    spec: dict[str, Any],
    kind: str = "prune",
    data: Path | None = None,
    **options: Any,
) -> Order:
    """An order to be carried out in `folder`, without latencies unless the spec says so.

    Args:
        options: of the data set.
    """
    for name in ("out", "scratch"):
        (folder / name).mkdir(exist_ok=True)
    asked = {"model": "mdl_1", "evaluate": {"latency": None}, **spec}
    return Order.model_validate(
        {
            "job": "job_1",
            "kind": kind,
            "attempt": 1,
            "spec": PruningSpec.model_validate(asked),
            "model": inspect_model(model, model.name),
            "model_path": str(model),
            "dataset": data and inspect_dataset(data, data.name, DatasetOptions(**options)),
            "dataset_path": data and str(data),
            "out": str(folder / "out"),
            "scratch": str(folder / "scratch"),
        }
    )
