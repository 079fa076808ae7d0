"""Requests to where users want them: the address is checked, and the checked one is asked.

A name is resolved once, every address that it has is looked at, and the connection goes to one of
those, so that a name which changes its mind in between (DNS rebinding) gains nothing. TLS is still
verified against the name. No redirects, no proxies, no cookies, no kept connections; all that a
receiver can draw out is under one deadline and one limit of bytes.
"""

import socket
import ssl
import time
from collections.abc import Iterable, Sequence
from typing import Any

import httpcore
import httpx
import structlog

from app.domain.addresses import Network, is_web_port, may_be_asked
from app.domain.base import Record
from app.domain.errors import InvalidWebhook
from app.domain.webhook import SendAttempt

ANSWER_BYTES = 1000
"""Kept of an answer."""
READ_BYTES = 64 * 1024
"""Read of an answer, so that an ordinary one comes to its end."""
LONGEST_WAIT_SECONDS = 7 * 86_400.0

log = structlog.get_logger(__name__)


class Policy(Record):
    """Where requests may go."""

    allow_http: bool = False
    allowed: tuple[Network, ...] = ()
    """Networks that are not public and may be asked all the same."""
    seconds: float = 15.0
    """For one request, from the name's resolution to the end of the answer."""


class _Refused(Exception):
    """The receiver may not be asked."""


def check_url(text: str, policy: Policy) -> httpx.URL:
    """A URL that may be asked, as far as can be told without resolving its name.

    Raises:
        InvalidWebhook: it is no such URL, and why.
    """
    try:
        url = httpx.URL(text)
        port = url.port
    except (httpx.InvalidURL, ValueError) as error:
        raise _wrong(f"{text[:80]!r} is not a URL: {error}") from error
    schemes = ("https", "http") if policy.allow_http else ("https",)
    if url.scheme not in schemes:
        more = "" if policy.allow_http else " (SECATEUR_WEBHOOK_ALLOW_HTTP allows http://)"
        raise _wrong(f"expected a URL that begins with https://{more}; got {text[:80]!r}")
    if not url.raw_host:
        raise _wrong(f"{text[:80]!r} names no host")
    if url.userinfo:
        raise _wrong(
            "a URL with a user name or password is not taken, since it would be shown wherever the "
            "webhook is: receivers know deliveries by their signature"
        )
    if url.fragment:
        raise _wrong("a URL's #fragment is never sent; leave it out")
    if port is not None and not is_web_port(port):
        raise _wrong(f"port {port} is not a web server's; expected 80, 443, or 1024 and above")
    if not _literal_may_be_asked(url.host, policy):
        raise _wrong(
            f"{url.host} is not a public address. Whoever runs the service can allow it "
            "(SECATEUR_WEBHOOK_ALLOW_NETWORKS)"
        )
    return url


def _wrong(said: str) -> InvalidWebhook:
    return InvalidWebhook(f"url: {said}.", field="url")


def _literal_may_be_asked(host: str, policy: Policy) -> bool:
    if host.rstrip(".").lower() == "localhost":
        host = "127.0.0.1"
    try:
        return may_be_asked(host, policy.allowed)
    except ValueError:
        return True  # A name: looked at once it is resolved.


def post(url: str, headers: dict[str, str], body: bytes, policy: Policy) -> SendAttempt:
    """Send, and say how it went. Raises nothing that a receiver could cause."""
    began, at = time.monotonic(), time.time()

    def ended(**found: Any) -> SendAttempt:
        return SendAttempt(at=at, seconds=round(time.monotonic() - began, 3), **found)

    deadline = began + policy.seconds
    try:
        parsed = check_url(url, policy)
        status, answer, wait = _ask(parsed, headers, body, _Guarded(policy, deadline))
    except InvalidWebhook as error:
        return ended(error=error.detail)
    except _Refused as error:
        return ended(error=str(error))
    except httpcore.TimeoutException:
        return ended(error=f"The receiver did not answer within {policy.seconds:g} s.")
    except (httpcore.NetworkError, httpcore.ProtocolError, OSError, ValueError) as error:
        return ended(error=_network_words(error))
    return ended(response_status=status, answer=answer, retry_after_seconds=wait)


