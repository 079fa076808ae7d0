"""Environments of their own for the other sides of comparisons."""

import os
import subprocess
import sys
from pathlib import Path


def interpreter(here: Path, name: str) -> Path:
    """The interpreter of an environment in a folder, from the `requirements.txt` beside it.

    It is made when it is missing, or was made from other requirements.
    """
    environment = here / name
    python = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    ready = environment / "requirements.txt"
    wanted = (here / "requirements.txt").read_text()
    if not ready.exists() or ready.read_text() != wanted:
        print(f"Installing {here.name}'s requirements (once)", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", environment], check=True)
        install = [python, "-m", "pip", "install", "--quiet", "-r", here / "requirements.txt"]
        subprocess.run(install, check=True, stdout=sys.stderr)
        ready.write_text(wanted)
    return python
