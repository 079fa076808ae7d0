"""What a fresh interpreter has loaded once it has imported something."""

import json
import subprocess
import sys


def loaded(code: str, among: set[str]) -> set[str]:
    """Which of these top-level packages are there after the code has run.

    Args:
        code: run by `python -c` in a process of its own; its failure is raised.
        among: names of packages.
    """
    code += "\nimport json, sys\nprint(json.dumps([name.split('.')[0] for name in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return set(json.loads(done.stdout.splitlines()[-1])) & among
