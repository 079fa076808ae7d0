"""Who may come in: API keys, scopes and requests per minute, before anything else is read.

A middleware, and not a dependency of routes: what has no entry in `OPEN` needs a key, also a route
that is added tomorrow, and the body of a stranger's request is never received.
"""

import ipaddress
import math
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import structlog
from anyio import to_thread
from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.adapters.limiter import Allowance
from app.api.context import Context
from app.api.problems import MEDIA_TYPE, problem_response, responses
from app.domain import people
from app.domain.errors import Forbidden, SecateurError, TooManyRequests, Unauthenticated
from app.domain.people import ANYBODY, Caller
from app.services.keys import HOW
from app.settings import Settings

OPEN = frozenset(
    {
        "/",
        "/icon.svg",
        "/healthz",
        "/readyz",
        "/docs",
        "/docs/oauth2-redirect",
        "/redoc",
        "/openapi.json",
    }
)
OPEN_BELOW = ("/assets/", "/static-offline-docs/", "/examples/", "/problems/")
"""Health and documentation: they tell nothing of anybody."""
READING = frozenset({"GET", "HEAD", "OPTIONS"})
SCHEME = "apiKey"

log = structlog.get_logger("app.access")


def is_open(path: str) -> bool:
    """Whether a path answers without a key."""
    return path in OPEN or path.startswith(OPEN_BELOW)


def needed_scope(method: str, path: str) -> people.Scope:
    """What a key must allow."""
    if path == "/metrics":
        return people.Scope.ADMIN
    return people.Scope.READ if method in READING else people.Scope.WRITE


def is_loopback(host: str) -> bool:
    """Whether an address or a name is this machine's own."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


class Access:
    """Puts the caller into `request.state.caller`, or answers 401, 403 or 429."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http" or is_open(scope["path"]):
            if scope["type"] == "http":
                scope.setdefault("state", {})["caller"] = ANYBODY
            await self.app(scope, receive, send)
            return
        allowance = None
        try:
            caller = await self._caller(scope)
            scope.setdefault("state", {})["caller"] = caller
            structlog.contextvars.bind_contextvars(owner=caller.owner)
            allowance = await self._count(scope, caller)
            if allowance is not None and not allowance.allowed:
                raise _too_many(allowance)
        except SecateurError as refused:
            error = refused
            if isinstance(error, Unauthenticated):
                error = await self._count_stranger(scope, error)
            answer = problem_response(Request(scope), error, _challenge(scope, error))
            await answer(scope, receive, _counting(send, allowance))
            return
        await self.app(scope, receive, _counting(send, allowance))

    async def _caller(self, scope: Scope) -> Caller:
        headers = Headers(scope=scope)
        if not self._needs_key(scope):
            if self.settings.require_keys == "auto":
                _check_page(headers, scope["method"], self.settings.allowed_origins)
            return ANYBODY
        kind, _, text = headers.get("authorization", "").partition(" ")
        if not text:
            raise Unauthenticated(f"No API key came with the request. {HOW}")
        if kind.lower() != "bearer":
            raise Unauthenticated(f"The Authorization header is not a bearer key. {HOW}")
        keys = _context(scope).keys
        caller = await to_thread.run_sync(keys.caller, text.strip())
        structlog.contextvars.bind_contextvars(owner=caller.owner, key=caller.key)
        scope_needed = needed_scope(scope["method"], scope["path"])
        if scope_needed not in caller.scopes:
            raise Forbidden(
                f"This needs the scope {scope_needed!s}, and the key has: "
                f"{', '.join(sorted(caller.scopes))}. Use another key."
            )
        return caller

    def _needs_key(self, scope: Scope) -> bool:
        if self.settings.require_keys != "auto":
            return self.settings.require_keys == "always"
        # The address that the connection came in by.
        server = scope.get("server")
        return server is None or not is_loopback(str(server[0]))

    async def _count(self, scope: Scope, caller: Caller) -> Allowance | None:
        limit = self.settings.requests_per_minute
        if caller.key is None or not limit:
            return None
        return await to_thread.run_sync(_context(scope).limiter.hit, caller.owner, limit)

    async def _count_stranger(self, scope: Scope, refused: Unauthenticated) -> SecateurError:
        """What is answered to a request without a valid key: after too many, another error.

        Only those are counted, and a valid key is always let in: people behind one proxy share its
        address with whoever guesses keys there.
        """
        limit, address = self.settings.refused_per_minute, _address(scope)
        if not limit or address is None:
            return refused
        hit = _context(scope).limiter.hit
        allowance = await to_thread.run_sync(hit, f"address:{address}", limit)
        if allowance is None or allowance.allowed:
            return refused
        wait = max(math.ceil(allowance.reset_seconds), 1)
        return TooManyRequests(
            f"More than {limit} requests without a valid key came from {address} within a minute. "
            f"{HOW} (Setting SECATEUR_REFUSED_PER_MINUTE.)",
            retry_after_seconds=wait,
        )


