"""Headers that tell browsers what answers may do, and patience with slow clients."""

import base64
import hashlib
import re
import time

import anyio
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import problem_response
from app.domain.errors import TooSlow

NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
PICTURE = f"{NOTHING}; style-src 'unsafe-inline'; img-src data:"
"""SVG drawings style their lines."""
PAGE = (
    f"{NOTHING}; "
    "script-src 'self'{scripts}; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:"
)
"""Swagger UI and ReDoc: their own scripts, the inline ones by hash."""
INLINE_SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
API = ("/v1/", "/metrics")


class SecurityHeaders:
    """Sets them where an answer has none of its own. Transport security is the proxy's to say."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        held: Message | None = None

        async def tell(message: Message) -> None:
            nonlocal held
            if message["type"] == "http.response.start":
                _set(message, scope["path"])
                if _is_page(message):
                    held = message  # Its policy names the scripts in its body.
                    return
            elif held is not None:
                policy = PAGE.format(scripts=_hashes(message.get("body", b"")))
                MutableHeaders(scope=held)["Content-Security-Policy"] = policy
                await send(held)
                held = None
            await send(message)

        await self.app(scope, receive, tell)


def _set(message: Message, path: str) -> None:
    headers = MutableHeaders(scope=message)
    for name, value in HEADERS.items():
        headers.setdefault(name, value)
    if path.startswith(API):
        headers.setdefault("Cache-Control", "no-store")
    if not _is_page(message):
        drawn = headers.get("content-type", "").startswith("image/svg")
        headers.setdefault("Content-Security-Policy", PICTURE if drawn else NOTHING)


def _is_page(message: Message) -> bool:
    headers = Headers(raw=message.get("headers", []))
    return (
        headers.get("content-type", "").startswith("text/html")
        and "content-security-policy" not in headers
    )


def _hashes(page: bytes) -> str:
    digests = (hashlib.sha256(script).digest() for script in INLINE_SCRIPT.findall(page))
    return "".join(f" 'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)


class SlowClients:
    """Ends requests whose bodies come too slowly; only time spent waiting for them counts."""

    def __init__(self, app: ASGIApp, seconds: float, bytes_per_second: int) -> None:
        self.app = app
        self.seconds = seconds
        self.bytes_per_second = bytes_per_second

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False
        more, received, waited = True, 0, 0.0

        async def patient() -> Message:
            nonlocal more, received, waited
            if not more:
                return await receive()  # Only the end of the connection can follow.
            begun = time.monotonic()
            try:
                with anyio.fail_after(self.seconds):
                    message = await receive()
            except TimeoutError as error:
                raise TooSlow(
                    f"No piece of the body came for {self.seconds:g} s; {received} bytes had. Send "
                    "it again (setting SECATEUR_SLOW_CLIENT_SECONDS)."
                ) from error
            waited += time.monotonic() - begun
            received += len(message.get("body", b""))
            more = message.get("more_body", False)
            self._check_pace(received, waited)
            return message

        async def tell(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            if started and more and message["type"] == "http.response.start":
                # The rest of the body is not read: nothing else can come on this connection.
                MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        try:
            await self.app(scope, patient, tell)
        except TooSlow as error:
            if started:
                raise
            await problem_response(Request(scope), error)(scope, receive, tell)

    def _check_pace(self, received: int, waited: float) -> None:
        if not self.bytes_per_second:
            return
        if waited > self.seconds + received / self.bytes_per_second:
            raise TooSlow(
                f"{received} bytes came in {waited:.0f} s; at least {self.bytes_per_second} bytes "
                "a second are expected (setting SECATEUR_SLOWEST_BYTES_PER_SECOND)."
            )
