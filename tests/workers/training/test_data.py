"""From an uploaded file to the arrays that training takes."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from app.domain.dataset import DatasetOptions
from app.domain.errors import DatasetMismatch, InvalidDataset
from app.domain.model import ModelInfo, TensorInfo
from app.intake import table_files
from app.intake.datasets import inspect_dataset
from workers.training.data import Data, Samples, load_data

Shapes = dict[str, tuple[int, ...]]


def model(inputs: Shapes, outputs: Shapes, dtype: str = "float32") -> ModelInfo:
    def tensors(shapes: Shapes, dtype: str) -> tuple[TensorInfo, ...]:
        return tuple(
            TensorInfo(name=name, shape=(None, *shape), dtype=dtype)
            for name, shape in shapes.items()
        )

    return ModelInfo(
        format="keras", keras_version="3", legacy=False, parameters=0, layers=(),
        inputs=tensors(inputs, dtype), outputs=tensors(outputs, "float32"),
    )  # fmt: skip


def load(
    path: Path, fitting: ModelInfo, seed: int = 0, judging: bool = False, **options: Any
) -> Data:
    info = inspect_dataset(path, path.name, DatasetOptions(**options))
    return load_data(path, info, fitting, seed, judging=judging)


def parts(data: Data) -> list[Samples]:
    return [data.train, data.validation, data.test]


def npz(tmp_path: Path, **arrays: Any) -> Path:
    path = tmp_path / "data.npz"
    np.savez(path, **arrays)
    return path


def rows(count: int, *shape: int) -> np.ndarray[Any, Any]:
    """Samples that say which one they are."""
    values = np.arange(count, dtype=np.uint8).reshape(count, *[1] * len(shape))
    return np.broadcast_to(values, (count, *shape)).copy()


def test_stored_splits_stay_as_they_are(tmp_path: Path) -> None:
    path = npz(
        tmp_path,
        x_train=rows(9, 2, 2), y_train=np.arange(9) % 3,
        x_val=rows(4, 2, 2), y_val=np.arange(4) % 3,
        x_test=rows(5, 2, 2), y_test=np.arange(5) % 3,
    )  # fmt: skip
    data = load(path, model({"in": (2, 2, 1)}, {"out": (3,)}), scale=0.5)
    assert [part.count for part in parts(data)] == [9, 4, 5]
    for part in parts(data):
        assert list(part.inputs) == ["in"]
        assert isinstance(part.x, np.ndarray)
        assert (part.x.shape, part.x.dtype) == ((part.count, 2, 2, 1), np.float32)
        np.testing.assert_array_equal(part.x[:, 0, 0, 0], np.arange(part.count) * 0.5)
        assert isinstance(part.y, np.ndarray)
        assert part.y.dtype == np.int32
        np.testing.assert_array_equal(part.y, np.arange(part.count) % 3)
    assert data.notes == (
        'Samples of "x", shape (2, 2), are reshaped to (2, 2, 1) for the model\'s input "in".',
    )


def test_unsplit_data_is_split_by_the_seed(tmp_path: Path) -> None:
    path = npz(tmp_path, x=rows(100, 4), y=np.arange(100) % 5)
    fitting = model({"in": (4,)}, {"out": (5,)})
    data = load(path, fitting, seed=7)
    assert [part.count for part in parts(data)] == [72, 8, 20]
    indexes = [part.inputs["in"][:, 0].astype(int).tolist() for part in parts(data)]
    assert sorted(np.concatenate(indexes)) == list(range(100))
    for part, drawn in zip(parts(data), indexes, strict=True):
        np.testing.assert_array_equal(part.targets[0], np.array(drawn) % 5)
    np.testing.assert_array_equal(np.bincount(data.test.targets[0]), [4] * 5)
    assert len(data.notes) == 2
    assert "20 samples (20%) were held out for the final figures by seed 7" in data.notes[0]

    same, other = load(path, fitting, seed=7), load(path, fitting, seed=8)
    np.testing.assert_array_equal(same.test.inputs["in"], data.test.inputs["in"])
    np.testing.assert_array_equal(same.validation.inputs["in"], data.validation.inputs["in"])
    assert not np.array_equal(other.test.inputs["in"], data.test.inputs["in"])


def test_the_test_split_does_not_depend_on_the_validation_share(tmp_path: Path) -> None:
    path = npz(tmp_path, x=rows(50, 4), y=np.arange(50) % 5)
    fitting = model({"in": (4,)}, {"out": (5,)})
    few, many = (load(path, fitting, validation_share=share) for share in (0.1, 0.5))
    np.testing.assert_array_equal(few.test.inputs["in"], many.test.inputs["in"])


@pytest.mark.parametrize(
    ("stored", "counts", "notes"),
    [
        (["train"], [72, 8, 20], 2),
        (["train", "test"], [90, 10, 100], 1),
        (["train", "val"], [80, 100, 20], 1),
    ],
)
def test_what_is_not_stored_comes_from_train(
    tmp_path: Path, stored: list[str], counts: list[int], notes: int
) -> None:
    arrays = {f"x_{split}": rows(100, 4) for split in stored}
    arrays |= {f"y_{split}": np.arange(100) / 2 for split in stored}
    data = load(npz(tmp_path, **arrays), model({"in": (4,)}, {"out": (1,)}))
    assert [part.count for part in parts(data)] == counts
    assert len(data.notes) == notes
    assert data.train.targets[0].shape == (counts[0], 1)
    assert data.train.targets[0].dtype == np.float32


@pytest.mark.parametrize(
    ("stored", "counts", "note"),
    [
        (["train", "test"], [100, 50, 50], "50 of the test samples (50%) were set aside by seed 0"),
        (["train", "val", "test"], [100, 100, 100], None),
        (["train"], [72, 8, 20], "trained on them, what candidates lose looks less than it is"),
    ],
)
def test_what_judges_candidates_is_new_to_the_original_where_possible(
    tmp_path: Path, stored: list[str], counts: list[int], note: str | None
) -> None:
    arrays = {f"x_{split}": rows(100, 4) for split in stored}
    arrays |= {f"y_{split}": np.arange(100) % 5 for split in stored}
    data = load(npz(tmp_path, **arrays), model({"in": (4,)}, {"out": (5,)}), judging=True)
    assert [part.count for part in parts(data)] == counts
    assert (note is None and not data.notes) or (note is not None and note in data.notes[-1])
    if stored == ["train", "test"]:
        chooses, final = (part.inputs["in"][:, 0] for part in (data.validation, data.test))
        assert sorted([*chooses, *final]) == list(range(100))
        for part in (data.validation, data.test):
            np.testing.assert_array_equal(np.bincount(part.targets[0]), [10] * 5)


def test_a_single_test_sample_gives_the_final_figure(tmp_path: Path) -> None:
    arrays = {"x_train": rows(20, 4), "y_train": np.arange(20) % 5}
    arrays |= {"x_test": rows(1, 4), "y_test": np.arange(1)}
    data = load(npz(tmp_path, **arrays), model({"in": (4,)}, {"out": (5,)}), judging=True)
    assert [part.count for part in parts(data)] == [18, 2, 1]


def test_several_inputs_and_outputs_come_in_the_models_order(tmp_path: Path) -> None:
    path = npz(
        tmp_path,
        **{"x.a": rows(10, 2), "x.b": rows(10, 3), "y.p": rows(10) / 4, "y.q": rows(10) % 2},
    )
    data = load(path, model({"b": (3,), "a": (2,)}, {"q": (2,), "p": (1,)}))
    x, y = data.train.x, data.train.y
    assert isinstance(x, list)
    assert isinstance(y, list)
    assert [array.shape[1:] for array in x] == [(3,), (2,)]
    assert [(array.shape[1:], array.dtype) for array in y] == [((), np.int32), ((1,), np.float32)]
    np.testing.assert_array_equal(x[0][:, 0], x[1][:, 0])
    np.testing.assert_array_equal(x[0][:, 0] / 4, y[1][:, 0])


def test_text_labels_become_class_indexes(tmp_path: Path) -> None:
    names = np.array(["emu", "cat", "dog"])[np.arange(30) % 3]
    data = load(npz(tmp_path, x=rows(30, 2), y=names), model({"in": (2,)}, {"out": (3,)}))
    for part in parts(data):
        drawn = part.inputs["in"][:, 0].astype(int)
        np.testing.assert_array_equal(part.targets[0], np.array([2, 0, 1])[drawn % 3])


def test_indexes_for_integer_inputs_stay_integers(tmp_path: Path) -> None:
    fitting = model({"in": (4,)}, {"out": (1,)}, dtype="int32")
    data = load(npz(tmp_path, x=rows(10, 4).astype(np.int64), y=rows(10) % 2), fitting)
    assert data.train.inputs["in"].dtype == np.int32
    with pytest.raises(InvalidDataset, match="beyond 32 bits"):
        load(npz(tmp_path, x=np.full((10, 4), 2**40), y=rows(10) % 2), fitting)


def test_whole_numbers_too_large_for_labels_are_quantities(tmp_path: Path) -> None:
    path = npz(tmp_path, x=rows(10, 4), y=np.arange(10) * 10**10)
    assert load(path, model({"in": (4,)}, {"out": (1,)})).train.targets[0].dtype == np.float32


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    monkeypatch.setattr(table_files, "BLOCK_BYTES", 64)
    monkeypatch.setattr(table_files, "BATCH_CELLS", 16)
    path = tmp_path / f"table.{ending}"
    count = 40
    names = [("no", "yes")[row % 2] for row in range(count)]
    flags = [row % 3 == 0 for row in range(count)]
    if ending == "csv":
        lines = [f"{row},{names[row]},{row / 4},{str(flags[row]).lower()}" for row in range(count)]
        path.write_text("\n".join(["a,label,b,c", *lines]))
    else:
        columns = {
            "a": list(range(count)), "label": names, "b": [row / 4 for row in range(count)],
            "c": flags,
        }  # fmt: skip
        pq.write_table(pa.table(columns), path)
    data = load(path, model({"in": (3,)}, {"out": (2,)}), target="label")
    assert sorted(np.concatenate([part.inputs["in"][:, 0] for part in parts(data)])) == list(
        range(count)
    )
    for part in parts(data):
        x = part.inputs["in"]
        assert x.dtype == np.float32
        np.testing.assert_array_equal(x[:, 1], x[:, 0] / 4)
        np.testing.assert_array_equal(x[:, 2], x[:, 0] % 3 == 0)
        np.testing.assert_array_equal(part.targets[0], x[:, 0] % 2)


@pytest.mark.parametrize(
    ("values", "outputs", "dtype"),
    [("{}", (6,), np.int32), ("{}.5", (1,), np.float32), ("{}", (1,), np.int32)],
)
def test_number_targets_of_tables(
    tmp_path: Path, values: str, outputs: tuple[int, ...], dtype: Any
) -> None:
    path = tmp_path / "table.csv"
    lines = [f"{row},{values.format(row % 6)}" for row in range(30)]
    path.write_text("\n".join(["a,y", *lines]))
    part = load(path, model({"in": (1,)}, {"out": outputs}), target="y").train
    assert part.targets[0].dtype == dtype
    offset = 0.5 if "." in values else 0.0
    np.testing.assert_array_equal(part.targets[0].reshape(-1), part.inputs["in"][:, 0] % 6 + offset)


def image(value: int, size: tuple[int, int] = (4, 6), mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    colour = value if mode == "L" else (value, 2 * value, 3 * value)
    Image.new(mode, size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def folders(tmp_path: Path, members: dict[str, bytes]) -> Path:
    path = tmp_path / "images.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_images(tmp_path: Path) -> None:
    members = {
        f"{split}/{name}/{number}.png": image(10 * index + number)
        for split in ("train", "test")
        for index, name in enumerate("ba")
        for number in range(8)
    }
    data = load(folders(tmp_path, members), model({"in": (6, 4, 3)}, {"out": (2,)}))
    assert [part.count for part in parts(data)] == [14, 2, 16]
    for part in parts(data):
        x = part.inputs["in"]
        assert (x.shape[1:], x.dtype) == ((6, 4, 3), np.float32)
        np.testing.assert_array_equal(x[..., 2], 3 * x[..., 0])
        # Classes are numbered by name: a is 0 and has the values from 10.
        np.testing.assert_array_equal(part.targets[0], x[:, 0, 0, 0] < 10)


def test_images_are_resized_and_recoloured_as_asked(tmp_path: Path) -> None:
    members = {f"{name}/{n}.png": image(60, (4 + n, 9), "L") for name in "ab" for n in range(4)}
    members["a/5.png"] = image(20)
    fitting = model({"in": (8, 5)}, {"out": (1,)})
    data = load(folders(tmp_path, members), fitting, image_size=(8, 5), color="grayscale")
    assert data.train.inputs["in"].shape[1:] == (8, 5)
    greys = np.unique(np.concatenate([part.inputs["in"].ravel() for part in parts(data)]))
    # Pillow's grey: 0.299 R + 0.587 G + 0.114 B of (20, 40, 60) = 36.3
    np.testing.assert_array_equal(greys, [36, 60])


def test_an_image_that_does_not_decode_is_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(buffer, "PNG")
    whole = buffer.getvalue()
    members = {f"{name}/{number}.png": whole for name in "ab" for number in range(3)}
    members["b/9.png"] = whole[: len(whole) // 2]
    with pytest.raises(InvalidDataset, match=r"b/9\.png"):
        load(folders(tmp_path, members), model({"in": (64, 64, 3)}, {"out": (2,)}))


def test_another_file_than_the_one_inspected_is_refused(tmp_path: Path) -> None:
    path = npz(tmp_path, x=rows(10, 4), y=np.arange(10) % 2)
    info = inspect_dataset(path, path.name, DatasetOptions())
    npz(tmp_path, x=rows(9, 4), y=np.arange(9) % 2)
    with pytest.raises(InvalidDataset, match="not what was uploaded"):
        load_data(path, info, model({"in": (4,)}, {"out": (2,)}), 0)


def test_a_data_set_that_does_not_fit_is_not_even_read(tmp_path: Path) -> None:
    path = npz(tmp_path, x=rows(10, 4), y=np.arange(10) % 2)
    info = inspect_dataset(path, path.name, DatasetOptions())
    path.unlink()
    with pytest.raises(DatasetMismatch):
        load_data(path, info, model({"in": (5,)}, {"out": (2,)}), 0)


def test_head_and_batches(tmp_path: Path) -> None:
    path = npz(tmp_path, x=rows(20, 4), y=np.arange(20) % 2)
    part = load(path, model({"in": (4,)}, {"out": (2,)})).train
    assert part.head(3).count == 3
    assert part.head(3).inputs["in"].shape == (3, 4)
    assert part.head(99).count == part.count
    sizes = [len(inputs[0]) for inputs, _ in part.batches(5)]
    assert sum(sizes) == part.count
    assert set(sizes[:-1]) == {5}
