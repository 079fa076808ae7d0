"""Weights without their zeros: `model.sparse.npz`, the format that docs/sparse.md describes.

Each variable is a matrix of its last axis by all others, in compressed sparse rows (CSR) where that
takes fewer bytes, else as it is. numpy alone reads it: arrays and a head of JSON, no pickles.
"""

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from workers.engine.graph import values

Array = NDArray[Any]
FORMAT, VERSION = "secateur-sparse", 1


def write_sparse(model: Any, path: Path) -> None:
    """Write a model, and read it back.

    Raises:
        ValueError: what was read is not what was written.
    """
    arrays: dict[str, Array] = {}
    told = []
    for number, variable in enumerate(model.weights):
        value = values(variable)
        about = {"path": variable.path, "shape": list(value.shape), "dtype": str(value.dtype)}
        parts = compressed_rows(value)
        if sum(part.nbytes for part in parts.values()) >= value.nbytes:
            parts = {"value": value}
        arrays |= {f"{number}.{name}": _storable(part) for name, part in parts.items()}
        told.append(about | {"encoding": "value" if "value" in parts else "csr"})
    head = {"format": FORMAT, "version": VERSION, "config": model.to_json(), "variables": told}
    arrays["head"] = np.frombuffer(json.dumps(head).encode(), np.uint8)
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    again = read_sparse(path)
    for mine, other in zip(model.weights, again.weights, strict=True):
        if not np.array_equal(values(mine), values(other)):
            raise ValueError(f"{mine.path} is not what was written")


def _storable(part: Array) -> Array:
    """npz knows no bfloat16: the same bits as whole numbers."""
    return part.view(np.uint16) if str(part.dtype) == "bfloat16" else part


def compressed_rows(value: Array) -> dict[str, Array]:
    """CSR of an array of any shape, as a matrix of its last axis by all others.

    `data`: entries that are not zero, row by row. `indices`: their columns. `indptr`: where each
    row begins in both, and the end of the last. Minus zero is zero.
    """
    matrix = value.reshape(-1, value.shape[-1]) if value.ndim else value.reshape(1, 1)
    rows, columns = np.nonzero(matrix)
    ends = np.cumsum(np.bincount(rows, minlength=len(matrix)))
    return {
        "data": matrix[rows, columns],
        "indices": columns.astype(np.min_scalar_type(matrix.shape[1])),
        "indptr": np.concatenate([[0], ends]).astype(np.min_scalar_type(rows.size)),
    }


def read_sparse(path: Path) -> Any:
    """The model of a file; docs/sparse.md has the same for people who have no Secateur.

    Raises:
        ValueError: the file is of another format or version.
    """
    with np.load(path, allow_pickle=False) as file:
        head = json.loads(bytes(file["head"]))
        if (head["format"], head["version"]) != (FORMAT, VERSION):
            raise ValueError(f"{path.name} is no file of {FORMAT}, version {VERSION}")
        model = keras.models.model_from_json(head["config"])
        found = [_array(file, number, about) for number, about in enumerate(head["variables"])]
    for variable, value in zip(model.weights, found, strict=True):
        variable.assign(value)
    return model


def _array(file: Any, number: int, about: dict[str, Any]) -> Array:
    if about["encoding"] == "value":
        dense: Array = file[f"{number}.value"]
    else:
        data, indices, indptr = (file[f"{number}.{name}"] for name in ("data", "indices", "indptr"))
        width = about["shape"][-1]
        dense = np.zeros((len(indptr) - 1, width), data.dtype)
        rows = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr).astype(np.int64))
        dense[rows, indices] = data
    typed: Array = dense.view(np.dtype(about["dtype"]))
    return typed.reshape(about["shape"])
