"""A guarded application: routes, static files, and errors as answers in JSON."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Scope

from sfhq.errors import DiskFull, IntegrityError, SfhqError, UsageError
from sfhq.web.guard import MOST_BODY, Guard, problem

# Named here, because the table that Python reads from the system may say something else.
KINDS = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}
# The status of each class of error; of several that fit, the most special one counts.
STATUS: dict[type[Exception], int] = {
    UsageError: 400,
    IntegrityError: 409,
    DiskFull: 507,
    SfhqError: 500,
}
FULL = (errno.ENOSPC, errno.EDQUOT)


class PackageFiles(StaticFiles):
    """The files of one folder in a package, of the kinds in `KINDS` only.

    Args:
        package: name of the package.
        folder: the folder inside it.
    """

    def __init__(self, package: str, folder: str) -> None:
        super().__init__(packages=[(package, folder)])

    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        """The file with its content type; 404 for other kinds of files."""
        kind = KINDS.get(PurePath(full_path).suffix)
        if kind is None:
            raise HTTPException(404)
        answer = super().file_response(full_path, stat_result, scope, status_code)
        answer.headers["content-type"] = kind
        return answer


def package_files(path: str, package: str, folder: str) -> Mount:
    """A route that serves a package's folder below a path, such as "/web"."""
    return Mount(path, PackageFiles(package, folder))


async def json_object(request: Request) -> dict[str, Any]:
    """The body of a request.

    Raises:
        UsageError: the body is not a JSON object.
        HTTPException: 413, it is longer than `MOST_BODY`; 400, the client left in its middle.
    """
    data = bytearray()
    try:
        async for some in request.stream():
            data += some
            if len(data) > MOST_BODY:
                raise HTTPException(413, f"the body is longer than {MOST_BODY} bytes")
    except ClientDisconnect:
        raise HTTPException(400, "the body ended before its length") from None
    try:
        body = json.loads(bytes(data))
    except (ValueError, RecursionError):
        raise UsageError("the body is not JSON") from None
    if not isinstance(body, dict):
        raise UsageError("the body is not a JSON object")
    return body


async def _sfhq_error(_: Request, error: Exception) -> Response:
    status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    return problem(status, str(error))


async def _os_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, OSError)
    status = 507 if error.errno in FULL else 500
    return problem(status, f"{error.filename}: {error.strerror}; nothing was lost")


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return problem(error.status_code, error.detail, error.headers)


async def _defect(_: Request, error: Exception) -> Response:
    """A mistake in our code; Starlette raises it again, so that the terminal shows where."""
    return problem(500, f"internal error ({type(error).__name__}); the terminal shows more")


def guarded(routes: Sequence[BaseRoute], token: str, public: Sequence[str] = ()) -> ASGIApp:
    """An application behind the guard.

    Args:
        routes: what it answers; endpoints raise errors, and the user sees them as JSON.
        token, public: as `Guard`.
    """
    handlers = {
        SfhqError: _sfhq_error,
        OSError: _os_error,
        HTTPException: _http_error,
        Exception: _defect,
    }
    return Guard(Starlette(routes=routes, exception_handlers=handlers), token, public)
