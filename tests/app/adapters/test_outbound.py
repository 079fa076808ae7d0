"""Requests to where users want them, against real receivers."""

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from app.adapters import outbound
from app.adapters.outbound import Policy, check_url
from app.domain.addresses import networks
from app.domain.errors import InvalidWebhook
from app.domain.webhook import SendAttempt
from tests.app.receivers import Receiver, receiver
from tests.servers import free_port

HERE = Policy(allow_http=True, allowed=networks("127.0.0.1"), seconds=5)
NOWHERE = Policy(allow_http=True, seconds=2)


def post(url: str, policy: Policy = HERE) -> SendAttempt:
    return outbound.post(url, {"Content-Type": "application/json"}, b'{"a": 1}', policy)


@pytest.fixture
def there() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


class Names:
    """Answers for the resolver: the addresses of a name, one list for each time it is asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **names: list[list[str]]) -> None:
        self.asked: list[str] = []
        real = socket.getaddrinfo

        def resolve(host: Any, port: Any, *args: Any, **kw: Any) -> Any:
            name = str(host).replace(".", "_")
            if name not in names:
                return real(host, port, *args, **kw)
            self.asked.append(str(host))
            answers = names[name]
            found = answers.pop(0) if len(answers) > 1 else answers[0]
            if not found:
                raise socket.gaierror("Name or service not known")
            family = {True: socket.AF_INET6, False: socket.AF_INET}
            return [
                (family[":" in each], socket.SOCK_STREAM, 6, "", (each, port)) for each in found
            ]

        monkeypatch.setattr(socket, "getaddrinfo", resolve)


# --- what a URL may be ---------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://a.example/", "begins with https"),
        ("http://a.example/", "SECATEUR_WEBHOOK_ALLOW_HTTP"),
        ("file:///etc/passwd", "begins with https"),
        ("a.example/hook", "begins with https"),
        ("https://", "names no host"),
        ("https://user:secret@a.example/", "user name or password"),
        ("https://user@a.example/", "user name or password"),
        ("https://a.example/#part", "#fragment"),
        ("https://a.example:22/", "port 22"),
        ("https://a.example:0/", "port 0"),
        ("https://a.example:99999/", "port"),
        ("https://a.example:x/", "not a URL"),
        ("https://127.0.0.1/", "not a public address"),
        ("https://localhost/", "not a public address"),
        ("https://LOCALHOST./", "not a public address"),
        ("https://[::1]/", "not a public address"),
        ("https://[::ffff:10.0.0.1]/", "not a public address"),
        ("https://169.254.169.254/latest/meta-data", "not a public address"),
        ("https://a\x00.example/", "not a URL"),
    ],
)
def test_urls_that_are_refused(url: str, said: str) -> None:
    with pytest.raises(InvalidWebhook, match=said.replace("#", r"\#")) as refused:
        check_url(url, Policy())
    assert refused.value.field == "url"


@pytest.mark.parametrize(
    "url",
    [
        "https://a.example/hook?x=1",
        "https://a.example:8443",
        "https://1.1.1.1/",
        "https://ä.example/",
    ],
)
def test_urls_that_are_taken(url: str) -> None:
    assert check_url(url, Policy()).scheme == "https"


# --- sending -------------------------------------------------------------------------------------
def test_a_receiver_gets_what_is_sent_and_its_answer_is_kept(there: Receiver) -> None:
    made = post(f"http://127.0.0.1:{there.port}/hook?x=1")
    assert made.arrived
    assert (made.response_status, made.answer, made.error) == (200, "thanks", None)
    assert 0 < made.seconds < 5
    (got,) = there.got
    assert (got.path, got.body) == ("/hook?x=1", b'{"a": 1}')
    assert got.headers["host"] == f"127.0.0.1:{there.port}"
    assert got.headers["content-type"] == "application/json"


def test_a_redirect_is_not_followed(there: Receiver) -> None:
    with receiver() as other:
        there.status, there.headers = 302, {"Location": other.url}
        made = post(there.url)
        assert made.response_status == 302
        assert not made.arrived
        assert other.got == []


def test_a_refused_connection_is_told_in_words() -> None:
    made = post(f"http://127.0.0.1:{free_port()}/")
    assert made.response_status is None
    assert "refused" in (made.error or "")


def test_what_is_no_http_is_told_in_words() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            connection.recv(65536)
            connection.sendall(b"SSH-2.0-OpenSSH\r\n")
            connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        made = post(f"http://127.0.0.1:{listener.getsockname()[1]}/")
        thread.join()
    assert made.response_status is None
    assert made.error


@pytest.mark.parametrize("piece", [b"HTTP/1.1 200 OK\r\nX: ", b""])
def test_a_receiver_that_trickles_or_is_silent_is_left_at_the_deadline(piece: bytes) -> None:
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def trickle() -> None:
            connection, _ = listener.accept()
            with connection:
                try:
                    connection.sendall(piece)
                    while not done.wait(0.05):
                        connection.sendall(b"x" if piece else b"")
                except OSError:
                    pass

        thread = threading.Thread(target=trickle)
        thread.start()
        began = time.monotonic()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        made = post(url, HERE.model_copy(update={"seconds": 0.4}))
        took = time.monotonic() - began
        done.set()
        thread.join()
    assert made.error == "The receiver did not answer within 0.4 s."
    assert 0.4 <= took < 2


def test_of_a_huge_answer_the_beginning_is_read(there: Receiver) -> None:
    there.answer = b"a\x00b" + b"x" * 30_000_000
    made = post(there.url)
    assert made.arrived
    assert made.answer.startswith("a\ufffdbxxx")
    assert len(made.answer) == outbound.ANSWER_BYTES


def test_an_answer_that_breaks_off_has_arrived_by_its_status(there: Receiver) -> None:
    there.headers, there.answer = {"Content-Length": "9"}, b"begun"
    made = post(there.url)
    assert made.arrived
    assert made.answer == "begun"


def test_retry_after_is_read(there: Receiver) -> None:
    there.status, there.headers = 429, {"Retry-After": "120"}
    assert post(there.url).retry_after_seconds == 120
    there.headers = {"Retry-After": "Fri, 27 Nov 2026 02:00:00 GMT"}
    assert post(there.url).retry_after_seconds is None


# --- the guard -----------------------------------------------------------------------------------
def test_a_private_receiver_is_not_asked(there: Receiver) -> None:
    for url in (there.url, there.url.replace("127.0.0.1", "localhost")):
        made = post(url, NOWHERE)
        assert "not a public address" in (made.error or "")
    for name in ("127.1", "2130706433", "0x7f.1", "017700000001", "0"):
        made = post(there.url.replace("127.0.0.1", name), NOWHERE)
        assert made.response_status is None, name
        assert made.error, name
    assert there.got == []


def test_a_name_of_a_private_address_is_not_asked(
    there: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    Names(
        monkeypatch,
        inside_example=[["127.0.0.1"]],
        mixed_example=[["1.1.1.1", "127.0.0.1"]],
        mapped_example=[["::ffff:127.0.0.1"]],
        nowhere_example=[[]],
    )
    for name in ("inside", "mixed", "mapped"):
        made = post(f"http://{name}.example:{there.port}/", NOWHERE)
        assert "an address that is not public" in (made.error or ""), name
        assert "127" not in (made.error or ""), "tells what a name means inside this network"
    made = post(f"http://nowhere.example:{there.port}/", NOWHERE)
    assert made.error == "The name nowhere.example cannot be resolved."
    assert there.got == []


def test_a_name_that_changes_its_mind_gains_nothing(
    there: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: allowed when it is looked at, forbidden when it is connected to."""
    names = Names(monkeypatch, rebind_example=[["127.0.0.2"], ["127.0.0.1"]])
    allowed = HERE.model_copy(update={"allowed": networks("127.0.0.2")})
    made = post(f"http://rebind.example:{there.port}/", allowed)
    assert made.response_status is None
    assert names.asked == ["rebind.example"]
    assert there.got == []


