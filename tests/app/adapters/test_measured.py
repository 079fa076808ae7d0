"""A measured store does what it did, and its failures are counted."""

from pathlib import Path

import pytest

from app.adapters.measured import measured
from app.adapters.store import FolderStore
from app.domain.errors import InternalError
from app.observe.metrics import STORE_ERRORS, statement_kind


def errors(operation: str) -> float:
    return STORE_ERRORS.labels(operation)._value.get()


def test_it_is_the_same_store(tmp_path: Path) -> None:
    store = measured(FolderStore(tmp_path / "store"))
    writer = store.writer()
    writer.write(b"content")
    blob = writer.commit()
    assert b"".join(store.read(blob.key, 1, 7)) == b"ontent"
    store.fetch(blob.key, blob.sha256, tmp_path / "copy")
    store.delete(blob.key)
    assert not (store.root / blob.key).exists()


def test_failures_are_counted_and_raised(tmp_path: Path) -> None:
    store = measured(FolderStore(tmp_path / "store"))
    fetches, reads = errors("fetch"), errors("read")
    with pytest.raises(InternalError):
        store.fetch("blobs/aa/none", "0", tmp_path / "copy")
    with pytest.raises(InternalError):
        list(store.read("blobs/aa/none", 0, 1))
    assert (errors("fetch"), errors("read")) == (fetches + 1, reads + 1)


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("SELECT 1", "select"),
        ("\n insert into x", "insert"),
        ("TRUNCATE x", "other"),
        ("", "other"),
    ],
)
def test_statements_are_of_few_kinds(sql: str, kind: str) -> None:
    assert statement_kind(sql) == kind
