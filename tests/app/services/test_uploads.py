"""Uploads are kept by content, and not deleted while a job needs them."""

import json
import zipfile
from pathlib import Path

import pytest

from app.domain.dataset import DatasetOptions
from app.domain.errors import (
    IdempotencyConflict,
    InUse,
    InvalidDataset,
    InvalidModel,
    InvalidUpload,
    NotFound,
)
from app.domain.ids import new_id
from app.domain.job import Status
from app.services import lifecycle
from app.services.examples import DATASET_FILE, MODEL_FILE
from app.services.idempotency import Answer
from tests.app.services.conftest import World


def upload(world: World, file: Path, key: str | None = None, name: str = "") -> Answer:
    writer = world.store.writer()
    try:
        writer.write(file.read_bytes())
        if file.suffix == ".npz":
            return world.uploads.add_dataset(writer, name or file.name, DatasetOptions(), key)
        return world.uploads.add_model(writer, name or file.name, key)
    finally:
        writer.abort()


def blobs(world: World) -> list[Path]:
    return list((world.store.root / "blobs").glob("*/*"))


def test_equal_content_is_stored_once(world: World) -> None:
    one, two = upload(world, MODEL_FILE), upload(world, MODEL_FILE, name="b.keras")
    assert one.body["id"] != two.body["id"]
    assert one.body["sha256"] == two.body["sha256"]
    assert len(blobs(world)) == 1
    assert list((world.store.root / "tmp").iterdir()) == []


def test_a_repeated_upload_is_answered_alike(world: World) -> None:
    one, two = upload(world, MODEL_FILE, "key"), upload(world, MODEL_FILE, "key")
    assert two.replayed
    assert (one.body, one.location) == (two.body, two.location)


def test_another_file_under_the_key_is_refused(world: World, tmp_path: Path) -> None:
    upload(world, MODEL_FILE, "key")
    other = tmp_path / "other.keras"
    with zipfile.ZipFile(MODEL_FILE) as old, zipfile.ZipFile(other, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(IdempotencyConflict):
        upload(world, other, "key")


def test_models_and_data_sets_have_keys_of_their_own(world: World) -> None:
    upload(world, MODEL_FILE, "key")
    assert not upload(world, DATASET_FILE, "key").replayed


@pytest.mark.parametrize(("name", "error"), [("a.keras", InvalidModel), ("a.npz", InvalidDataset)])
def test_a_file_that_is_refused_is_not_kept(
    world: World, tmp_path: Path, name: str, error: type[Exception]
) -> None:
    (tmp_path / name).write_bytes(b"nonsense")
    with pytest.raises(error):
        upload(world, tmp_path / name)
    assert blobs(world) == []
    assert list((world.store.root / "tmp").iterdir()) == []


def test_a_layer_s_name_that_cannot_be_stored_is_refused(world: World, tmp_path: Path) -> None:
    named = tmp_path / "nul.keras"
    with zipfile.ZipFile(MODEL_FILE) as old, zipfile.ZipFile(named, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                content = content.replace(b'"digit"', b'"di\\u0000git"')
            new.writestr(name, content)
    with pytest.raises((InvalidModel, InvalidUpload)):
        upload(world, named)
    assert blobs(world) == []


def test_a_backslash_before_u0000_is_no_nul(world: World, tmp_path: Path) -> None:
    named = tmp_path / "slash.keras"
    with zipfile.ZipFile(MODEL_FILE) as old, zipfile.ZipFile(named, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "metadata.json":
                content = json.dumps({"keras_version": "3.15.1\\u0000"}).encode()
            new.writestr(name, content)
    assert upload(world, named).body["keras_version"] == "3.15.1\\u0000"


def test_a_long_file_name_is_cut(world: World) -> None:
    assert upload(world, MODEL_FILE, name="ü" * 300 + ".keras").body["filename"] == "ü" * 255


# --- delete ------------------------------------------------------------------------------------
def test_what_an_unfinished_job_needs_stays(world: World) -> None:
    job = world.job()
    with pytest.raises(InUse, match=job):
        world.uploads.delete_model("mdl_1")
    with pytest.raises(InUse, match=job):
        world.uploads.delete_dataset("dts_1")
    attempt = world.attempt(job)
    with pytest.raises(InUse, match=job):
        world.uploads.delete_model("mdl_1")
    lifecycle.finish(world.database, attempt, Status.SUCCEEDED)
    world.uploads.delete_model("mdl_1")
    world.uploads.delete_dataset("dts_1")
    with pytest.raises(NotFound, match="mdl_1"):
        world.uploads.model("mdl_1")
    assert world.jobs.get(job).model == "mdl_1"


def test_a_data_set_that_no_job_names_can_go(world: World) -> None:
    world.job(dataset=None)
    world.uploads.delete_dataset("dts_1")
    with pytest.raises(NotFound):
        world.uploads.dataset("dts_1")


def test_deleting_twice_says_that_it_is_gone(world: World) -> None:
    world.uploads.delete_model("mdl_1")
    with pytest.raises(NotFound):
        world.uploads.delete_model("mdl_1")


# --- list --------------------------------------------------------------------------------------
def test_newest_first_and_stable_while_more_arrive(world: World) -> None:
    made = [upload(world, DATASET_FILE).body["id"] for _ in range(3)]
    first = [item.id for item in world.uploads.datasets(2, None)]
    upload(world, DATASET_FILE)
    rest = [item.id for item in world.uploads.datasets(10, first[-1])]
    everything = [*first, *rest]
    assert set(everything) == {*made, "dts_1"}
    assert everything == sorted(everything, reverse=True)


def test_filters(world: World) -> None:
    upload(world, MODEL_FILE, name="a.keras")
    wanted = upload(world, MODEL_FILE, name="b.keras").body
    found = world.uploads.models(10, None, filename="b.keras", sha256=wanted["sha256"])
    assert [item.id for item in found] == [wanted["id"]]
    assert world.uploads.models(10, None, filename="b.keras", sha256="a" * 64) == []


def test_ids_sort_by_time() -> None:
    import time

    early = new_id("mdl")
    time.sleep(0.002)
    assert early < new_id("mdl")
