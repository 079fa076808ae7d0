"""In which order tests run, and which of them share a process.

`make test` runs two processes. A file's tests stay together, so that its fixtures are made once,
and those of tests/e2e do, so that they use one service. What takes longest begins first, or one
process would end long before the other; files that are not named come last, in their own order.
"""

from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

LONGEST_FIRST = (
    "e2e",
    "workers/engine/test_jax.py",
    "hostile/test_ordinary_user.py",
    "docker/test_processes.py",
    "hostile/test_escapes.py",
    "workers/test_run_accuracy.py",
    "workers/engine/test_zoo.py",
    "workers/training/test_recovery.py",
    "workers/test_run_learned.py",
    "workers/test_supervise.py",
    "hostile/test_uploads.py",
    "workers/search/test_resolve.py",
    "app/api/test_resources.py",
    "workers/training/test_variational.py",
    "workers/test_run_targets.py",
)
"""Groups that take half a minute and more (`pytest --durations=0` says which)."""


def group(path: str) -> str:
    """What shares a process, of a path from the root: a file, or all of tests/e2e."""
    below = path.removeprefix("tests/")
    return "e2e" if below.startswith("e2e/") else below


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ranks = {name: rank for rank, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: ranks.get(group(item.nodeid.split("::")[0]), len(ranks)))


class Scheduling(LoadFileScheduling):
    """By `group`."""

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid.split("::")[0])


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling | None:
    """Ours for `--dist loadfile`."""
    return Scheduling(config, log) if config.getoption("dist") == "loadfile" else None
