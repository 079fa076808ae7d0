"""The contract of a store, on every adapter there is."""

import hashlib
import os
import threading
from pathlib import Path

import pytest

from app.adapters.store import FolderStore
from app.domain.errors import InternalError
from app.domain.ports import Store

CONTENT = b"one two three" * 100
SHA256 = hashlib.sha256(CONTENT).hexdigest()
KEY = f"blobs/{SHA256[:2]}/{SHA256}"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "source"
    file.write_bytes(CONTENT)
    return file


def write(store: Store, content: bytes = CONTENT) -> str:
    writer = store.writer()
    writer.write(content)
    return writer.commit().key


def whole(store: Store, key: str, size: int = len(CONTENT)) -> bytes:
    return b"".join(store.read(key, 0, size))


def files(store: FolderStore) -> set[str]:
    return {str(path.relative_to(store.root)) for path in store.root.rglob("*") if path.is_file()}


# --- content-addressed writes ------------------------------------------------------------------
def test_content_is_its_own_address(store: FolderStore) -> None:
    writer = store.writer()
    writer.write(CONTENT[:500])
    writer.write(CONTENT[500:])
    assert writer.bytes_written == len(CONTENT)
    assert writer.sha256 == SHA256
    blob = writer.commit()
    assert (blob.key, blob.bytes, blob.sha256) == (KEY, len(CONTENT), SHA256)
    assert whole(store, blob.key) == CONTENT


def test_nothing_is_visible_before_the_commit(store: FolderStore) -> None:
    writer = store.writer()
    writer.write(CONTENT)
    assert list(store.content_keys(-1)) == []
    assert writer.path.read_bytes() == CONTENT
    writer.abort()


def test_an_aborted_write_leaves_nothing(store: FolderStore) -> None:
    writer = store.writer()
    writer.write(CONTENT)
    writer.abort()
    assert files(store) == set()


def test_an_abort_after_the_commit_is_harmless(store: FolderStore) -> None:
    writer = store.writer()
    writer.write(CONTENT)
    writer.commit()
    writer.abort()
    assert files(store) == {KEY}


def test_an_empty_file_is_a_file(store: FolderStore) -> None:
    assert whole(store, write(store, b""), 0) == b""


def test_equal_content_is_kept_once_whoever_writes(store: FolderStore) -> None:
    threads = [threading.Thread(target=write, args=(store,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert files(store) == {KEY}
    assert whole(store, KEY) == CONTENT


def test_writing_again_makes_a_file_young(store: FolderStore) -> None:
    write(store)
    os.utime(store.root / KEY, (0, 0))
    assert list(store.content_keys(60)) == [KEY]
    write(store)
    assert list(store.content_keys(60)) == []


def test_a_slow_upload_is_young_when_it_is_committed(store: FolderStore) -> None:
    writer = store.writer()
    writer.write(CONTENT)
    os.utime(writer.path, (0, 0))
    writer.commit()
    assert list(store.content_keys(60)) == []


# --- files under keys --------------------------------------------------------------------------
def test_a_file_is_copied_in_and_replaced(store: FolderStore, source: Path) -> None:
    blob = store.put_file("jobs/job_1/a1/x", source)
    assert (blob.bytes, blob.sha256) == (len(CONTENT), SHA256)
    source.write_bytes(b"new")
    store.put_file("jobs/job_1/a1/x", source)
    assert whole(store, "jobs/job_1/a1/x") == b"new"
    assert files(store) == {"jobs/job_1/a1/x"}


def test_a_link_is_not_followed(store: FolderStore, source: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(source)
    with pytest.raises(OSError, match=r"symbolic|loop"):
        store.put_file("jobs/job_1/a1/x", link)
    assert files(store) == set()


def test_a_pipe_does_not_hang_the_caller(store: FolderStore, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(InternalError, match="regular"):
        store.put_file("jobs/job_1/a1/x", pipe)
    assert files(store) == set()


def test_a_missing_source_leaves_nothing(store: FolderStore, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        store.put_file("jobs/job_1/a1/x", tmp_path / "none")
    assert files(store) == set()


@pytest.mark.parametrize(
    "key", ["../x", "jobs/../../x", "/etc/passwd", "a/../b", "", ".", "jobs/.."]
)
def test_no_key_leaves_the_store(store: FolderStore, source: Path, key: str) -> None:
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


# --- reading -----------------------------------------------------------------------------------
@pytest.mark.parametrize(("start", "end"), [(0, 1), (5, 9), (0, 1300), (1299, 1300), (7, 7)])
def test_a_part_is_read(store: FolderStore, start: int, end: int) -> None:
    assert b"".join(store.read(write(store), start, end)) == CONTENT[start:end]


def test_a_fetched_file_is_checked(store: FolderStore, tmp_path: Path) -> None:
    key = write(store)
    store.fetch(key, SHA256, tmp_path / "good")
    assert (tmp_path / "good").read_bytes() == CONTENT
    (store.root / key).write_bytes(CONTENT[:-1] + b"!")
    with pytest.raises(InternalError, match="SHA-256"):
        store.fetch(key, SHA256, tmp_path / "bad")


def test_a_missing_file_is_told_of(store: FolderStore, tmp_path: Path) -> None:
    with pytest.raises(InternalError, match="missing"):
        store.fetch("blobs/aa/none", SHA256, tmp_path / "out")


def test_fetching_never_overwrites(store: FolderStore, source: Path) -> None:
    key = write(store)
    with pytest.raises(FileExistsError):
        store.fetch(key, SHA256, source)


# --- forgetting --------------------------------------------------------------------------------
def test_deleting_twice_is_harmless(store: FolderStore) -> None:
    key = write(store)
    for _ in range(2):
        store.delete(key)
        store.delete_prefix("jobs/job_none")
    assert files(store) == set()


def test_a_prefix_is_a_folder(store: FolderStore, source: Path) -> None:
    for key in ("jobs/job_1/a1/x", "jobs/job_1/a2/y", "jobs/job_11/a1/x"):
        store.put_file(key, source)
    store.delete_prefix("jobs/job_1")
    assert files(store) == {"jobs/job_11/a1/x"}


def test_only_old_content_is_listed_and_deleted(store: FolderStore) -> None:
    key = write(store)
    assert list(store.content_keys(60)) == []
    assert store.delete_old(key, 60) is False
    os.utime(store.root / key, (0, 0))
    assert list(store.content_keys(60)) == [key]
    assert store.delete_old(key, 60) is True
    assert store.delete_old(key, 60) is False
    assert files(store) == set()


def test_a_sweep_survives_files_that_vanish(store: FolderStore) -> None:
    for number in range(20):
        os.utime(store.root / write(store, str(number).encode()), (0, 0))
    for key in store.content_keys(60):
        for other in (store.root / "blobs").glob("*/*"):
            other.unlink()
        assert store.delete_old(key, 60) is False