def test_the_next_address_is_tried(there: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    Names(monkeypatch, two_example=[["127.0.0.2", "127.0.0.1"]])
    policy = HERE.model_copy(update={"allowed": networks("127.0.0.0/8")})
    assert post(f"http://two.example:{there.port}/", policy).arrived
    assert there.got[0].headers["host"] == f"two.example:{there.port}"


@contextmanager
def served(
    name: str, monkeypatch: pytest.MonkeyPatch, folder: Path, trusted: bool
) -> Iterator[Receiver]:
    """A receiver with a certificate for the name."""
    authority = trustme.CA()
    if trusted:
        authority.cert_pem.write_to_path(str(folder / "ca.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(folder / "ca.pem"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(tls)
    with receiver(tls) as there:
        yield there


@pytest.mark.parametrize(
    ("name", "trusted", "said"),
    [
        ("hooks.example", True, None),
        ("other.example", True, "certificate is not valid: Hostname mismatch"),
        ("hooks.example", False, "certificate is not valid: "),
    ],
)
def test_tls_is_verified_against_the_name(
    name: str,
    trusted: bool,
    said: str | None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    Names(monkeypatch, hooks_example=[["127.0.0.1"]])
    with served(name, monkeypatch, tmp_path, trusted) as there:
        made = post(f"https://hooks.example:{there.port}/")
        assert made.arrived == (said is None)
        assert len(there.got) == (said is None)
        if said is not None:
            assert said in (made.error or "")
