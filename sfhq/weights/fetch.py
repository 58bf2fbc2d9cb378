"""Download a model: resumed where it broke off, checked before it gets its name.

Bytes go to `<file>.part`, with a note beside it that says which version of the file they belong
to. A killed download goes on from there, if the server says that the file is still the same.

By hand: torch.hub and pooch begin a broken download again, and these files are gigabytes.
"""

from __future__ import annotations

import http.client
import json
import os
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sfhq.errors import IntegrityError, SfhqError, UsageError
from sfhq.images import write_atomic
from sfhq.weights import store as model_store
from sfhq.weights.store import Confirm, Status
from sfhq.weights.table import ModelRow

ATTEMPTS = 5  # in a row that brought no new bytes, or that started again from byte 0
PAUSE = 0.5  # seconds before the second attempt; doubled at each further one
TIMEOUT = 30.0
CHUNK = 1 << 18
LARGEST = 20_000_000_000  # bytes; the limit of a file whose size nobody published
LOCAL = ("localhost", "127.0.0.1", "::1")
Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class _Version:
    """Which file the bytes of a `.part` belong to.

    Attributes:
        url: its address.
        validator: strong ETag or Last-Modified, as the server gave it; "" for neither.
        total: bytes of the whole file; None where the server did not say.
        complete: whether all have arrived.
    """

    url: str
    validator: str
    total: int | None
    complete: bool = False


class _Dropped(Exception):
    """The connection ended early; another try may help."""


class _Restart(Exception):
    """The bytes that are there cannot be continued; start from byte 0."""


def fetch(
    row: ModelRow,
    confirm: Confirm,
    accepted: str = "",
    url: str | None = None,
    progress: Progress = lambda done, total: None,
) -> Status:
    """Put a model into the cache; download it unless it is there.

    Args:
        row: the model.
        confirm: given digest and size of a file whose digest nobody published, whether to
            trust it.
        accepted: identifier of the licence the user accepts.
        url: a mirror to use instead of the row's address; the same size and digest are wanted.
        progress: called with the bytes so far and in all.

    Raises:
        UsageError: licence not accepted, no address known, or an unpublished digest not
            confirmed; then the download is kept, and the next call begins with it.
        IntegrityError: other bytes than were published.
        SfhqError: offline, or the server cannot or will not.
    """
    found = model_store.status(row)
    if found.sound:
        return found
    address = url or row.url
    if address is None:
        raise UsageError(
            f"{row.name}: no address is known to fetch it from; "
            f"{row.hint or f'add it with: sfhq models add {row.name} FILE'}"
        )
    _check_address(address)
    if accepted != row.licence:
        given = f"{accepted!r} is not it; " if accepted else ""
        raise UsageError(
            f"{row.name}: its licence is {row.licence} ({row.terms}); {given}"
            f"to accept it, add: --accept-licence {row.licence}"
        )
    with model_store.locked(row):
        found = model_store.status(row)
        if found.state == "installed":
            return found
        partial = _partial(row)
        _download(row, address, partial, progress)
        try:
            found = model_store.accept(row, partial, address, confirm, accepted)
        except UsageError:
            raise  # the user may still say yes
        except SfhqError:
            _forget(partial)
            raise
        _forget(partial)
    return found


def _partial(row: ModelRow) -> Path:
    path = model_store.model_path(row)
    return path.with_name(path.name + ".part")


def _note(partial: Path) -> Path:
    return partial.with_name(partial.name + ".json")


