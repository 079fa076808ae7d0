"""In which order tests run, and which of them share a process.

`make test` runs two processes. A file's tests stay together, so that its fixtures are made once,
and those of tests/e2e do, so that they use one service. What takes longest begins first, or one
process would end long before the other; files that are not named come last, in their own order.
"""

from pathlib import Path

import pytest

ROOT = Path(__file__).parent
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


def group(path: Path) -> str:
    """What shares a process: a file, or all of tests/e2e."""
    relative = path.relative_to(ROOT)
    return "e2e" if relative.parts[0] == "e2e" else relative.as_posix()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ranks = {name: rank for rank, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: ranks.get(group(item.path), len(ranks)))
    for item in items:
        item.add_marker(pytest.mark.xdist_group(group(item.path)))
