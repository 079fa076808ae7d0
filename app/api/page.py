"""The page at /: files that were built before (`make page`), and what browsers may do with them."""

from pathlib import Path

from fastapi import FastAPI
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from app.api.hygiene import NOTHING

BUILT = Path(__file__).parents[1] / "web" / "built"
POLICY = (
    f"{NOTHING}; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'"
)
YEAR = "public, max-age=31536000, immutable"


class Assets(StaticFiles):
    """Their names hold hashes of what is in them: a browser need not ask for one again."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """One file."""
        answer = await super().get_response(path, scope)
        if answer.status_code == 200:
            answer.headers["Cache-Control"] = YEAR
        return answer


def page() -> FileResponse:
    """The page, asked for anew each time: it names the assets of this release."""
    headers = {"Cache-Control": "no-cache", "Content-Security-Policy": POLICY}
    return FileResponse(BUILT / "index.html", headers=headers)


def icon() -> FileResponse:
    """Its icon."""
    return FileResponse(BUILT / "icon.svg", headers={"Cache-Control": "max-age=86400"})


def install(app: FastAPI) -> None:
    """Serve the page."""
    app.add_api_route("/", page, methods=["GET", "HEAD"], include_in_schema=False)
    app.add_api_route("/icon.svg", icon, methods=["GET", "HEAD"], include_in_schema=False)
    assets = Assets(directory=BUILT / "assets", check_dir=False)  # Its own build starts without.
    app.mount("/assets", GZipMiddleware(assets), name="assets")
