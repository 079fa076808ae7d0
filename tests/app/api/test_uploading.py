"""Streaming uploads: taken whole, or refused and nothing kept."""

import contextlib
import hashlib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.adapters.store import FolderWriter
from app.api.multipart import FLUSH_BYTES
from app.services.examples import DATASET_FILE, MODEL_FILE
from app.settings import Settings
from tests.app.api.conftest import Api, check_problem, raw, serve

MODEL = MODEL_FILE.read_bytes()
LIMIT = 4 * FLUSH_BYTES
FORM = {"content-type": "multipart/form-data; boundary=b"}
END = b"--b--\r\n"


def part(name: str, content: bytes, filename: bytes | None = b"m.keras") -> bytes:
    said = b"" if filename is None else b'; filename="' + filename + b'"'
    head = b'--b\r\nContent-Disposition: form-data; name="' + name.encode() + b'"' + said
    return head + b"\r\n\r\n" + content + b"\r\n"


@pytest.fixture(scope="module")
def small(broker_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A service that takes 4 MiB at most."""
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("small"),
        broker_url=broker_url,
        upload_limit_bytes=LIMIT,
        body_limit_bytes=10_000,
    )
    with serve(settings) as client:
        yield client


def kept(api: Api) -> set[str]:
    root = api.context.store.root
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


@contextlib.contextmanager
def nothing_is_kept(api: Api) -> Iterator[None]:
    before = kept(api)
    yield
    deadline = time.monotonic() + 5
    while kept(api) != before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert kept(api) == before


# --- taken -------------------------------------------------------------------------------------
def test_a_model(api: Api) -> None:
    model = api.model()
    assert model["format"] == "keras"
    assert model["bytes"] == len(MODEL)
    assert model["sha256"] == hashlib.sha256(MODEL).hexdigest()
    assert model["inputs"] == [{"name": "pixels", "shape": [None, 64], "dtype": "float32"}]
    assert model["outputs"][0]["shape"] == [None, 10]
    assert model["parameters"] == sum(layer["parameters"] for layer in model["layers"])
    assert {"name", "class", "parameters"} <= model["layers"][0].keys()
    assert api.get(f"/v1/models/{model['id']}").json() == model


def test_a_data_set(api: Api) -> None:
    data = api.dataset()
    assert data["format"] == "npz"
    assert data["splits"]["train"]["samples"] > data["splits"]["test"]["samples"] > 0
    assert api.get(f"/v1/datasets/{data['id']}").json() == data


def test_the_location_is_the_resource(api: Api) -> None:
    answer = api.post("/v1/models", files={"file": ("m.keras", MODEL)})
    assert answer.status_code == 201
    assert api.get(answer.headers["location"]).json() == answer.json()


def test_options_come_before_or_after_the_file(api: Api) -> None:
    options = part("options", b'{"scale": 0.0625}', None)
    file = part("file", DATASET_FILE.read_bytes(), b"d.npz")
    for body in (options + file, file + options):
        answer = api.post("/v1/datasets", content=body + END, headers=FORM)
        assert answer.status_code == 201, answer.text
        assert answer.json()["options"]["scale"] == 0.0625


def test_a_chunked_upload_is_taken_byte_by_byte(api: Api) -> None:
    body = part("file", MODEL) + END

    def pieces() -> Iterator[bytes]:
        for start in range(0, 600, 1):
            yield body[start : start + 1]
        yield body[600:]

    answer = api.post("/v1/models", content=pieces(), headers=FORM)
    assert answer.json()["sha256"] == hashlib.sha256(MODEL).hexdigest()


NAMES = {
    "umlaut": ("größe.keras".encode(), "größe.keras"),
    "cyrillic": ("модель.keras".encode(), "модель.keras"),
    "emoji": ("🌳.keras".encode(), "🌳.keras"),
    "no UTF-8": (b"\xff\xfe.keras", "\ufffd\ufffd.keras"),
    "NUL": (b"a\x00b.keras", "ab.keras"),
    "path": (b"../../etc/m.keras", "m.keras"),
    "windows path": (b"C:\\models\\m.keras", "m.keras"),
    "escape": (b"\x1b[31mred.keras", "[31mred.keras"),
    "override": ("a\u202eb.keras".encode(), "ab.keras"),
    "percent": (b"a%22%0d%0aX: y.keras", "a%22%0d%0aX: y.keras"),
    "long": (b"x" * 300 + b".keras", "x" * 255),
    "empty": (b"", "upload"),
}


# What the databases treat differently is sent to both.
ON_BOTH = ("cyrillic", "emoji", "no UTF-8", "NUL", "long")


@pytest.mark.parametrize(
    ("any_api", "sent", "shown"),
    [
        pytest.param(api, *names, id=f"{api}-{case}")
        for case, names in NAMES.items()
        for api in (("api", "api_on_postgres") if case in ON_BOTH else ("api",))
    ],
    indirect=["any_api"],
)
def test_a_file_name_is_shown_and_never_used(any_api: Api, sent: bytes, shown: str) -> None:
    answer = any_api.post("/v1/models", content=part("file", MODEL, sent) + END, headers=FORM)
    assert answer.status_code == 201, answer.text
    assert answer.json()["filename"] == shown
    found = any_api.get("/v1/models", params={"filename": shown}).json()["items"]
    assert answer.json()["id"] in {item["id"] for item in found}


def test_a_header_cannot_be_injected_by_a_file_name(api: Api) -> None:
    answer = api.post(
        "/v1/models", content=part("file", MODEL, b"a\r\nX-Bad: 1") + END, headers=FORM
    )
    assert answer.status_code in (201, 422)
    assert "x-bad" not in answer.headers


# --- refused -----------------------------------------------------------------------------------
HUGE = b"a" * 1_000_000
REFUSED = {
    "no field file": (END, "file"),
    "only an unknown field": (part("model", MODEL) + END, "model"),
    "a field too much": (part("file", MODEL) + part("x", b"1", None) + END, "x"),
    "options of a model": (part("options", b"{}", None) + part("file", MODEL) + END, "options"),
    "two files": (part("file", MODEL) + part("file", MODEL) + END, "file"),
    "an empty file": (part("file", b"") + END, "file"),
    "no model": (part("file", b"nonsense") + END, None),
    "no closing boundary": (part("file", MODEL), None),
    "cut off in the file": (part("file", MODEL)[:5000], None),
    "cut off in a header": (b"--b\r\nContent-Disp", None),
    "another boundary": (b"--c\r\n\r\n--c--\r\n", None),
    "nothing": (b"", None),
    "a part without a name": (b"--b\r\n\r\nx\r\n" + END, None),
    "huge header": (b'--b\r\nContent-Disposition: form-data; name="file"; x="' + HUGE, None),
    "huge header name": (b"--b\r\n" + HUGE, None),
    "many headers": (b"--b\r\n" + b"a: b\r\n" * 50_000, None),
    "many parts": (part("file", MODEL) + part("file", b"", None) * 100, "file"),
    "preamble": (HUGE, None),
    "broken header": (b"--b\r\n: x\r\n\r\n" + END, None),
}


@pytest.mark.parametrize(("body", "field"), REFUSED.values(), ids=REFUSED)
def test_a_bad_form_leaves_nothing(api: Api, body: bytes, field: str | None) -> None:
    with nothing_is_kept(api):
        answer = api.post("/v1/models", content=body, headers=FORM)
    assert answer.status_code == 422
    assert check_problem(answer).get("field") == field


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/octet-stream",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        'multipart/form-data; boundary=""',
        "multipart/form-data; boundary=" + "b" * 1000,
        'multipart/form-data; boundary="\xff',
        "multipart/mixed; boundary=b",
        "",
    ],
)
def test_another_content_type_leaves_nothing(api: Api, content_type: str) -> None:
    with nothing_is_kept(api):
        answer = api.post(
            "/v1/models",
            content=part("file", MODEL) + END,
            headers={b"content-type": content_type.encode("latin-1")},
        )
    assert check_problem(answer)["type"] == "/problems/invalid-upload"


OPTIONS = {
    "no JSON": b"{",
    "deep": b"[" * 60_000,
    "5000 digits": b'{"scale": ' + b"9" * 5000 + b"}",
    "Infinity": b'{"scale": Infinity}',
    "NaN": b'{"scale": NaN}',
    "list": b"[]",
    "null": b"null",
    "unknown": b'{"sclae": 1}',
    "surrogate": rb'{"\ud800": 1}',
    "NUL": rb'{"target": "\u0000"}',
    "share": b'{"test_share": 1.5}',
    "no UTF-8": b"\xff",
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_bad_options_leave_nothing(any_api: Api, options: bytes) -> None:
    body = part("options", options, None) + part("file", DATASET_FILE.read_bytes(), b"d.npz")
    with nothing_is_kept(any_api):
        answer = any_api.post("/v1/datasets", content=body + END, headers=FORM)
    problem = check_problem(answer)
    assert problem["type"] == "/problems/invalid-dataset"
    assert problem["field"].startswith("options")


def test_a_field_over_its_limit_is_refused(api: Api) -> None:
    with nothing_is_kept(api):
        answer = api.post(
            "/v1/datasets", content=part("options", b"x" * 70_000, None) + END, headers=FORM
        )
    assert answer.status_code == 413
    assert check_problem(answer)["field"] == "options"


# --- over the limit ----------------------------------------------------------------------------
def test_a_declared_oversize_is_refused_before_it_is_sent(small: Api) -> None:
    head = (
        "POST /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Content-Type: {FORM['content-type']}\r\nContent-Length: {LIMIT * 100}\r\n\r\n"
    ).encode()
    with nothing_is_kept(small), raw(small, head) as connection:
        answer = _whole(connection)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"/problems/too-large" in answer


def test_an_undeclared_oversize_is_stopped_on_the_way(small: Api) -> None:
    def pieces() -> Iterator[bytes]:
        yield part("file", b"")[:-2]
        for _ in range(5):
            yield b"x" * FLUSH_BYTES
        yield b"\r\n" + END

    with nothing_is_kept(small):
        answer = small.post("/v1/models", content=pieces(), headers=FORM)
    assert answer.status_code == 413
    assert str(LIMIT) in check_problem(answer)["detail"]


def test_what_follows_the_form_is_limited_too(small: Api) -> None:
    def pieces() -> Iterator[bytes]:
        yield part("file", MODEL) + END
        for _ in range(6):
            yield b"x" * FLUSH_BYTES

    with nothing_is_kept(small):
        answer = small.post("/v1/models", content=pieces(), headers=FORM)
    assert answer.status_code == 413


def test_the_limit_itself_is_within_the_limit(small: Api) -> None:
    # Of the right size, but no model: 422 and not 413.
    for extra, status in ((0, 422), (1, 413)):
        body = part("file", b"x" * (LIMIT + extra)) + END
        with nothing_is_kept(small):
            assert small.post("/v1/models", content=body, headers=FORM).status_code == status


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/specs/validate", "/v1/jobs/job_x/cancel"])
def test_a_json_body_over_the_limit_is_refused(small: Api, path: str, chunked: bool) -> None:
    body = json.dumps({"model": "x" * 20_000}).encode()
    content = iter([body[:5000], body[5000:]]) if chunked else body
    answer = small.post(path, content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert check_problem(answer)["type"] == "/problems/too-large"


# --- cut off -----------------------------------------------------------------------------------
@pytest.mark.parametrize("sent", [0, 300, 5000, 2 * FLUSH_BYTES])
def test_an_upload_that_breaks_off_leaves_nothing(small: Api, sent: int) -> None:
    body = part("file", b"x" * 3 * FLUSH_BYTES)
    head = (
        "POST /v1/models HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: {FORM['content-type']}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    with nothing_is_kept(small), raw(small, head + body[:sent]):
        time.sleep(0.1)  # The server has begun to write.
    assert small.get("/healthz").status_code == 200


def _whole(connection: socket.socket) -> bytes:
    answer = b""
    while piece := connection.recv(65536):
        answer += piece
    return answer


def test_memory_does_not_grow_with_the_upload(api: Api) -> None:
    size = 96 * 1024 * 1024

    def pieces() -> Iterator[bytes]:
        yield part("file", b"")[:-2]
        for _ in range(size // FLUSH_BYTES):
            yield b"x" * FLUSH_BYTES
        yield b"\r\n" + END

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    before, peak = resident(), 0
    original = FolderWriter.write

    def watched(self: FolderWriter, data: bytes) -> None:
        nonlocal peak
        peak = max(peak, resident())
        original(self, data)

    with pytest.MonkeyPatch.context() as patch, nothing_is_kept(api):
        patch.setattr(FolderWriter, "write", watched)
        assert api.post("/v1/models", content=pieces(), headers=FORM).status_code == 422
    assert peak - before < 32 * 1024 * 1024
