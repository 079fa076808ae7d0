"""Mutated files against the intake, each read by a fork that has the limits of a real reading.

As in the service, a crash of a C library or an endless loop in one ends that process alone and is
a refusal; they are counted. An exception that nobody expected is wrong.
"""

import json
import os
import random
import resource
import signal
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

from app.domain.dataset import DatasetOptions
from app.domain.errors import InvalidDataset, InvalidModel
from app.intake.canonical import write_canonical
from app.intake.datasets import inspect_dataset
from app.intake.models import inspect_model
from app.intake.process import BASE_CPU_SECONDS
from tests.hostile.mutations import mutated, sound

SECONDS = 2.0
ACCEPTED, REFUSED, WRONG = range(3)
STOPPED = (signal.SIGXCPU, signal.SIGKILL)


def fuzz(kind: str, count: int, seed: int, kept: Path) -> dict[str, Any]:
    """Read mutated files, all by one seed; canonical copies of accepted models go to `kept`.

    Returns:
        How many were accepted, refused, endless or crashed the library; the slowest of the
        first two; and what went wrong.
    """
    content, wrong, counts, slowest = sound(kind), list[str](), Counter[str](), 0.0
    with tempfile.TemporaryDirectory() as folder:
        path, said = Path(folder) / f"m.{kind}", Path(folder) / "said"
        for index in range(count):
            path.write_bytes(mutated(kind, content, random.Random(f"{seed}/{kind}/{index}")))
            copy = kept / f"{kind}-{index}.{kind}"
            status, seconds = _forked(kind, path, copy, said)
            name = f"{kind}/{seed}/{index}"
            if status < 0:
                counts["endless" if -status in STOPPED else "crashed"] += 1
                copy.unlink(missing_ok=True)
                continue
            slowest = max(slowest, seconds)
            counts["accepted" if status == ACCEPTED else "refused"] += 1
            if status == WRONG:
                wrong.append(f"{name}: {said.read_text()}")
            elif seconds > SECONDS:
                wrong.append(f"{name} took {seconds:.1f} s")
    ends = {end: counts[end] for end in ("accepted", "refused", "endless", "crashed")}
    return {**ends, "slowest": slowest, "wrong": wrong}


def _forked(kind: str, path: Path, copy: Path, said: Path) -> tuple[int, float]:
    """Exit status, minus the number of a signal; and seconds of CPU."""
    pid = os.fork()
    if pid == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (BASE_CPU_SECONDS, BASE_CPU_SECONDS))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os._exit(_outcome(kind, path, copy, said))
    _, status, usage = os.wait4(pid, 0)
    return os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime


def _outcome(kind: str, path: Path, copy: Path, said: Path) -> int:
    try:
        _read(kind, path, copy)
    except (InvalidModel, InvalidDataset) as error:
        said.write_text("refused without a word")
        return REFUSED if error.detail else WRONG
    except BaseException as error:  # noqa: BLE001 (that there is any is what is looked for)
        said.write_text(f"{type(error).__name__}: {error}"[:300])
        return WRONG
    return ACCEPTED


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
