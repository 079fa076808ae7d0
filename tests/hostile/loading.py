"""`python -m tests.hostile.loading FOLDER`: loads each canonical copy as a worker would."""

import sys
import tempfile
import warnings
from pathlib import Path

from app.domain.model import ModelInfo
from workers.loading import load


def main() -> None:
    """One line for each copy that does not load, then how many there were."""
    warnings.simplefilter("ignore")
    copies = sorted(path for path in Path(sys.argv[1]).iterdir() if path.suffix != ".json")
    for path in copies:
        info = ModelInfo.model_validate_json(path.with_suffix(".json").read_text())
        with tempfile.TemporaryDirectory() as folder:
            try:
                load(path, info, Path(folder))
            except Exception as error:  # noqa: BLE001 (Keras raises whatever it likes)
                print(f"{path.name}: {type(error).__name__}: {' '.join(str(error).split())[:400]}")
    print(f"loaded {len(copies)}")


if __name__ == "__main__":
    main()
