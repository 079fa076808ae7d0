"""Headers for browsers, pages of other origins, slow clients."""

import base64
import hashlib
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.settings import Settings
from tests.app.api.conftest import Api, check_problem, raw, serve

FRIEND = "https://app.example"


def policy(api: Api, path: str) -> dict[str, str]:
    """Directives of an answer's Content-Security-Policy."""
    said = api.get(path).headers["content-security-policy"]
    return dict(part.strip().partition(" ")[::2] for part in said.split(";"))


# --- headers -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "path", ["/v1/jobs", "/v1/jobs/none", "/docs", "/healthz", "/nope", "/examples/digits.npz"]
)
def test_every_answer_binds_the_browser(api: Api, path: str) -> None:
    headers = api.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]


def test_answers_of_the_api_are_not_kept(api: Api) -> None:
    assert api.get("/v1/jobs").headers["cache-control"] == "no-store"


def test_answers_that_are_no_pages_may_load_nothing(api: Api) -> None:
    assert policy(api, "/v1/jobs")["default-src"] == "'none'"


@pytest.mark.parametrize("page", ["/docs", "/redoc", "/docs/oauth2-redirect"])
def test_the_pages_scripts_are_allowed_and_no_others(api: Api, page: str) -> None:
    html = api.get(page).text
    directives = policy(api, page)
    assert "unsafe" not in directives["script-src"]
    inline = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    for script in inline:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in directives["script-src"]
    assert bool(inline) == (page != "/redoc")
    # All else comes from here: no attribute holds a script, no address another host.
    assert not re.search(r"\son\w+=", html)
    assert directives["connect-src"] == "'self'"


def test_a_report_keeps_its_own_policy(api: Api, tmp_path: Path) -> None:
    job = api.finished(tmp_path, report_html=b"<p>hello</p>")
    directives = policy(api, f"/v1/jobs/{job}/artifacts/report.html")
    assert "sandbox" in directives
    assert directives["style-src"] == "'unsafe-inline'"
    assert directives["frame-ancestors"] == "'none'"
    assert "script-src" not in directives


# --- pages of other origins --------------------------------------------------------------------
def test_other_origins_are_not_let_in(api: Api) -> None:
    answer = api.get("/v1/jobs", headers={"origin": FRIEND})
    assert "access-control-allow-origin" not in answer.headers
    preflight = {"origin": FRIEND, "access-control-request-method": "POST"}
    assert "access-control-allow-origin" not in api.options("/v1/jobs", headers=preflight).headers


@pytest.fixture(scope="module")
def befriended(broker_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    folder = tmp_path_factory.mktemp("befriended")
    settings = Settings(
        data_dir=folder,
        broker_url=broker_url,
        cors_origins=f"{FRIEND}, http://localhost:3000",
        slow_client_seconds=0.5,
        slowest_bytes_per_second=100_000,
    )
    with serve(settings) as api:
        yield api


def test_named_origins_are_let_in(befriended: Api) -> None:
    for origin in (FRIEND, "http://localhost:3000"):
        preflight = {
            "origin": origin,
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization,idempotency-key",
        }
        answer = befriended.options("/v1/jobs", headers=preflight)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == origin
        assert "access-control-allow-credentials" not in answer.headers
        said = befriended.get("/v1/jobs", headers={"origin": origin})
        assert said.headers["access-control-allow-origin"] == origin
        job = befriended.job()
        cancelled = befriended.post(f"/v1/jobs/{job}/cancel", headers={"origin": origin})
        assert cancelled.status_code == 202
    answer = befriended.get("/v1/jobs", headers={"origin": "https://evil.example"})
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("origins", ["*", "app.example", "https://a.example/path", "javascript:x"])
def test_origins_are_whole(origins: str) -> None:
    with pytest.raises(ValueError, match="cors_origins"):
        Settings(cors_origins=origins)


def test_a_drawing_may_style_its_lines(befriended: Api) -> None:
    directives = policy(befriended, "/v1/sweeps/swp_example/plot.svg")
    assert directives["style-src"] == "'unsafe-inline'"
    assert directives["default-src"] == "'none'"


# --- slow clients ------------------------------------------------------------------------------
JSON_BODY = (
    "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    "Content-Length: 500000\r\n\r\n"
)
FORM = (
    "POST /v1/models HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500000\r\n"
    "Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
    'Content-Disposition: form-data; name="file"; filename="m.keras"\r\n\r\n'
)


@pytest.mark.parametrize("request_", [JSON_BODY, FORM], ids=["json", "upload"])
def test_a_body_that_stops_is_given_up(befriended: Api, request_: str) -> None:
    started = time.monotonic()
    with raw(befriended, request_.encode() + b"x") as connection:
        said = connection.recv(2000)
        assert said.startswith(b"HTTP/1.1 408"), said
        assert b"SECATEUR_SLOW_CLIENT_SECONDS" in said or b"No piece" in connection.recv(2000)
        while connection.recv(2000):
            pass  # And the connection is closed.
    assert time.monotonic() - started > 0.5


def test_a_body_that_drips_is_given_up(befriended: Api) -> None:
    with raw(befriended, FORM.encode()) as connection:
        connection.settimeout(0.1)
        said = b""
        for _ in range(100):
            connection.sendall(b"x" * 100)
            try:
                said += connection.recv(2000)
                break
            except TimeoutError:
                continue
    assert said.startswith(b"HTTP/1.1 408"), said


def test_a_steady_client_is_waited_for(befriended: Api) -> None:
    def pieces() -> Iterator[bytes]:
        head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="m.keras"\r\n\r\n'
        yield head
        for _ in range(8):
            time.sleep(0.1)
            yield b"x" * 50_000
        yield b"\r\n--x--\r\n"

    answer = befriended.post(
        "/v1/models",
        content=pieces(),
        headers={"content-type": "multipart/form-data; boundary=x"},
    )
    assert answer.status_code == 422  # It is no model, and that is found out at the end.
    assert check_problem(answer)["type"] == "/problems/invalid-model"
