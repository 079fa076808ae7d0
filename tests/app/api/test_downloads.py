"""Downloads: ranges, conditions, digests, and never a damaged file that looks whole."""

import base64
import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.adapters.store import CHUNK
from app.domain.errors import Unavailable
from tests.app.api.conftest import Api, check_problem

CONTENT = random.Random(0).randbytes(2 * CHUNK + 1000)
SIZE = len(CONTENT)
ETAG = f'"{hashlib.sha256(CONTENT).hexdigest()}"'


@pytest.fixture(scope="module")
def job(api: Api, tmp_path_factory: pytest.TempPathFactory) -> str:
    return api.finished(
        tmp_path_factory.mktemp("files"),
        model_keras=CONTENT,
        model_h5=b"",
        report_html=b"<h1>x</h1>",
    )


@pytest.fixture
def url(job: str) -> str:
    return f"/v1/jobs/{job}/artifacts/model.keras"


def test_the_list(api: Api, job: str) -> None:
    files = api.get(f"/v1/jobs/{job}/artifacts").json()
    assert [file["name"] for file in files] == ["model.h5", "model.keras", "report.html"]
    assert files[1] == {
        "name": "model.keras",
        "bytes": SIZE,
        "sha256": ETAG.strip('"'),
        "media_type": "application/vnd.keras",
        "expires_at": None,
        "url": f"/v1/jobs/{job}/artifacts/model.keras",
    }


def test_the_whole_file(api: Api, url: str) -> None:
    answer = api.get(url)
    assert (answer.status_code, answer.content) == (200, CONTENT)
    digest = base64.b64encode(hashlib.sha256(CONTENT).digest()).decode()
    expected = {
        "content-length": str(SIZE),
        "content-type": "application/vnd.keras",
        "etag": ETAG,
        "repr-digest": f"sha-256=:{digest}:",
        "digest": f"SHA-256={digest}",
        "accept-ranges": "bytes",
        "content-disposition": 'attachment; filename="model.keras"',
        "x-content-type-options": "nosniff",
    }
    assert {name: answer.headers[name] for name in expected} == expected


def test_an_empty_file(api: Api, job: str) -> None:
    answer = api.get(f"/v1/jobs/{job}/artifacts/model.h5")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == "0"


def test_a_report_may_not_run_scripts(api: Api, job: str) -> None:
    answer = api.get(f"/v1/jobs/{job}/artifacts/report.html")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert "content-disposition" not in answer.headers


# --- ranges ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-99", 0, 100),
        ("bytes=100-", 100, SIZE),
        ("bytes=-1", SIZE - 1, SIZE),
        ("bytes=-100", SIZE - 100, SIZE),
        (f"bytes=-{SIZE + 5}", 0, SIZE),
        (f"bytes={SIZE - 1}-", SIZE - 1, SIZE),
        (f"bytes={SIZE - 1}-{10**17}", SIZE - 1, SIZE),
        (f"bytes={CHUNK - 1}-{CHUNK}", CHUNK - 1, CHUNK + 1),
    ],
)
def test_a_part(api: Api, url: str, asked: str, start: int, end: int) -> None:
    answer = api.get(url, headers={"range": asked})
    assert answer.status_code == 206
    assert answer.content == CONTENT[start:end]
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{SIZE}"
    assert answer.headers["content-length"] == str(end - start)
    assert answer.headers["etag"] == ETAG


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=-",
        "bytes=5-2",
        "bytes=a-b",
        "bytes=0-1,3-4",
        "lines=0-1",
        "bytes",
        "bytes= 0 - 1",
        "bytes=--1",
        "bytes=1-2-3",
        "bytes=" + "9" * 5000 + "-",
        "bytes=\xb2-\xb3",
    ],
)
def test_what_is_no_single_range_is_ignored(api: Api, url: str, asked: str) -> None:
    answer = api.get(url, headers={b"range": asked.encode("latin-1")})
    assert (answer.status_code, len(answer.content)) == (200, SIZE)


@pytest.mark.parametrize("asked", [f"bytes={SIZE}-", f"bytes={10**17}-{10**17}", "bytes=-0"])
def test_a_range_outside_the_file(api: Api, url: str, asked: str) -> None:
    answer = api.get(url, headers={"range": asked})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{SIZE}"
    assert check_problem(answer)["type"] == "/problems/range-not-satisfiable"


