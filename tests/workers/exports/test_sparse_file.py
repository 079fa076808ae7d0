"""Weights without their zeros: the same weights come back, by ours and by the documented loader."""

import json
import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from workers.exports import sparse_file
from workers.exports.formats import write
from workers.exports.sparse_file import compressed_rows, read_sparse, write_sparse

DOCS = Path(__file__).parents[3] / "docs" / "sparse.md"


def network(dtype: str = "float32") -> Any:
    """Nine of ten weights of each kernel are zero."""
    keras.utils.set_random_seed(4)
    layers = [
        keras.layers.Conv2D(8, 3, dtype=dtype),
        keras.layers.BatchNormalization(dtype=dtype),
        keras.layers.Flatten(dtype=dtype),
        keras.layers.Dropout(0.5, dtype=dtype),
        keras.layers.Dense(5, dtype=dtype),
    ]
    model = keras.Sequential([keras.Input((6, 6, 2)), *layers])
    random = np.random.default_rng(0)
    for variable in model.trainable_variables:
        value = random.standard_normal(variable.shape)
        if len(variable.shape) > 1:
            value *= random.random(variable.shape) < 0.1
        variable.assign(value)
    return model


def documented(name: str) -> Any:
    """A function that users copy."""
    for code in re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL):
        if f"def {name}(" in code:
            assert len(code.strip().splitlines()) <= 33
            names: dict[str, Any] = {}
            exec(compile(code, str(DOCS), "exec"), names)
            return names[name]
    raise AssertionError(f"no {name} in {DOCS}")


@pytest.mark.parametrize("bias", [True, False])
def test_the_documented_sparse_product_computes_the_model(bias: bool) -> None:
    hidden = [keras.layers.Dense(9, activation=kind) for kind in ("relu", "sigmoid", "linear")]
    out = keras.layers.Dense(4, activation="softmax", use_bias=bias)
    model = keras.Sequential([keras.Input((3, 2)), keras.layers.Flatten(), *hidden, out])
    x = np.random.default_rng(0).standard_normal((5, 3, 2)).astype(np.float32)
    found = documented("sparse_predict")(model)(x)
    np.testing.assert_allclose(found, model.predict(x, verbose=0), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="no Dense layer"):
        documented("sparse_predict")(network())


def same(one: Any, other: Any) -> bool:
    pairs = zip(one.weights, other.weights, strict=True)
    return all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in pairs)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_the_same_weights_come_back(dtype: str, tmp_path: Path) -> None:
    model = network(dtype)
    write_sparse(model, tmp_path / "model.sparse.npz")
    for load in (read_sparse, documented("load")):
        again = load(tmp_path / "model.sparse.npz")
        assert same(model, again)
        inputs = np.ones((2, 6, 6, 2), "float32")
        np.testing.assert_array_equal(np.asarray(again(inputs)), np.asarray(model(inputs)))


def test_zeros_take_no_room(tmp_path: Path) -> None:
    inputs = keras.Input((300,))
    model = keras.Model(inputs, keras.layers.Dense(300)(inputs))
    sizes = []
    for share in (1.0, 0.1):
        random = np.random.default_rng(1)
        kept = random.random((300, 300)) < share
        model.layers[-1].kernel.assign(random.standard_normal((300, 300)) * kept)
        sizes.append(write(model, "sparse_npz", tmp_path).stat().st_size)
    assert sizes[1] < sizes[0] / 5


def test_rows_are_scipys() -> None:
    parts = compressed_rows(np.array([[0.0, 2.0, 0.0], [0.0, 0.0, -0.0], [3.0, 0.0, 4.0]]))
    assert parts["data"].tolist() == [2.0, 3.0, 4.0]
    assert parts["indices"].tolist() == [1, 0, 2]
    assert parts["indptr"].tolist() == [0, 1, 1, 3]


def test_what_is_dense_stays_as_it_is(tmp_path: Path) -> None:
    model = network()
    write_sparse(model, tmp_path / "model.sparse.npz")
    with np.load(tmp_path / "model.sparse.npz", allow_pickle=False) as file:
        told = json.loads(bytes(file["head"]))["variables"]
    encodings = {about["path"].split("/")[-1]: about["encoding"] for about in told}
    assert (encodings["kernel"], encodings["gamma"]) == ("csr", "value")


def test_another_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sparse(network(), tmp_path / "model.sparse.npz")
    monkeypatch.setattr(sparse_file, "VERSION", 2)
    with pytest.raises(ValueError, match="version 2"):
        read_sparse(tmp_path / "model.sparse.npz")


def test_a_file_that_reads_otherwise_is_not_handed_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = network()
    other.layers[-1].bias.assign(np.ones(5))
    monkeypatch.setattr(sparse_file, "read_sparse", lambda _: other)
    with pytest.raises(ValueError, match="bias is not what was written"):
        write_sparse(network(), tmp_path / "model.sparse.npz")