def _address(scope: Scope) -> str | None:
    """Whose requests are counted together: an address, or a network that IPv6 gives one client."""
    try:
        address = ipaddress.ip_address((scope.get("client") or ("",))[0])
    except ValueError:
        return None
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((address, 64), strict=False))


def _context(scope: Scope) -> Context:
    context = scope["app"].state.context
    assert isinstance(context, Context)
    return context


def _check_page(headers: Headers, method: str, origins: tuple[str, ...]) -> None:
    """A web page in the user's browser reaches loopback too: pages of others must not use it.

    The Host is checked against names that somebody lets point here (DNS rebinding), the Origin
    against forms that are sent from elsewhere. Raises `Forbidden`.
    """
    host = headers.get("host", "")
    if not is_loopback(_name(host)):
        raise Forbidden(
            "Without API keys the service answers as localhost only, and was called "
            f"{host[:80]!r}. Behind a proxy set SECATEUR_REQUIRE_KEYS=always; or =never, where "
            "only people you trust can reach it."
        )
    origin = headers.get("origin")
    if origin and method not in READING and origin not in origins and not _same(origin, host):
        raise Forbidden(
            f"A web page of {origin[:80]!r} asks for this, and may not: name it in "
            "SECATEUR_CORS_ORIGINS if it should."
        )


def _name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _same(origin: str, host: str) -> bool:
    return origin.partition("://")[2] == host


def _too_many(allowance: Allowance) -> TooManyRequests:
    wait = max(math.ceil(allowance.reset_seconds), 1)
    return TooManyRequests(
        f"More than {allowance.limit} requests came from you within a minute. Try again in {wait} "
        "s; GET /v1/jobs/{id}/events follows a job without asking again and again (setting "
        "SECATEUR_REQUESTS_PER_MINUTE).",
        retry_after_seconds=wait,
    )


def _challenge(scope: Scope, error: SecateurError) -> dict[str, str]:
    """[RFC 6750, section 3]"""
    log.warning("refused", reason=type(error).__name__, client=(scope.get("client") or ("",))[0])
    shown = Headers(scope=scope).get("authorization")
    if isinstance(error, Unauthenticated):
        more = ', error="invalid_token"' if shown else ""
        return {"WWW-Authenticate": f'Bearer realm="secateur"{more}'}
    if isinstance(error, Forbidden) and shown:
        needed = needed_scope(scope["method"], scope["path"])
        return {
            "WWW-Authenticate": f'Bearer realm="secateur", error="insufficient_scope", '
            f'scope="{needed}"'
        }
    return {}


def _counting(send: Send, allowance: Allowance | None) -> Send:
    """RateLimit headers on the answer. [draft-ietf-httpapi-ratelimit-headers-10]"""
    if allowance is None:
        return send

    async def tell(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["RateLimit-Policy"] = f'"requests";q={allowance.limit};w=60'
            headers["RateLimit"] = (
                f'"requests";r={allowance.remaining};t={math.ceil(allowance.reset_seconds)}'
            )
        await send(message)

    return tell


def install(app: FastAPI, settings: Settings) -> None:
    """Describe keys in the OpenAPI document."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        document = made()
        describe(document, settings)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def describe(document: dict[str, Any], settings: Settings) -> None:
    """Add keys, and the answers of this module, to the OpenAPI document."""
    schemes = document["components"].setdefault("securitySchemes", {})
    schemes[SCHEME] = {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "sct_…",
        "description": "An API key: `secateur keys create --owner NAME` makes one.",
    }
    key: Mapping[str, list[str]] = {SCHEME: []}
    for path, operations in document["paths"].items():
        if is_open(path.replace("{", "").replace("}", "")):
            continue
        for method, operation in operations.items():
            operation["security"] = [key] if settings.require_keys == "always" else [key, {}]
            said = (401, 403, 429, *((408,) if method in ("post", "patch") else ()))
            for status, response in responses(*said).items():
                operation["responses"].setdefault(
                    str(status),
                    {
                        "description": response["description"],
                        "content": {MEDIA_TYPE: response["content"][MEDIA_TYPE]},
                    },
                )
