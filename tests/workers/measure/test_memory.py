"""Memory that is added to the process: what is held, what came and went, and nothing."""

from pathlib import Path

import numpy as np
import pytest

from workers.measure.memory import peak_added

MEBIBYTE = 1024 * 1024


def pages(mebibytes: int) -> object:
    """Memory that is really there: pages count once they are written."""
    return np.ones(mebibytes * MEBIBYTE, np.uint8)


@pytest.mark.parametrize("mebibytes", [16, 64])
def test_what_is_held_counts(mebibytes: int) -> None:
    found = peak_added(lambda: pages(mebibytes))
    assert found is not None
    assert found / MEBIBYTE == pytest.approx(mebibytes, abs=6)


def test_what_has_come_and_gone_counts_too() -> None:
    def run() -> object:
        gone = [pages(32) for _ in range(3)]
        return len(gone)

    found = peak_added(run)
    assert found is not None
    assert found > 64 * MEBIBYTE


def test_nothing_takes_nothing() -> None:
    found = peak_added(lambda: None)
    assert found is not None
    assert found < 4 * MEBIBYTE


def test_errors_pass() -> None:
    def run() -> object:
        raise RuntimeError("the file is broken")

    with pytest.raises(RuntimeError, match="the file is broken"):
        peak_added(run)


def test_where_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("workers.measure.memory.STATM", tmp_path / "absent")
    assert peak_added(lambda: None) is None