def _own_file(path: str, flags: int) -> int:
    """Open a file of the cache, but none that a link leads to."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def _forget(partial: Path) -> None:
    partial.unlink(missing_ok=True)
    _note(partial).unlink(missing_ok=True)


def _read_note(partial: Path) -> _Version | None:
    try:
        return _Version(**json.loads(_note(partial).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _write_note(partial: Path, version: _Version) -> None:
    write_atomic(_note(partial), json.dumps(asdict(version)).encode())


def _check_address(url: str) -> None:
    """Refuse addresses other than https; http is allowed from this machine."""
    try:
        parts = urllib.parse.urlsplit(url)
        host, scheme = parts.hostname, parts.scheme
    except ValueError:
        host = scheme = None
    plain = url.isascii() and url.isprintable() and " " not in url
    if plain and host and (scheme == "https" or (scheme == "http" and host in LOCAL)):
        return
    raise UsageError(f"{url}: wanted an https address")


class _OnlySafe(urllib.request.HTTPRedirectHandler):
    """Follows redirects only to addresses that `_check_address` allows."""

    def redirect_request(self, req: Any, *arguments: Any) -> Any:
        address = str(arguments[-1])
        _check_address(address)
        if req.type == "https" and not address.startswith("https:"):
            raise UsageError(f"{req.full_url}: leads to {address}; wanted an https address")
        return super().redirect_request(req, *arguments)


def _download(row: ModelRow, url: str, partial: Path, progress: Progress) -> None:
    """Until the file is whole, try again as long as it gets further."""
    stuck = restarts = furthest = 0
    while True:
        version, done = _arrived(partial, url)
        if version is not None and version.complete:
            return
        furthest = max(furthest, done)
        variable = model_store.offline()
        if variable is not None:
            raise SfhqError(
                f"{row.name}: {variable} is set, so nothing is fetched; unset it, or run: "
                f"sfhq models add {row.name} FILE"
            )
        try:
            _attempt(row, url, partial, done, version, progress)
            return
        except _Restart as error:
            _forget(partial)
            restarts, furthest, problem = restarts + 1, 0, str(error)
        except _Dropped as error:
            stuck = 0 if _size(partial) > furthest else stuck + 1
            problem = str(error)
        if max(stuck, restarts) >= ATTEMPTS:
            raise SfhqError(
                f"{row.name}: no network, or {urllib.parse.urlsplit(url).netloc} does not do its "
                f"part ({problem}); run the same command again to go on"
            )
        time.sleep(PAUSE * 2**stuck)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _arrived(partial: Path, url: str) -> tuple[_Version | None, int]:
    """What can be continued; anything else is removed."""
    version, done = _read_note(partial), _size(partial)
    if version is not None and version.url == url and done:
        if done == version.total:  # killed after the last byte, at the latest
            return replace(version, complete=True), done
        if not version.complete and (version.total is None or done < version.total):
            return version, done
    _forget(partial)
    return None, 0


def _attempt(
    row: ModelRow,
    url: str,
    partial: Path,
    done: int,
    version: _Version | None,
    progress: Progress,
) -> None:
    """One request; appends to the partial file."""
    headers = {"User-Agent": "sfhq", "Accept-Encoding": "identity"}
    if done and version is not None:
        # Without a validator the file may have changed; a published digest would tell.
        if not version.validator and row.sha256 is None:
            raise _Restart("it cannot be continued")
        headers["Range"] = f"bytes={done}-"
        if version.validator:
            headers["If-Range"] = version.validator
    opener = urllib.request.build_opener(_OnlySafe)
    try:
        with opener.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT) as reply:
            _receive(row, url, partial, done, version, reply, progress)
    except urllib.error.HTTPError as error:
        error.close()
        answer = " ".join(f"{error.code} {error.reason}".split())
        if error.code == 416:
            raise _Restart("the file has changed") from None
        if error.code in (408, 425, 429, 500, 502, 503, 504):
            raise _Dropped(answer) from None
        raise SfhqError(
            f"{row.name}: {url} answered {answer}; get the file from "
            f"{row.page or 'its source'} and run: sfhq models add {row.name} FILE"
        ) from None
    except urllib.error.URLError as error:
        raise _Dropped(str(error.reason)) from None
    except (ConnectionError, TimeoutError, ssl.SSLError, http.client.HTTPException) as error:
        raise _Dropped(str(error) or type(error).__name__) from None


def _receive(
    row: ModelRow,
    url: str,
    partial: Path,
    done: int,
    version: _Version | None,
    reply: Any,
    progress: Progress,
) -> None:
    if reply.status == 206:
        total = _continued(reply, done)
        if version is None or total is None or version.total not in (None, total):
            raise _Restart("the server sent another part than was asked for")
        if _validator(reply) not in ("", version.validator):
            raise _Restart("the file has changed")
    else:
        length = reply.headers.get("Content-Length", "")
        total, done = int(length) if length.isdigit() else None, 0
    first = reply.read(CHUNK)
    if not done:
        model_store.refuse_page(row, first[:1024], url)
        if row.size is not None and total is not None and total != row.size:
            raise IntegrityError(
                f"{row.name}: {url} offers {total:,} bytes; wanted {row.size:,}; not taken"
            )
        _forget(partial)  # before the note is written: the old bytes are of another version
        _write_note(partial, _Version(url, _validator(reply), total))
    limit = total or row.size or LARGEST
    model_store.need_room(partial.parent, (total or row.size or len(first)) - done)
    with open(partial, "ab", opener=_own_file) as file:
        chunk = first
        while chunk and done + len(chunk) <= limit:
            file.write(chunk)
            done += len(chunk)
            progress(done, total)
            chunk = reply.read(CHUNK)
            if total is None:
                model_store.need_room(partial.parent, len(chunk))
        file.flush()
        os.fsync(file.fileno())
    if chunk:
        _forget(partial)
        raise IntegrityError(f"{row.name}: {url} sends over {limit:,} bytes; not taken")
    if total is not None and done < total:
        raise _Dropped(f"{done:,} of {total:,} bytes came")
    _write_note(partial, _Version(url, "", done, complete=True))


def _continued(reply: Any, offset: int) -> int | None:
    """Bytes of the whole file, if what was sent goes on at `offset`."""
    unit, _, rest = str(reply.headers.get("Content-Range", "")).partition(" ")
    span, _, total = rest.partition("/")
    right = unit == "bytes" and span.partition("-")[0] == str(offset) and total.isdigit()
    return int(total) if right else None


def _validator(reply: Any) -> str:
    tag = str(reply.headers.get("ETag", ""))
    if tag.startswith('"'):  # a weak one does not promise the same bytes
        return tag
    return str(reply.headers.get("Last-Modified", ""))
