"""A few hundred mutated files; `python -m benchmarks.fuzz` reads thousands."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hostile.mutations import KINDS

COUNT, SEED = 100, 20261126


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept")


@pytest.mark.parametrize("kind", KINDS)
def test_mutated_files_are_read_or_refused_in_words(kind: str, kept: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "tests.hostile.fuzzing",
        kind,
        str(COUNT),
        str(SEED),
        str(kept),
    ]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr[-2000:]
    found = json.loads(ended.stdout)
    assert found["wrong"] == []
    assert found["refused"] > COUNT / 2


def test_what_is_accepted_loads_or_says_why_not(kept: Path) -> None:
    """Misspelt settings are left to Keras, whose refusal is a sentence too; most copies load."""
    command = [sys.executable, "-m", "tests.hostile.loading", str(kept)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr[-2000:]
    *refused, last = ended.stdout.splitlines()
    count = int(last.removeprefix("loaded "))
    assert count > 5
    assert all(": InvalidModel: " in line for line in refused), refused
    assert len(refused) <= count / 5, refused
