"""Resumable uploads, as the tus 1.0 protocol has them."""

import base64
import hashlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import func, update

from app.adapters.database import UploadRow
from app.adapters.store import FolderStore
from app.api import uploads
from app.domain.errors import Unavailable
from app.services import resumable, segments
from app.services.examples import DATASET_FILE, MODEL_FILE
from app.settings import Settings
from tests.app.api.conftest import Api, check_problem, raw, serve

MODEL = MODEL_FILE.read_bytes()
HALF = len(MODEL) // 2
TUS = {"tus-resumable": "1.0.0"}
OCTETS = {"content-type": "application/offset+octet-stream"}


@pytest.fixture(autouse=True)
def _small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the example model has many."""
    for module in (uploads, segments):
        monkeypatch.setattr(module, "SEGMENT_BYTES", 8192)


def metadata(**pairs: str) -> str:
    return ",".join(f"{k} {base64.b64encode(v.encode()).decode()}" for k, v in pairs.items())


def begin(api: Api, length: int = len(MODEL), said: str = "", **headers: str) -> httpx.Response:
    given = {"upload-length": str(length), "upload-metadata": said or metadata(kind="model")}
    return api.post("/v1/uploads", headers=TUS | given | headers)


def begun(api: Api, length: int = len(MODEL), **pairs: str) -> str:
    """Location of a new upload."""
    answer = begin(api, length, metadata(**({"kind": "model", "filename": "m.keras"} | pairs)))
    assert answer.status_code == 201, answer.text
    return str(answer.headers["location"])


def send(api: Api, at: str, offset: int, data: bytes, **headers: str) -> httpx.Response:
    given = TUS | OCTETS | {"upload-offset": str(offset)} | headers
    return api.patch(at, content=data, headers=given)


def checksum(data: bytes, algorithm: str = "sha1") -> str:
    return f"{algorithm} {base64.b64encode(hashlib.new(algorithm, data).digest()).decode()}"


def offset(api: Api, at: str) -> int:
    answer = api.head(at, headers=TUS)
    assert answer.status_code == 200
    return int(answer.headers["upload-offset"])


def ended(api: Api, at: str) -> dict[str, Any]:
    deadline = time.monotonic() + 20
    while not (found := api.get(at).json())["done"]:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return dict(found)


def nothing_stored(api: Api, at: str) -> bool:
    """The bytes go once the upload has ended, a moment later."""
    deadline = time.monotonic() + 5
    while stored(api, at) and time.monotonic() < deadline:
        time.sleep(0.02)
    return stored(api, at) == []


def head(api: Api, at: str, headers: dict[str, str]) -> httpx.Response:
    """Past the checks of `Api`: the answer to HEAD has no body, also where it is a problem."""
    return httpx.head(f"{str(api.base_url).rstrip(chr(47))}{at}", headers=headers, trust_env=False)


def stored(api: Api, at: str) -> list[str]:
    listed = api.context.store.listed(segments.folder(at.rsplit("/", 1)[-1]))
    return [each.key for each in listed]


# --- the whole way -----------------------------------------------------------------------------
def test_pieces_become_a_model(any_api: Api) -> None:
    at = begun(any_api)
    assert any_api.get(at).json()["state"] == "uploading"
    first = send(any_api, at, 0, MODEL[:HALF])
    assert (first.status_code, first.headers["upload-offset"]) == (204, str(HALF))
    assert offset(any_api, at) == HALF
    last = send(any_api, at, HALF, MODEL[HALF:])
    assert (last.status_code, last.headers["upload-offset"]) == (204, str(len(MODEL)))
    found = ended(any_api, at)
    assert (found["state"], found["dataset"], found["error"]) == ("ready", None, None)
    model = any_api.get(f"/v1/models/{found['model']}").json()
    assert model["sha256"] == hashlib.sha256(MODEL).hexdigest()
    assert (model["bytes"], model["filename"]) == (len(MODEL), "m.keras")
    assert nothing_stored(any_api, at)
    assert offset(any_api, at) == len(MODEL)
    assert found["id"] in [each["id"] for each in any_api.get("/v1/uploads").json()["items"]]


def test_all_bytes_may_come_with_the_creation(api: Api) -> None:
    content = DATASET_FILE.read_bytes()
    said = metadata(kind="dataset", filename="d.npz", options=json.dumps({"scale": 0.0625}))
    answer = api.post(
        "/v1/uploads",
        content=content,
        headers=TUS | OCTETS | {"upload-length": str(len(content)), "upload-metadata": said},
    )
    assert answer.status_code == 201
    assert answer.headers["upload-offset"] == str(len(content))
    found = ended(api, answer.headers["location"])
    assert api.get(f"/v1/datasets/{found['dataset']}").json()["filename"] == "d.npz"
    assert api.head(answer.headers["location"], headers=TUS).headers["upload-metadata"] == said


def test_a_file_that_is_no_model_is_refused_with_the_reason(api: Api) -> None:
    at = begun(api, 11)
    send(api, at, 0, b"not a model")
    found = ended(api, at)
    assert (found["state"], found["model"]) == ("refused", None)
    assert found["error"]["type"] == "/problems/invalid-model"
    assert nothing_stored(api, at)


def test_what_a_server_says_of_itself(api: Api) -> None:
    for at in ("/v1/uploads", "/v1/uploads/upl_any"):
        answer = api.options(at)
        assert answer.status_code == 204
        assert answer.headers["tus-version"] == answer.headers["tus-resumable"] == "1.0.0"
        assert answer.headers["tus-max-size"] == str(api.context.settings.upload_limit_bytes)
        assert set(answer.headers["tus-extension"].split(",")) == {
            "creation",
            "creation-with-upload",
            "expiration",
            "checksum",
            "termination",
        }
        assert {"sha1", "sha256"} <= set(answer.headers["tus-checksum-algorithm"].split(","))


# --- what breaks off ---------------------------------------------------------------------------
def test_what_came_of_a_body_that_broke_off_is_kept(api: Api) -> None:
    at = begun(api)
    head = (
        f"PATCH {at} HTTP/1.1\r\nHost: localhost\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\n"
        f"Content-Type: application/offset+octet-stream\r\nContent-Length: {len(MODEL)}\r\n\r\n"
    )
    with raw(api, head.encode() + MODEL[:HALF]):
        time.sleep(0.2)  # The server drops what it has not handed on when a connection ends.
    deadline = time.monotonic() + 10
    while offset(api, at) < HALF:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert offset(api, at) == HALF
    send(api, at, HALF, MODEL[HALF:])
    assert ended(api, at)["state"] == "ready"


def test_a_connection_that_nobody_closed_is_overtaken(api: Api) -> None:
    """A network that is gone ends no connection: the client that comes back goes on at once."""
    at = begun(api)
    head = (
        f"PATCH {at} HTTP/1.1\r\nHost: localhost\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\n"
        f"Content-Type: application/offset+octet-stream\r\nContent-Length: {len(MODEL)}\r\n\r\n"
    )
    with raw(api, head.encode() + b"x" * 100) as stale:
        time.sleep(0.2)
        assert send(api, at, 0, MODEL[:HALF]).status_code == 204
        stale.sendall(b"x" * (len(MODEL) - 100))
        assert b" 409 " in stale.recv(4096).split(b"\r\n")[0]
    assert offset(api, at) == HALF
    send(api, at, HALF, MODEL[HALF:])
    assert ended(api, at)["state"] == "ready"


def test_of_many_at_once_one_goes_on_and_nothing_interleaves(any_api: Api) -> None:
    at = begun(any_api)
    answers: list[int] = []

    def one(letter: bytes) -> None:
        with httpx.Client(base_url=any_api.base_url, timeout=20) as client:
            given = TUS | OCTETS | {"upload-offset": "0"}
            answers.append(client.patch(at, content=letter * HALF, headers=given).status_code)

    threads = [threading.Thread(target=one, args=(bytes([65 + n]),)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(answers) <= {204, 409}
    assert answers.count(204) <= 1
    kept = b"".join(segments.read(any_api.context.store, at.rsplit("/", 1)[-1]))
    assert len(kept) == offset(any_api, at)
    for start in range(0, len(kept), 8192):
        assert len(set(kept[start : start + 8192])) == 1


def test_an_upload_outlives_its_api_process(broker_url: str, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, broker_url=broker_url)
    with serve(settings) as first:
        at = begun(first)
        send(first, at, 0, MODEL[:HALF])
    with serve(settings) as one, serve(settings) as other:
        assert offset(one, at) == HALF
        send(one, at, HALF, MODEL[HALF : HALF + 100])
        send(other, at, HALF + 100, MODEL[HALF + 100 :])
        assert ended(one, at)["state"] == "ready"


def test_bytes_that_no_row_knows_of_count(api: Api) -> None:
    """The process died between the store and the database."""
    at = begun(api)
    assert segments.put(api.context.store, at.rsplit("/", 1)[-1], 0, MODEL)
    assert offset(api, at) == len(MODEL)
    assert ended(api, at)["state"] == "ready"


def test_a_reading_that_died_is_begun_again(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    at = begun(api)
    monkeypatch.setattr(api.context.reading, "begin", lambda _: None)
    send(api, at, 0, MODEL)
    assert api.get(at).json()["state"] == "processing"
    change(api, at, lease_expires_at=func.clock() - 1, readings=1)
    monkeypatch.undo()
    assert ended(api, at)["state"] == "ready"


def test_a_reading_that_always_dies_ends(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    at = begun(api)
    monkeypatch.setattr(api.context.reading, "begin", lambda _: None)
    send(api, at, 0, MODEL)
    change(api, at, lease_expires_at=func.clock() - 1, readings=resumable.READINGS)
    monkeypatch.undo()
    assert ended(api, at)["error"]["type"] == "/problems/internal"


def test_a_store_that_is_away_refuses_nothing(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    at = begun(api)
    monkeypatch.setattr(resumable, "AGAIN_SECONDS", 0.1)

    def away(*_: object) -> Iterator[bytes]:
        raise Unavailable("The store does not answer.")

    with monkeypatch.context() as patched:
        patched.setattr(segments, "read", away)
        send(api, at, 0, MODEL)
        time.sleep(0.3)
        assert api.get(at).json()["state"] == "processing"
    assert ended(api, at)["state"] == "ready"


def change(api: Api, at: str, **values: Any) -> None:
    with api.context.database.write() as session:
        session.execute(
            update(UploadRow).where(UploadRow.id == at.rsplit("/", 1)[-1]).values(**values)
        )


# --- what is refused ---------------------------------------------------------------------------
@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha512", "md5"])
def test_a_right_checksum_is_kept_and_a_wrong_one_leaves_nothing(api: Api, algorithm: str) -> None:
    at = begun(api)
    wrong = send(api, at, 0, MODEL[:HALF], **{"upload-checksum": checksum(b"x", algorithm)})
    assert wrong.status_code == 460
    assert check_problem(wrong)["type"] == "/problems/checksum-mismatch"
    assert (offset(api, at), stored(api, at)) == (0, [])
    right = {"upload-checksum": checksum(MODEL[:HALF], algorithm)}
    assert send(api, at, 0, MODEL[:HALF], **right).status_code == 204
    assert offset(api, at) == HALF


def test_of_a_body_with_a_checksum_all_is_kept_or_nothing(api: Api) -> None:
    at = begun(api)
    head = (
        f"PATCH {at} HTTP/1.1\r\nHost: localhost\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\n"
        "Content-Type: application/offset+octet-stream\r\n"
        f"Upload-Checksum: {checksum(MODEL)}\r\nContent-Length: {len(MODEL)}\r\n\r\n"
    )
    with raw(api, head.encode() + MODEL[:HALF]):
        time.sleep(0.2)
    time.sleep(0.2)
    assert (offset(api, at), stored(api, at)) == (0, [])


@pytest.mark.parametrize("said", ["crc32 AAAA", "sha1 ???", "sha1"])
def test_a_checksum_that_is_none_is_refused(api: Api, said: str) -> None:
    at = begun(api)
    assert send(api, at, 0, b"x", **{"upload-checksum": said}).status_code in (422, 460)
    assert offset(api, at) == 0


@pytest.mark.parametrize("wrong", [1, HALF - 1, HALF + 1, len(MODEL)])
def test_another_offset_is_a_conflict(api: Api, wrong: int) -> None:
    at = begun(api)
    send(api, at, 0, MODEL[:HALF])
    answer = send(api, at, wrong, b"x")
    assert answer.status_code == 409
    assert str(HALF) in check_problem(answer)["detail"]
    assert offset(api, at) == HALF


def test_more_than_was_announced_is_too_large(api: Api) -> None:
    at = begun(api, 10)
    assert send(api, at, 0, b"x" * 11).status_code == 413
    pieces = iter([b"x" * 6, b"x" * 6])
    assert send(api, at, 0, pieces).status_code == 413  # type: ignore[arg-type]
    assert offset(api, at) == 0


def test_an_upload_over_the_limit_is_not_begun(api: Api) -> None:
    answer = begin(api, api.context.settings.upload_limit_bytes + 1)
    assert answer.status_code == 413
    assert answer.headers["tus-resumable"] == "1.0.0"


@pytest.mark.parametrize("version", [None, "0.2.2", "1.0"])
@pytest.mark.parametrize("method", ["POST", "HEAD", "PATCH", "DELETE"])
def test_another_version_is_refused(api: Api, method: str, version: str | None) -> None:
    at = "/v1/uploads" if method == "POST" else begun(api)
    headers = {} if version is None else {"tus-resumable": version}
    answer = (
        head(api, at, headers) if method == "HEAD" else api.request(method, at, headers=headers)
    )
    assert answer.status_code == 412
    assert answer.headers["tus-version"] == "1.0.0"


@pytest.mark.parametrize(
    ("length", "said", "named"),
    [
        ("", metadata(kind="model"), "Upload-Length"),
        ("-1", metadata(kind="model"), "Upload-Length"),
        ("9" * 30, metadata(kind="model"), "Upload-Length"),
        ("0", metadata(kind="model"), "Upload-Length"),
        ("5", metadata(filename="m.keras"), "Upload-Metadata"),
        ("5", metadata(kind="picture"), "Upload-Metadata"),
        ("5", "kind !!!", "Upload-Metadata"),
        ("5", "x" * 9000, "Upload-Metadata"),
        ("5", metadata(kind="dataset", options='{"colour": 1}'), "options.colour"),
    ],
)
def test_what_is_not_said_well_is_named(api: Api, length: str, said: str, named: str) -> None:
    answer = api.post(
        "/v1/uploads", headers=TUS | {"upload-length": length, "upload-metadata": said}
    )
    assert answer.status_code == 422
    assert check_problem(answer)["field"] == named


def test_a_length_that_comes_later_is_refused(api: Api) -> None:
    answer = begin(api, **{"upload-defer-length": "1"})
    assert answer.status_code == 422


def test_another_body_is_refused(api: Api) -> None:
    at = begun(api)
    answer = send(api, at, 0, b"x", **{"content-type": "application/octet-stream"})
    assert answer.status_code == 415


def test_a_finished_upload_takes_no_more(api: Api) -> None:
    at = begun(api)
    send(api, at, 0, MODEL)
    ended(api, at)
    assert send(api, at, len(MODEL), b"x").status_code in (409, 413)
    assert send(api, at, 0, MODEL).status_code == 409


# --- the end -----------------------------------------------------------------------------------
def test_an_upload_is_given_up(api: Api) -> None:
    at = begun(api)
    send(api, at, 0, MODEL[:HALF])
    assert api.delete(at, headers=TUS).status_code == 204
    assert stored(api, at) == []
    for answer in (
        api.get(at),
        head(api, at, TUS),
        api.delete(at, headers=TUS),
        send(api, at, HALF, b"x"),
    ):
        assert answer.status_code == 404


def test_a_client_without_patch_says_what_it_means(api: Api) -> None:
    at = begun(api)
    override = {"x-http-method-override": "PATCH", "upload-offset": "0"}
    answer = api.post(at, content=MODEL[:HALF], headers=TUS | OCTETS | override)
    assert answer.status_code == 204
    assert api.post(at, headers=TUS).status_code == 422
    override = {"x-http-method-override": "DELETE"}
    assert api.post(at, headers=TUS | override).status_code == 204
    assert api.get(at).status_code == 404


def test_an_upload_expires_a_while_after_its_last_byte(api: Api) -> None:
    at = begun(api)
    said = parsedate_to_datetime(send(api, at, 0, b"x").headers["upload-expires"])
    hours = api.context.settings.upload_expiry_hours
    assert said.timestamp() == pytest.approx(time.time() + hours * 3600, abs=5)
    change(api, at, expires_at=func.clock() - 1)
    assert head(api, at, TUS).status_code == 404
    assert send(api, at, 1, b"x").status_code == 404


def test_unfinished_uploads_count_as_stored(broker_url: str, tmp_path: Path) -> None:
    settings = Settings(
        data_dir=tmp_path,
        broker_url=broker_url,
        quota_stored_bytes=len(MODEL) + 50,
        quota_unfinished_uploads=1,
    )
    with serve(settings) as api:
        at = begun(api)
        many = begin(api, 1)
        assert (many.status_code, many.headers["retry-after"]) == (429, "30")
        assert begin(api, 51).status_code == 507
        assert send(api, at, 0, MODEL).status_code == 204
        assert ended(api, at)["state"] == "ready"
        assert begin(api, 51).status_code == 507
        assert begin(api, 50).status_code == 201


def test_a_full_disk_is_told_and_the_upload_goes_on_later(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = begun(api)

    def full(*_: object) -> bool:
        raise Unavailable("The store cannot be written: No space left on device.")

    with monkeypatch.context() as patched:
        patched.setattr(FolderStore, "put_new", full)
        assert send(api, at, 0, MODEL[:HALF]).status_code == 503
    assert send(api, at, 0, MODEL).status_code == 204
    assert ended(api, at)["state"] == "ready"


def test_nobody_listens(api: Api) -> None:
    """A client that hangs up in the middle of a header leaves nothing."""
    before = len(api.get("/v1/uploads", params={"limit": 200}).json()["items"])
    with socket.create_connection(api.address, timeout=10) as connection:
        connection.sendall(b"POST /v1/uploads HTTP/1.1\r\nHost: localhost\r\nTus-Res")
    assert len(api.get("/v1/uploads", params={"limit": 200}).json()["items"]) == before
