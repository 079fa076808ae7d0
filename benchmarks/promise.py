"""Whether "at most one point of accuracy lost" is kept: the example's digits, seed by seed.

`python -m benchmarks.promise [--seeds 10] [--points 1]` carries out jobs as `secateur prune
--max-drop` asks for them, and prints what each lost on the test samples that chose nothing.
"""

import argparse
import io
import statistics
import tempfile
from pathlib import Path

from app.client.specs import towards
from app.domain.metrics import Metrics
from app.services.examples import FILES
from tests.workers.orders import make_order
from workers.protocol import Reporter
from workers.run import run


def main() -> None:
    """Carry out, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--points", type=float, default=1.0)
    asked = parser.parse_args()
    print("| Seed | Points lost | 95 % interval | MACs kept | |\n|---|---|---|---|---|")
    kept, missed = [], 0
    for seed in range(asked.seeds):
        found = _carried_out(seed, asked.points)
        target = found.target
        assert target is not None
        assert target.interval is not None
        kept.append(found.after.macs / found.before.macs)
        missed += not target.met
        low, high = (f"{end:.2f}" for end in target.interval)
        told = "kept" if target.met else "missed"
        row = (seed, f"{target.achieved:.2f}", f"{low} to {high}", f"{kept[-1]:.2f}", told)
        print(f"| {' | '.join(map(str, row))} |", flush=True)
    print(f"missed {missed} of {asked.seeds}; mean of MACs kept {statistics.mean(kept):.2f}")


def _carried_out(seed: int, points: float) -> Metrics:
    spec = towards({"max_drop": points}, epochs=10, exports=[]) | {"seed": seed, "dataset": "dts_1"}
    model, data = FILES / "digits.keras", FILES / "digits.npz"
    with tempfile.TemporaryDirectory() as folder:
        order = make_order(model, Path(folder), spec, data=data, scale=0.0625)
        result, _ = run(order, Reporter(io.StringIO()))
    return Metrics.model_validate(result)


if __name__ == "__main__":
    main()
