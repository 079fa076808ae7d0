"""The contract of a store, on every adapter there is."""

import hashlib
import os
import socket
import threading
import time
from pathlib import Path

import pytest

from app.adapters.s3 import S3Store
from app.adapters.store import FolderStore
from app.adapters.stores import open_store
from app.domain.errors import InternalError, Unavailable
from app.domain.ports import Store
from app.settings import Settings
from tests.servers import free_port

CONTENT = b"one two three" * 100
SHA256 = hashlib.sha256(CONTENT).hexdigest()
KEY = f"blobs/{SHA256[:2]}/{SHA256}"


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Each adapter; the contract below is the same for all."""
    if request.param == "folder":
        return FolderStore(tmp_path / "store")
    bucket = request.getfixturevalue("bucket")
    assert isinstance(bucket, S3Store)
    return bucket


@pytest.fixture
def folder(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "source"
    file.write_bytes(CONTENT)
    return file


def write(store: Store, content: bytes = CONTENT) -> str:
    writer = store.writer()
    try:
        writer.write(content)
        return writer.commit().key
    finally:
        writer.abort()


def whole(store: Store, key: str, size: int = len(CONTENT)) -> bytes:
    return b"".join(store.read(key, 0, size))


def files(store: Store) -> set[str]:
    """All keys, and the names of what interrupted writes left in the local folder."""
    local = store.root if isinstance(store, FolderStore) else store._local.root  # type: ignore[attr-defined]
    left = {path.name for path in (local / "tmp").iterdir()}
    return left | {stored.key for name in ("blobs", "jobs") for stored in store.listed(name)}


# --- content-addressed writes ------------------------------------------------------------------
def test_content_is_its_own_address(store: Store) -> None:
    writer = store.writer()
    writer.write(CONTENT[:500])
    writer.write(CONTENT[500:])
    assert writer.bytes_written == len(CONTENT)
    assert writer.sha256 == SHA256
    blob = writer.commit()
    assert (blob.key, blob.bytes, blob.sha256) == (KEY, len(CONTENT), SHA256)
    assert whole(store, blob.key) == CONTENT


def test_nothing_is_visible_before_the_commit(store: Store) -> None:
    writer = store.writer()
    writer.write(CONTENT)
    assert list(store.content_keys(-5)) == []
    assert writer.path.read_bytes() == CONTENT
    writer.abort()


def test_an_aborted_write_leaves_nothing(store: Store) -> None:
    writer = store.writer()
    writer.write(CONTENT)
    writer.abort()
    assert files(store) == set()


def test_an_abort_after_the_commit_is_harmless(store: Store) -> None:
    writer = store.writer()
    writer.write(CONTENT)
    writer.commit()
    writer.abort()
    assert files(store) == {KEY}


def test_an_empty_file_is_a_file(store: Store) -> None:
    assert whole(store, write(store, b""), 0) == b""


def test_equal_content_is_kept_once_whoever_writes(store: Store) -> None:
    threads = [threading.Thread(target=write, args=(store,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert files(store) == {KEY}
    assert whole(store, KEY) == CONTENT


def test_writing_again_makes_a_file_young(folder: FolderStore) -> None:
    write(folder)
    os.utime(folder.root / KEY, (0, 0))
    assert list(folder.content_keys(60)) == [KEY]
    write(folder)
    assert list(folder.content_keys(60)) == []


def test_a_slow_upload_is_young_when_it_is_committed(folder: FolderStore) -> None:
    writer = folder.writer()
    writer.write(CONTENT)
    os.utime(writer.path, (0, 0))
    writer.commit()
    assert list(folder.content_keys(60)) == []


# --- files under keys --------------------------------------------------------------------------
def test_a_file_is_copied_in_and_replaced(store: Store, source: Path) -> None:
    blob = store.put_file("jobs/job_1/a1/x", source)
    assert (blob.bytes, blob.sha256) == (len(CONTENT), SHA256)
    source.write_bytes(b"new")
    store.put_file("jobs/job_1/a1/x", source)
    assert whole(store, "jobs/job_1/a1/x") == b"new"
    assert files(store) == {"jobs/job_1/a1/x"}


def test_a_link_is_not_followed(store: Store, source: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(source)
    with pytest.raises(OSError, match=r"symbolic|loop"):
        store.put_file("jobs/job_1/a1/x", link)
    assert files(store) == set()


def test_a_pipe_does_not_hang_the_caller(store: Store, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(InternalError, match="regular"):
        store.put_file("jobs/job_1/a1/x", pipe)
    assert files(store) == set()


def test_a_missing_source_leaves_nothing(store: Store, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        store.put_file("jobs/job_1/a1/x", tmp_path / "none")
    assert files(store) == set()


@pytest.mark.parametrize(
    "key", ["../x", "jobs/../../x", "/etc/passwd", "a/../b", "", ".", "jobs/.."]
)
def test_no_key_leaves_the_store(store: Store, source: Path, key: str) -> None:
    write(store)
    with pytest.raises(InternalError):
        store.put_file(key, source)
    with pytest.raises(InternalError):
        store.delete(key)
    with pytest.raises(InternalError):
        store.delete_prefix(key)
    with pytest.raises(InternalError):
        list(store.read(key, 0, 1))
    with pytest.raises(InternalError):
        store.fetch(key, SHA256, source.with_name("out"))
    assert files(store) == {KEY}


def test_a_key_that_is_taken_stays_as_it_is(store: Store) -> None:
    assert store.put_new("jobs/job_1/x", b"first") is True
    assert store.put_new("jobs/job_1/x", b"second") is False
    assert whole(store, "jobs/job_1/x") == b"first"
    assert files(store) == {"jobs/job_1/x"}


def test_of_many_writers_one_gets_a_key(store: Store) -> None:
    got: list[bool] = []
    threads = [
        threading.Thread(target=lambda: got.append(store.put_new("jobs/job_1/x", b"mine")))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == [False] * 5 + [True]


def test_a_large_file_goes_in_and_out_in_parts(store: Store, tmp_path: Path) -> None:
    content = os.urandom(1 << 20) * 18
    (tmp_path / "large").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    blob = store.put_file("jobs/job_1/large", tmp_path / "large")
    assert (blob.bytes, blob.sha256) == (len(content), digest)
    assert store.put_file(None, tmp_path / "large").key == f"blobs/{digest[:2]}/{digest}"
    store.fetch("jobs/job_1/large", digest, tmp_path / "out")
    middle = slice(7 << 20, (9 << 20) + 1)
    assert b"".join(store.read(blob.key, middle.start, middle.stop)) == content[middle]


def test_a_file_over_its_limit_is_never_visible(store: Store, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(18 << 20))
    with pytest.raises(InternalError, match="larger"):
        store.put_file("jobs/job_1/x", tmp_path / "large", limit_bytes=17 << 20)
    assert files(store) == set()


# --- reading -----------------------------------------------------------------------------------
@pytest.mark.parametrize(("start", "end"), [(0, 1), (5, 9), (0, 1300), (1299, 1300), (7, 7)])
def test_a_part_is_read(store: Store, start: int, end: int) -> None:
    assert b"".join(store.read(write(store), start, end)) == CONTENT[start:end]


def test_a_fetched_file_is_checked(store: Store, tmp_path: Path) -> None:
    key = write(store)
    store.fetch(key, SHA256, tmp_path / "good")
    assert (tmp_path / "good").read_bytes() == CONTENT
    (tmp_path / "damaged").write_bytes(CONTENT[:-1] + b"!")
    store.put_file(key, tmp_path / "damaged")
    with pytest.raises(InternalError, match="SHA-256"):
        store.fetch(key, SHA256, tmp_path / "bad")


def test_a_missing_file_is_told_of(store: Store, tmp_path: Path) -> None:
    with pytest.raises(InternalError, match="missing"):
        store.fetch("blobs/aa/none", SHA256, tmp_path / "out")


def test_fetching_never_overwrites(store: Store, source: Path) -> None:
    key = write(store)
    with pytest.raises(FileExistsError):
        store.fetch(key, SHA256, source)


# --- forgetting --------------------------------------------------------------------------------
def test_deleting_twice_is_harmless(store: Store) -> None:
    key = write(store)
    for _ in range(2):
        store.delete(key)
        store.delete_prefix("jobs/job_none")
    assert files(store) == set()


def test_a_prefix_is_a_folder(store: Store, source: Path) -> None:
    for key in ("jobs/job_1/a1/x", "jobs/job_1/a2/y", "jobs/job_11/a1/x"):
        store.put_file(key, source)
    store.delete_prefix("jobs/job_1")
    assert files(store) == {"jobs/job_11/a1/x"}


def test_only_old_content_is_listed_and_deleted(store: Store) -> None:
    key = write(store)
    assert list(store.content_keys(60)) == []
    assert store.delete_old(key, 60) is False
    assert list(store.content_keys(-5)) == [key]
    assert store.delete_old(key, -5) is True
    assert store.delete_old(key, -5) is False
    assert files(store) == set()


def test_a_sweep_survives_files_that_vanish(folder: FolderStore) -> None:
    for number in range(20):
        os.utime(folder.root / write(folder, str(number).encode()), (0, 0))
    for key in folder.content_keys(60):
        for other in (folder.root / "blobs").glob("*/*"):
            other.unlink()
        assert folder.delete_old(key, 60) is False


def test_keys_are_listed_in_order_from_behind_one(store: Store) -> None:
    for name in ("b", "a", "c"):
        store.put_new(f"jobs/job_1/{name}", name.encode() * 3)
    store.put_new("jobs/job_11/a", b"")
    listed = list(store.listed("jobs/job_1"))
    assert [(stored.key[-1], stored.bytes) for stored in listed] == [("a", 3), ("b", 3), ("c", 3)]
    assert all(-5 < stored.age_seconds < 60 for stored in listed)
    assert [stored.key for stored in store.listed("jobs/job_1", "jobs/job_1/a")] == [
        "jobs/job_1/b",
        "jobs/job_1/c",
    ]


# --- what only a bucket does ---------------------------------------------------------------------
def test_what_was_swept_is_read_and_comes_back(bucket: S3Store, tmp_path: Path) -> None:
    key = write(bucket)
    bucket.delete_old(key, -5)
    assert [stored.key for stored in bucket.swept()] == [key]
    bucket.fetch(key, SHA256, tmp_path / "out")
    assert files(bucket) == {key}
    assert list(bucket.swept()) == []


def test_what_was_swept_and_purged_is_gone(bucket: S3Store, tmp_path: Path) -> None:
    key = write(bucket)
    bucket.delete_old(key, -5)
    bucket.purge(key)
    bucket.restore(key)
    with pytest.raises(InternalError, match="missing"):
        bucket.fetch(key, SHA256, tmp_path / "out")


def test_a_restored_file_does_not_replace_a_newer_one(bucket: S3Store) -> None:
    bucket.put_new("jobs/job_1/x", b"old")
    bucket.delete_old("jobs/job_1/x", -5)
    bucket.put_new("jobs/job_1/x", b"new")
    bucket.restore("jobs/job_1/x")
    assert whole(bucket, "jobs/job_1/x") == b"new"


def test_a_service_that_is_away_is_said_without_its_address(
    s3_endpoint: str, tmp_path: Path
) -> None:
    away = S3Store("s3://secateur", tmp_path, f"http://127.0.0.1:{free_port()}", "", 0.05)
    actions = [
        away.ping,
        lambda: write(away),
        lambda: away.put_new("jobs/x", b""),
        lambda: list(away.read("jobs/x", 0, 1)),
        lambda: away.fetch("jobs/x", SHA256, tmp_path / "out"),
        lambda: list(away.listed("jobs")),
        lambda: away.delete("jobs/x"),
    ]
    for action in actions:
        with pytest.raises(Unavailable, match="does not answer") as caught:
            action()
        assert "127.0.0.1" not in caught.value.detail
    assert not (tmp_path / "out").exists()


def test_a_bucket_that_is_not_there_is_said(s3_endpoint: str, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="bucket is not there"):
        write(S3Store("s3://no-such-bucket/x", tmp_path, s3_endpoint))


def test_a_silent_service_is_given_up(tmp_path: Path, s3_endpoint: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(Unavailable):
            S3Store("s3://secateur", tmp_path, endpoint, "", 0.2).put_new("jobs/x", b"")
        assert time.monotonic() - began < 5


# --- what only a folder does ---------------------------------------------------------------------
def test_a_full_disk_is_said(folder: FolderStore, tmp_path: Path) -> None:
    full = folder.writer()
    full._file.close()
    full._file = open("/dev/full", "wb", buffering=0)  # noqa: SIM115
    with pytest.raises(Unavailable, match="No space left"):
        full.write(CONTENT)
    full.abort()


# --- settings ------------------------------------------------------------------------------------
def test_settings_choose_the_store(s3_endpoint: str, tmp_path: Path) -> None:
    assert isinstance(open_store(Settings(data_dir=tmp_path)), FolderStore)
    url = "s3://secateur/some/prefix"
    store = open_store(Settings(data_dir=tmp_path, store_url=url, store_endpoint=s3_endpoint))
    assert isinstance(store, S3Store)
    assert whole(store, write(store)) == CONTENT
    assert "test-secret" not in repr(store.__dict__)


@pytest.mark.parametrize("url", ["http://x/y", "s3:/x", "bucket", "s3://key:secret@bucket/"])
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="store_url"):
        Settings(store_url=url)
