"""A limit on request bodies; uploads stream and check their own."""

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import problem_response
from app.domain.errors import TooLarge

UPLOADS = frozenset({"/v1/models", "/v1/datasets", "/v1/uploads"})
UPLOADS_BELOW = "/v1/uploads/"


def is_upload(path: str) -> bool:
    """Whether bodies sent there are read piece by piece, against limits of their own."""
    return path in UPLOADS or path.startswith(UPLOADS_BELOW)


class BodyLimit:
    """Answers 413 to JSON bodies over the limit, declared or not, before they are in memory."""

    def __init__(self, app: ASGIApp, limit_bytes: int) -> None:
        self.app = app
        self.limit_bytes = limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http" or is_upload(scope["path"]):
            await self.app(scope, receive, send)
            return
        # The body is read here, up to the limit: an exception raised out of the application's
        # own reading would be reported as a malformed body.
        received: list[Message] = []
        size = 0
        while True:
            message = await receive()
            received.append(message)
            size += len(message.get("body", b""))
            if size > self.limit_bytes:
                error = TooLarge(
                    f"The request body is larger than the {self.limit_bytes} bytes that are "
                    "accepted here."
                )
                await problem_response(Request(scope), error)(scope, receive, send)
                return
            if not message.get("more_body", False):
                break

        async def replay() -> Message:
            return received.pop(0) if received else await receive()

        await self.app(scope, replay, send)
