"""A folder on S3-compatible storage, or on a disk by a file:// address."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple
from urllib.parse import unquote, urlsplit

from sfhq.errors import IntegrityError, SfhqError, UsageError

CHUNK = 4 * 2**20  # bytes that are held of a file while it moves
CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 30.0
ATTEMPTS = 3
GO_ON = "what has been moved is kept; run the same command again to go on"
WANTED = "wanted s3://BUCKET/FOLDER or file:///FOLDER"


class Entry(NamedTuple):
    """What a file is known by: its size in bytes, and its SHA-256."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Store:
    """A folder of a storage.

    Attributes:
        url: as it was given, for messages.
        files: a `pyarrow.fs.FileSystem`.
        base: of the folder, in its spelling.
        local: whether it is a disk.
    """

    url: str
    files: Any = field(repr=False)
    base: str
    local: bool = False

    def read(self, name: str, most: int) -> bytes | None:
        """A small file; None where there is none.

        Raises:
            SfhqError: the storage does not answer.
            IntegrityError: it has more than `most` bytes.
        """
        from pyarrow.fs import FileType

        with self._asked():
            if self.files.get_file_info(self._path(name)).type == FileType.NotFound:
                return None
            with self.files.open_input_stream(self._path(name)) as stream:
                data: bytes = stream.read(most + 1)
        if len(data) > most:
            raise IntegrityError(f"{self.url}: {name} has more than {most:,} bytes; it is not ours")
        return data

    def write(self, name: str, data: bytes) -> None:
        """Write a small file; a reader sees the old or the new one."""
        with self._asked(), self._new(name) as stream:
            stream.write(data)

    def send(self, name: str, source: Path, entry: Entry) -> None:
        """Write a file of this machine.

        Raises:
            SfhqError: the storage does not answer, or the file has changed since it was looked at.
        """
        with open(source, "rb") as file, self._asked(), self._new(name) as stream:
            found = _copy(file, stream, entry.size)
            if found != entry:  # before it counts: no manifest names it
                raise _Changed(f"{source}: changed while it was sent; {GO_ON}")

    def fetch(self, name: str, target: Path, entry: Entry) -> None:
        """Read a file into a new one of this machine, which is there only if its digest is right.

        Raises:
            SfhqError: the storage does not answer.
            IntegrityError: the file is missing, or another one.
        """
        partial = target.with_name(target.name + ".part")
        with suppress(FileNotFoundError):
            partial.unlink()
        try:
            with open(partial, "xb") as file:
                found = self._copied(name, file, entry.size)
                file.flush()
                os.fsync(file.fileno())
            if found != entry:
                raise IntegrityError(
                    f"{self.url}: {name} is not what the manifest says; push the part again"
                )
            os.replace(partial, target)
        except BaseException as error:
            with suppress(OSError):
                partial.unlink()
            if isinstance(error, OSError) and error.filename is None:
                error.filename = str(target)  # the error of a full disk does not name the file
            raise

    def entry(self, name: str, size: int) -> Entry | None:
        """What a file there is, read to its end; None where there is none.

        Args:
            name: of the file.
            size: bytes after which it is another file in any case.
        """
        with suppress(IntegrityError):
            return self._copied(name, None, size)
        return None

    def _copied(self, name: str, file: IO[bytes] | None, most: int) -> Entry:
        try:
            with self._asked():
                stream = self.files.open_input_stream(self._path(name))
        except _Missing:
            raise IntegrityError(f"{self.url}: {name} is missing; push the part again") from None
        with stream:
            return _copy(_Asking(self, stream), file, most)

    def sizes(self) -> dict[str, int]:
        """Name -> bytes of all files in the folder."""
        from pyarrow.fs import FileSelector, FileType

        selector = FileSelector(self.base, recursive=True, allow_not_found=True)
        with self._asked():
            found = self.files.get_file_info(selector)
        start = len(self.base.rstrip("/")) + 1
        return {info.path[start:]: info.size for info in found if info.type == FileType.File}

    def delete(self, name: str) -> None:
        """Delete a file; it may be missing."""
        with suppress(_Missing), self._asked():
            self.files.delete_file(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self.base.rstrip('/')}/{name}"

    @contextmanager
    def _new(self, name: str) -> Iterator[Any]:
        path = self._path(name)
        if not self.local:
            # An object is there when its stream is closed. One of a stream that failed is in no
            # manifest, and is written again.
            with self.files.open_output_stream(path) as stream:
                yield stream
            return
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(target.name + ".part")
        try:
            with open(partial, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, target)
        finally:
            with suppress(OSError):
                partial.unlink()

    @contextmanager
    def _asked(self) -> Iterator[None]:
        """Within it errors of the storage become one line."""
        import pyarrow as pa

        try:
            yield
        except SfhqError:
            raise
        except FileNotFoundError:
            raise _Missing(f"{self.url}: a file is missing there; {GO_ON}") from None
        except (OSError, pa.ArrowException) as error:
            raise SfhqError(f"{self.url}: {_said(error)}") from None


