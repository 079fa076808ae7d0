"""A short run of benchmarks/chaos: real processes die and come back, and the checker looks on.

Small programs stand in for the jobs' processes; docs/reliability.md has the runs with real jobs.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_no_job_is_lost_while_everything_dies() -> None:
    command = [sys.executable, "-m", "benchmarks.chaos", "--light", "--jobs", "8"]
    command += ["--minutes", "0.25", "--settle-minutes", "2", "--seed", "4"]
    done = subprocess.run(
        [*command, "--logs"], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    words = f"{done.stdout[-4000:]}\n{done.stderr[-8000:]}"
    assert done.returncode == 0, words
    last = done.stdout.splitlines()[-1]
    found = re.fullmatch(r"0 violations in (\d+) jobs", last)
    assert found, words
    assert int(found[1]) >= 4, words
    faults = re.search(r"^faults: (.+)$", done.stdout, re.MULTILINE)
    assert faults, words
    assert faults[1].count("×") >= 4, words
