"""`make audit`: findings fail, silence is told from innocence."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tools import audit

ROOT = Path(__file__).parents[2]
KNOWN = {"name": "jinja2", "version": "2.10", "vulns": [{"id": "PYSEC-2019-217"}]}
CLEAN = {"name": "celery", "version": "5.7.0", "vulns": []}
UNKNOWN = {"name": "jinja2", "skip_reason": "Dependency not found on PyPI"}


def database(known: Any, locked: Any, only: str = "pypi") -> audit.Audit:
    """A pip-audit that answers so, for one database."""

    def ask(name: str, files: Sequence[str], hashed: bool) -> list[dict[str, Any]] | None:
        if name != only:
            return None
        assert hashed == (files is audit.LOCKS)
        return locked if hashed else known  # type: ignore[no-any-return]

    return ask


def test_a_finding_fails(capsys: pytest.CaptureFixture[str]) -> None:
    finding = {"id": "PYSEC-1", "fix_versions": ["5.7.1"]}
    assert audit.run(database([KNOWN], [CLEAN, CLEAN | {"vulns": [finding]}])) == 1
    said = capsys.readouterr().out
    assert "celery 5.7.0: PYSEC-1; fixed in: 5.7.1" in said
    assert "1 of 2 packages" in said


@pytest.mark.parametrize("only", audit.DATABASES)
def test_no_finding_passes(capsys: pytest.CaptureFixture[str], only: str) -> None:
    assert audit.run(database([KNOWN], [CLEAN, UNKNOWN], only)) == 0
    assert f"audit ({only}): 0 of 1 packages" in (said := capsys.readouterr().out)
    assert "1 are unknown there" in said


@pytest.mark.parametrize("known", [None, [], [UNKNOWN], [KNOWN | {"vulns": []}]])
def test_a_database_that_does_not_know_the_known_is_not_believed(
    capsys: pytest.CaptureFixture[str], known: Any
) -> None:
    assert audit.run(database(known, [CLEAN])) == 0
    assert capsys.readouterr().out.startswith("audit skipped: no vulnerability database answers")


def test_the_locks_are_there_and_whole() -> None:
    assert sorted(ROOT.glob("requirements/*.txt")) == sorted(ROOT / lock for lock in audit.LOCKS)