class _Missing(SfhqError):
    """A file is not there."""


class _Changed(SfhqError):
    """A file of this machine is not what it was."""


@dataclass
class _Asking:
    """A stream of a storage, whose errors become one line."""

    store: Store
    stream: Any

    def read(self, count: int) -> bytes:
        with self.store._asked():
            data: bytes = self.stream.read(count)
        return data


def _copy(source: Any, target: Any, most: int) -> Entry:
    """Copy a stream until it ends or is longer than it should be."""
    digest, size = hashlib.sha256(), 0
    while size <= most and (data := source.read(CHUNK)):
        digest.update(data)
        size += len(data)
        if target is not None:
            target.write(data)
    return Entry(size, digest.hexdigest())


def _said(error: Exception) -> str:
    """What went wrong, and what to do."""
    text = " ".join(str(error).split())
    kind = re.search(r"AWS Error ([A-Z_]+)", text)
    code = kind[1] if kind else ""
    if code == "NO_SUCH_BUCKET" or "bucket does not exist" in text:
        return "no such bucket; make it, or correct the address"
    if code in ("ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH"):
        return (
            f"refused ({code.lower().replace('_', ' ')}); set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY of somebody who may"
        )
    if isinstance(error, OSError) and error.errno and error.strerror:
        return f"{error.strerror.lower()}; {GO_ON}"
    detail = re.search(r"(curlCode: \d+, [^;]+|HTTP status \d+|timed? ?out)", text, re.IGNORECASE)
    if code == "NETWORK_CONNECTION" or detail:
        return f"the storage does not answer ({detail[1] if detail else code.lower()}); {GO_ON}"
    return f"the storage failed ({text[:200]}); {GO_ON}"


def open_store(url: str, endpoint: str | None = None, anonymous: bool = False) -> Store:
    """A folder of a storage by its address; nothing is asked yet.

    Args:
        url: "s3://bucket/folder" or "file:///folder". Credentials come from where AWS's tools look
            for them: `AWS_ACCESS_KEY_ID`, `~/.aws`, the machine's role.
        endpoint: "http://host:port" of a server that speaks S3; None takes `AWS_ENDPOINT_URL_S3`,
            `AWS_ENDPOINT_URL`, or Amazon's.
        anonymous: without credentials.

    Raises:
        UsageError: another kind of address.
    """
    parts = urlsplit(url)
    names = [unquote(n) for n in parts.path.strip("/").split("/") if n]
    if parts.scheme not in ("s3", "file") or parts.query or parts.fragment or ".." in names:
        raise UsageError(f"{_without_secrets(url)}: not an address of storage; {WANTED}")
    if parts.scheme == "file":
        from pyarrow.fs import LocalFileSystem

        if parts.netloc or not names:
            raise UsageError(f"{url}: not a folder of this machine; {WANTED}")
        return Store(url, LocalFileSystem(), "/" + "/".join(names), local=True)
    if "@" in parts.netloc or ":" in parts.netloc:
        raise UsageError(
            f"{_without_secrets(url)}: a bucket only; give keys by AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, and a server by --endpoint"
        )
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]", parts.netloc):
        raise UsageError(f"{url}: not a name of a bucket; {WANTED}")
    server = endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if server and not re.fullmatch(r"https?://[A-Za-z0-9.\-_\[\]:]+/?", server):
        raise UsageError(f"--endpoint is {_without_secrets(server)}; wanted http://HOST:PORT")
    return Store(url.rstrip("/"), _s3(server, anonymous), "/".join([parts.netloc, *names]))


def _s3(server: str | None, anonymous: bool) -> Any:
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return S3FileSystem(
        anonymous=anonymous,
        region=region or ("us-east-1" if server else None),
        endpoint_override=server.rstrip("/") if server else None,
        connect_timeout=CONNECT_SECONDS,
        request_timeout=ANSWER_SECONDS,
        allow_delayed_open=True,  # a file of one part is one request in place of three
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
    )


def _without_secrets(url: str) -> str:
    """An address without what stands before an @."""
    return re.sub(r"//[^/]*@", "//...@", url)
