"""Where the benchmarks find MNIST."""

import argparse
from pathlib import Path


def asked_for(parser: argparse.ArgumentParser) -> argparse.Namespace | None:
    """What was asked for, with the digits as `data`; None, and a word of it, where they are not."""
    parser.add_argument("--data", type=Path, default=Path("../shared/data/mnist.npz"))
    asked = parser.parse_args()
    if not asked.data.exists():
        print(f"skipped: {asked.data} is not there; name an npz of MNIST with --data")
        return None
    return asked
