"""What the confinement of a job's process costs: the same small job with and without, in turns.

    python -m benchmarks.confinement [pairs]

Each run is a process of its own, as the worker starts it, from its start (TensorFlow's import
included) to its last word, and from its `ready` to there. CPU time is told as well: a busy machine
moves it less. Prints medians and their ratio.
"""

import statistics
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

from app.domain.job import Order
from app.services.examples import FILES
from app.settings import Settings
from tests.workers.orders import make_order
from workers.confinement import Limits
from workers.parent import Child
from workers.protocol import Done, Ready, parse
from workers.users import Users

PAIRS = 7
SPEC = {
    "dataset": "dts_1",
    "prune": {"granularity": "unit", "target": {"kind": "fraction", "remove": 0.5}},
    "fine_tune": {"epochs": 3},
    "exports": ["keras", "litert"],
}
CONFINED = "import sys; from workers import child; code = child.main(); "
FREE = (
    "import sys; from workers import child; from app.domain.confinement import Confinement; "
    "child.enter = lambda _: Confinement(); child.seal = lambda found: found; "
    "code = child.main(); "
)
END = "sys.stdout.flush(); import os; os._exit(code)"


def run(program: str, users: Users | None) -> tuple[float, float, float]:
    """Seconds from the start, and from `ready`, to the end of the job; CPU seconds of all of it."""
    began = ready = time.perf_counter()
    child = Child(Limits.of(Settings()), (sys.executable, "-I", "-c", program + END), users)
    try:
        while True:
            lines = child.read(1.0)
            if lines is None:
                raise SystemExit(child.log.read_text())
            for message in map(parse, lines):
                if isinstance(message, Ready):
                    ready = time.perf_counter()
                    child.order(_order(child))
                elif isinstance(message, Done):
                    ended = time.perf_counter()
                    child.exit_status()
                    return ended - began, ended - ready, child.cpu_seconds
    finally:
        child.close()


@cache
def _template() -> Order:
    with tempfile.TemporaryDirectory() as folder:
        model, data = FILES / "digits.keras", FILES / "digits.npz"
        return make_order(model, Path(folder), SPEC, data=data)


def _order(child: Child) -> str:
    """The example model and its data, copied into the child's folder."""
    order = _template()
    places = {"out": str(child.out), "scratch": str(child.scratch)}
    for key, source in (("model_path", order.model_path), ("dataset_path", order.dataset_path)):
        path = child.folder / Path(str(source)).name
        path.write_bytes(Path(str(source)).read_bytes())
        child.receive(path)
        places[key] = str(path)
    return order.model_copy(update=places).model_dump_json()


def main() -> None:
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else PAIRS
    _template()
    free, confined = [], []
    for pair in range(pairs):
        both = [(free, FREE, None), (confined, CONFINED, Users.of(Settings()))]
        for seconds, program, users in both if pair % 2 else reversed(both):
            seconds.append(run(program, users))
        print(f"{pair + 1}: free {free[-1][0]:.2f} s, confined {confined[-1][0]:.2f} s", flush=True)
    for place, what in enumerate(("start to end", "ready to end", "CPU time")):
        without, within = (statistics.median(s[place] for s in each) for each in (free, confined))
        ratios = [c[place] / f[place] for c, f in zip(confined, free, strict=True)]
        print(
            f"{what}: free {without:.2f} s, confined {within:.2f} s, ratio of medians "
            f"{within / without:.3f}, median of the pairs' ratios {statistics.median(ratios):.3f} "
            f"(n={pairs})"
        )


if __name__ == "__main__":
    main()
