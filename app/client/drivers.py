"""Carrying flows out, blocking or asynchronously."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any, TypeVar

import httpx

from app.client.errors import InvalidRequest
from app.client.flows import Call, Chunk, Close, Effect, Emit, Flow, Open, Pause, Read

KEY_VARIABLE = "SECATEUR_API_KEY"
URL_VARIABLE = "SECATEUR_URL"
DEFAULT_URL = "http://127.0.0.1:8000"
"""Where `secateur serve` listens."""
TIMEOUT = httpx.Timeout(30.0, read=150.0)
STREAM_TIMEOUT = httpx.Timeout(30.0)
"""An open stream of events says something every ten seconds."""

T = TypeVar("T")


def settings(url: str | None, key: str | None) -> dict[str, Any]:
    """What both of httpx' clients are made with. Raises `InvalidRequest`."""
    url = url or os.environ.get(URL_VARIABLE) or DEFAULT_URL
    if not url.startswith(("http://", "https://")):
        raise InvalidRequest(
            f"The address {url!r} must begin with http:// or https://, as in {DEFAULT_URL}."
        )
    key = (key or os.environ.get(KEY_VARIABLE, "")).strip()
    if not key.isascii() or not key.isprintable():
        raise InvalidRequest(f"The API key in {KEY_VARIABLE} or --key holds no ASCII text.")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return {"base_url": url, "timeout": TIMEOUT, "headers": headers}


def _request(http: httpx.Client | httpx.AsyncClient, call: Call, **more: Any) -> httpx.Request:
    return http.build_request(
        call.method, call.path, params=call.params, headers=call.headers, **call.more, **more
    )


class Driver:
    """Carries flows out, one effect after the other, in the calling thread."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    def run(self, flow: Flow[T], seen: Callable[[Any], None] = lambda _: None) -> T:
        """The flow's result; what it emits goes to `seen`."""
        steps = self._steps(flow)
        while True:
            try:
                seen(next(steps))
            except StopIteration as end:
                result: T = end.value
                return result

    def iterate(self, flow: Flow[None]) -> Iterator[Any]:
        """What the flow emits, as it comes."""
        yield from self._steps(flow)

    def _steps(self, flow: Flow[T]) -> Generator[Any, None, T]:
        stream = _Stream()
        hand: Callable[[], Effect] = lambda: next(flow)  # noqa: E731
        try:
            while True:
                try:
                    effect = hand()
                except StopIteration as end:
                    result: T = end.value
                    return result
                if isinstance(effect, Emit):
                    yield effect.value
                    hand = lambda: flow.send(None)  # noqa: E731
                else:
                    hand = self._carry_out(flow, effect, stream)
        finally:
            flow.close()
            if stream.answer is not None:
                stream.answer.close()

    def _carry_out(self, flow: Flow[T], effect: Effect, stream: "_Stream") -> Callable[[], Effect]:
        try:
            came = self._perform(effect, stream)
        except httpx.TransportError as error:
            thrown = error
            return lambda: flow.throw(thrown)
        return lambda: flow.send(came)

    def _perform(self, effect: Effect, stream: "_Stream") -> Any:
        match effect:
            case Call():
                return self.http.send(_request(self.http, effect))
            case Open(call):
                request = _request(self.http, call, timeout=STREAM_TIMEOUT)
                stream.answer = self.http.send(request, stream=True)
                stream.chunks = stream.answer.iter_bytes()
                return stream.answer
            case Chunk():
                return next(stream.chunks, None)
            case Read():
                stream.answer.read()
                return stream.answer
            case Close():
                stream.answer.close()
            case Pause(seconds):
                time.sleep(seconds)
        return None


class AsyncDriver:
    """Carries flows out on asyncio's loop."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def run(self, flow: Flow[T], seen: Callable[[Any], None] = lambda _: None) -> T:
        """The flow's result; what it emits goes to `seen`."""
        result: list[T] = []
        async for value in self._steps(flow, result):
            seen(value)
        return result[0]

    async def iterate(self, flow: Flow[None]) -> AsyncIterator[Any]:
        """What the flow emits, as it comes."""
        async for value in self._steps(flow, []):
            yield value

    async def _steps(self, flow: Flow[T], result: list[T]) -> AsyncIterator[Any]:
        stream = _Stream()
        hand: Callable[[], Effect] = lambda: next(flow)  # noqa: E731
        try:
            while True:
                try:
                    effect = hand()
                except StopIteration as end:
                    result.append(end.value)
                    return
                if isinstance(effect, Emit):
                    yield effect.value
                    hand = lambda: flow.send(None)  # noqa: E731
                else:
                    hand = await self._carry_out(flow, effect, stream)
        finally:
            flow.close()
            if stream.answer is not None:
                await stream.answer.aclose()

    async def _carry_out(
        self, flow: Flow[T], effect: Effect, stream: "_Stream"
    ) -> Callable[[], Effect]:
        try:
            came = await self._perform(effect, stream)
        except httpx.TransportError as error:
            thrown = error
            return lambda: flow.throw(thrown)
        return lambda: flow.send(came)

    async def _perform(self, effect: Effect, stream: "_Stream") -> Any:
        match effect:
            case Call():
                return await self.http.send(_request(self.http, effect))
            case Open(call):
                request = _request(self.http, call, timeout=STREAM_TIMEOUT)
                stream.answer = await self.http.send(request, stream=True)
                stream.chunks = stream.answer.aiter_bytes()
                return stream.answer
            case Chunk():
                return await anext(stream.chunks, None)
            case Read():
                await stream.answer.aread()
                return stream.answer
            case Close():
                await stream.answer.aclose()
            case Pause(seconds):
                await asyncio.sleep(seconds)
        return None


class _Stream:
    """The one answer that a flow reads piece by piece."""

    answer: Any = None
    chunks: Any = None
