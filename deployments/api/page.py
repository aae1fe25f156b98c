"""The web page at `/`: static files of this package, which need no key and no other host."""

from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse
from starlette.staticfiles import StaticFiles

_FILES = Path(__file__).resolve().parents[1] / "page"
# Pictures and videos are shown from what the page holds itself.
_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; media-src blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def add_routes(api: FastAPI) -> None:
    """Adds the page and its files."""

    @api.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        headers = {"content-security-policy": _POLICY, "cache-control": "no-cache"}
        return FileResponse(_FILES / "index.html", headers=headers)

    api.mount("/page", StaticFiles(directory=_FILES), name="page")
