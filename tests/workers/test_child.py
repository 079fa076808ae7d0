"""A job's process: what it imports."""

import importlib
import sys
from types import SimpleNamespace

import pytest

from workers import child


@pytest.mark.parametrize("name", child.UNUSED)
def test_what_no_job_uses_is_not_imported(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for each in child.UNUSED:
        monkeypatch.setitem(sys.modules, each, SimpleNamespace())  # Put back afterwards.
    monkeypatch.setitem(sys.modules, "workers.run", SimpleNamespace(run=len))
    importlib.import_module(name)
    assert child.load() is len
    with pytest.raises(ImportError):
        importlib.import_module(name)
