"""The process that reads one upload: an order on stdin, one JSON answer on stdout.

The answer is `{"info": …}`, `{"refused": …}`, `{"memory": true}`, `{"full": true}` or
`{"defect": …}`. It holds no more than what `app.intake.process` believes: that is checked there.
"""

import errno
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from app.domain.dataset import DatasetOptions
from app.domain.errors import InvalidDataset, InvalidModel
from app.intake.confinement import Limits, confine


def main() -> None:
    """Read the order, hold the process back, and answer."""
    order = json.load(sys.stdin)
    # What a library prints must not be taken for the answer.
    answer_file = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    lacks = confine(
        Limits.model_validate(order["limits"]), Path(order["path"]), Path(order["folder"])
    )
    with answer_file:
        answer = _answer(order) | {"peak_bytes": _peak_bytes(), "lacks": lacks}
        answer_file.write(json.dumps(answer).encode())
    os._exit(0)  # Nothing is left to tidy up.


def _peak_bytes() -> int:
    """Most memory that this process had; what getrusage says counts its parent's as well."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def _answer(order: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"info": _read(order)}
    except (InvalidModel, InvalidDataset) as error:
        if _finds_no_room(error):
            return {"full": True}
        refused = {"detail": error.detail, "field": error.field, "errors": error.errors}
        return {"refused": refused, "memory": isinstance(error.__cause__, MemoryError)}
    except MemoryError:
        return {"memory": True}
    except Exception as error:
        if _finds_no_room(error):
            return {"full": True}
        return {"defect": traceback.format_exc()[-4000:]}


def _finds_no_room(error: BaseException | None) -> bool:
    """Whether a full disk is behind an error, which is no fault of the file's."""
    while error is not None:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if full or os.strerror(errno.ENOSPC) in str(error):  # HDF5 tells it in words.
            return True
        error = error.__cause__ or error.__context__
    return False


def _read(order: dict[str, Any]) -> dict[str, Any]:
    path, filename = Path(order["path"]), order["filename"]
    # Each kind of upload imports its own libraries: the process lives for milliseconds.
    if order["kind"] == "model":
        from app.intake.canonical import write_canonical
        from app.intake.models import inspect_model

        folder = Path(order["folder"])
        info = inspect_model(path, filename, folder)
        write_canonical(path, folder / order["canonical"], info)
        return info.model_dump(mode="json", by_alias=True)
    from app.intake.datasets import inspect_dataset

    options = DatasetOptions.model_validate(order["options"])
    return inspect_dataset(path, filename, options).model_dump(mode="json", by_alias=True)


if __name__ == "__main__":
    main()