def _network_words(error: Exception) -> str:
    cause: object = error
    while isinstance(cause, Exception) and cause.args and isinstance(cause.args[0], Exception):
        cause = cause.args[0]  # httpcore's errors hold what they stand for.
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"The receiver's certificate is not valid: {cause.verify_message}."
    said = str(cause).strip() or type(cause).__name__
    return f"The connection failed: {said[:200]}."


def _ask(
    url: httpx.URL, headers: dict[str, str], body: bytes, network: "_Guarded"
) -> tuple[int, str, float | None]:
    """Status, how the answer begins, and the wait that it asks for."""
    with (
        httpcore.ConnectionPool(
            ssl_context=httpx.create_ssl_context() if url.scheme == "https" else None,
            max_keepalive_connections=0,
            network_backend=network,
        ) as pool,
        pool.stream(
            "POST",
            httpcore.URL(
                scheme=url.raw_scheme,
                host=url.raw_host,
                port=url.port,
                target=url.raw_path,
            ),
            headers=[
                ("Host", url.netloc.decode("ascii")),
                ("Accept-Encoding", "identity"),
                *headers.items(),
            ],
            content=body,
        ) as answer,
    ):
        found = {name.lower(): value for name, value in answer.headers}
        return answer.status, _beginning(answer), _seconds(found.get(b"retry-after", b""))


def _beginning(answer: httpcore.Response) -> str:
    """The status has been said, so an answer that breaks off, or never ends, is no failure."""
    read = bytearray()
    try:
        for piece in answer.iter_stream():
            read += piece
            if len(read) >= READ_BYTES:
                break
    except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, OSError):
        pass
    # PostgreSQL stores no U+0000.
    return bytes(read[:ANSWER_BYTES]).decode("utf-8", "replace").replace("\x00", "\ufffd")


def _seconds(retry_after: bytes) -> float | None:
    """Of a Retry-After in seconds; dates are passed over."""
    text = retry_after.strip()
    return min(float(text), LONGEST_WAIT_SECONDS) if text.isdigit() and len(text) < 10 else None


class _Guarded(httpcore.NetworkBackend):
    """Connects to addresses that may be asked, and to nothing after the deadline."""

    def __init__(self, policy: Policy, deadline: float) -> None:
        self._policy = policy
        self._deadline = deadline
        self._plain = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """To the first address of the name that answers."""
        failed: Exception = httpcore.ConnectError("the name has no address")
        for address in self._addresses(host, port):
            try:
                left = _left(self._deadline, httpcore.ConnectTimeout)
                stream = self._plain.connect_tcp(address, port, left, None, socket_options)
                return _Timed(stream, self._deadline)
            except (httpcore.ConnectError, OSError) as error:
                failed = error
        raise failed

    def _addresses(self, host: str, port: int) -> Sequence[str]:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise _Refused(f"The name {host} cannot be resolved.") from error
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        # One that is not public among others makes the name suspect as a whole.
        if not all(may_be_asked(address, self._policy.allowed) for address in addresses):
            log.warning("receiver_refused", host=host, addresses=addresses)
            # Which address it is would tell a stranger what names mean inside this network.
            raise _Refused(
                f"{host} has an address that is not public, so nothing was sent. Whoever runs the "
                "service can allow it (SECATEUR_WEBHOOK_ALLOW_NETWORKS)."
            )
        return addresses


class _Timed(httpcore.NetworkStream):
    """A connection whose every step must be over by one deadline, however often bytes trickle."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Some bytes."""
        return self._stream.read(max_bytes, _left(self._deadline, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """All bytes."""
        self._stream.write(buffer, _left(self._deadline, httpcore.WriteTimeout))

    def close(self) -> None:
        """Hang up."""
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        """The same, encrypted."""
        left = _left(self._deadline, httpcore.ConnectTimeout)
        return _Timed(self._stream.start_tls(ssl_context, server_hostname, left), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        """What the connection knows of itself."""
        return self._stream.get_extra_info(info)


def _left(deadline: float, too_late: type[Exception]) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise too_late("the deadline has passed")
    return left
