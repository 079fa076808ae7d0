"""Mutated files against the intake; run as a process, since a crash must be seen as one.

Reading happens here directly and not in a process for each file, which would take minutes; what
such a process adds is held by `test_process.py`.
"""

import json
import random
import resource
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

from app.domain.dataset import DatasetOptions
from app.domain.errors import InvalidDataset, InvalidModel
from app.intake.canonical import write_canonical
from app.intake.datasets import inspect_dataset
from app.intake.models import inspect_model
from tests.hostile.mutations import mutated, sound

SECONDS = 2.0


def fuzz(kind: str, count: int, seed: int, kept: Path) -> dict[str, Any]:
    """Read mutated files, all by one seed; canonical copies of accepted models go to `kept`.

    Returns:
        How many were accepted and refused, the slowest, and what went wrong.
    """
    content, wrong = sound(kind), list[str]()
    accepted, slowest = 0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"m.{kind}"
        for index in range(count):
            path.write_bytes(mutated(kind, content, random.Random(f"{seed}/{kind}/{index}")))
            began = time.process_time()
            try:
                _read(kind, path, kept / f"{kind}-{index}.{kind}")
                accepted += 1
            except (InvalidModel, InvalidDataset) as error:
                if not error.detail:
                    wrong.append(f"{kind}/{index}: refused without a word")
            except Exception as error:  # noqa: BLE001 (that there is any is what is looked for)
                wrong.append(f"{kind}/{index}: {type(error).__name__}: {error}"[:300])
            slowest = max(slowest, time.process_time() - began)
    if slowest > SECONDS:
        wrong.append(f"{kind}: one took {slowest:.1f} s")
    return {"accepted": accepted, "refused": count - accepted, "slowest": slowest, "wrong": wrong}


def _read(kind: str, path: Path, copy: Path) -> None:
    if kind == "npz":
        inspect_dataset(path, path.name, DatasetOptions())
        return
    info = inspect_model(path, path.name)
    write_canonical(path, copy, info)
    copy.with_suffix(".json").write_text(info.model_dump_json(by_alias=True))


def main() -> None:
    """`python -m tests.hostile.fuzzing KIND COUNT SEED FOLDER`: one JSON line."""
    kind, count, seed, kept = sys.argv[1:]
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_DATA, (2**30, 2**30))
    print(json.dumps(fuzz(kind, int(count), int(seed), Path(kept))))


if __name__ == "__main__":
    main()
