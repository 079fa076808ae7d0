"""The same escapes, tried where the worker is no root."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

UID = 65534
HERE = Path(__file__).parent


@pytest.mark.skipif(os.getuid() != 0, reason="then test_escapes.py is run by an ordinary user")
def test_an_ordinary_users_jobs_do_not_get_out_either() -> None:
    chosen = "gets_out or attack or named or tricks or confine_runs"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.hostile.ordinary", str(UID)),
            *("-n0", "-q", "-k", chosen, str(HERE / "test_escapes.py")),
        ],
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed
    assert int(passed[1]) >= 22