def test_no_range_of_an_empty_file(api: Api, job: str) -> None:
    url = f"/v1/jobs/{job}/artifacts/model.h5"
    assert api.get(url, headers={"range": "bytes=0-"}).status_code == 416


def test_a_broken_download_is_resumed(api: Api, url: str) -> None:
    first = api.get(url, headers={"range": f"bytes=0-{CHUNK}"})
    rest = api.get(url, headers={"range": f"bytes={CHUNK + 1}-", "if-range": first.headers["etag"]})
    assert rest.status_code == 206
    assert first.content + rest.content == CONTENT


def test_if_range_of_another_file_sends_all(api: Api, url: str) -> None:
    for etag in ('"other"', f"W/{ETAG}", "Wed, 21 Oct 2015 07:28:00 GMT"):
        answer = api.get(url, headers={"range": "bytes=0-9", "if-range": etag})
        assert (answer.status_code, len(answer.content)) == (200, SIZE)


# --- conditions and HEAD -----------------------------------------------------------------------
@pytest.mark.parametrize("header", [ETAG, f"W/{ETAG}", f'"x", {ETAG}', "*"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_current_copy_is_not_sent_again(api: Api, url: str, header: str, method: str) -> None:
    answer = api.request(method, url, headers={"if-none-match": header, "range": "bytes=0-1"})
    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["etag"] == ETAG
    assert "content-range" not in answer.headers


def test_another_copy_is_replaced(api: Api, url: str) -> None:
    assert api.get(url, headers={"if-none-match": '"x"'}).status_code == 200


def test_head_has_the_headers_of_get(api: Api, url: str) -> None:
    got, head = api.get(url), api.head(url)
    for answer in (got, head):
        for name in ("date", "x-request-id"):
            answer.headers.pop(name, None)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers == got.headers


def test_head_of_a_part(api: Api, url: str) -> None:
    head = api.head(url, headers={"range": "bytes=0-9"})
    assert (head.status_code, head.headers["content-length"]) == (206, "10")


# --- absent and damaged ------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["none", "model.keras%20", "%2e%2e%2fmodel.keras", "a" * 64])
def test_an_unknown_file(api: Api, job: str, name: str) -> None:
    assert api.get(f"/v1/jobs/{job}/artifacts/{name}").status_code == 404


def test_the_files_of_an_unfinished_job(api: Api) -> None:
    job = api.job()
    assert api.get(f"/v1/jobs/{job}/artifacts").json() == []
    answer = api.get(f"/v1/jobs/{job}/artifacts/model.keras")
    assert answer.status_code == 404
    assert "queued" in check_problem(answer)["detail"]


def damaged(api: Api, folder: Path, content: bytes) -> str:
    """URL of a file whose stored bytes have become `content`."""
    job = api.finished(folder, model_keras=CONTENT)
    (api.context.store.root / f"jobs/{job}/a1/model.keras").write_bytes(content)
    return f"/v1/jobs/{job}/artifacts/model.keras"


@pytest.mark.parametrize(
    "content",
    [
        b"!" + CONTENT[1:],
        CONTENT[:-1] + b"!",
        CONTENT[:-1],
        CONTENT[:100],
        b"",
    ],
    ids=["first byte", "last byte", "one byte short", "short", "empty"],
)
def test_a_damaged_file_never_arrives_whole(api: Api, tmp_path: Path, content: bytes) -> None:
    with pytest.raises(httpx.TransportError):
        api.get(damaged(api, tmp_path, content))
    assert api.get("/healthz").status_code == 200


def test_a_file_that_is_gone_never_arrives(api: Api, tmp_path: Path) -> None:
    url = damaged(api, tmp_path, CONTENT)
    job = url.split("/")[3]
    (api.context.store.root / f"jobs/{job}/a1/model.keras").unlink()
    with api.expecting(500):
        answer = api.get(url)
    assert answer.status_code == 500
    assert "missing" in check_problem(answer)["detail"]


def test_a_store_that_is_away_is_said_before_the_first_byte(
    api: Api, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> Iterator[bytes]:
        raise Unavailable("The store does not answer.")
        yield b""

    monkeypatch.setattr(api.context.store, "read", away)
    for headers in ({}, {"range": "bytes=0-1"}):
        answer = api.get(url, headers=headers)
        assert answer.status_code == 503
        assert "etag" not in answer.headers
