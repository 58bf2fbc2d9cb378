"""A socket on the loopback address, and a server that ends well on every signal."""

from __future__ import annotations

import hashlib
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

from starlette.types import ASGIApp

from sfhq.errors import UsageError

# Below the ports that systems give to outgoing connections, and without one that browsers block.
FIRST_PORT, PORTS = 20_000, 10_000
TRIES = 50


def place_of(folder: Path) -> str:
    """12 hex digits that name a folder of this machine: the same at each start."""
    return hashlib.sha256(str(folder.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:12]


def port_of(folder: Path) -> socket.socket:
    """A socket on the port that belongs to a folder, or on the next free one.

    Browsers keep what a page stores by its port. While the folder's port is free, its page
    therefore finds at each start what it kept: names, keys and decisions that are not sent yet.

    Args:
        folder: what the server shows; it need not exist.
    """
    first = int(place_of(folder), 16) % PORTS
    for step in range(TRIES):
        with suppress(UsageError):
            return free_port(FIRST_PORT + (first + step) % PORTS)
    return free_port()


def free_port(wanted: int = 0) -> socket.socket:
    """A socket that listens on the loopback address.

    Args:
        wanted: the port; 0 takes a free one.

    Raises:
        UsageError: the port is taken.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(("127.0.0.1", wanted))
        sock.listen(128)  # a browser that comes before the server is up waits for it
    except (OSError, OverflowError) as error:  # OverflowError: no such port
        sock.close()
        why = error.strerror if isinstance(error, OSError) else None
        raise UsageError(
            f"port {wanted}: {(why or 'not a free port').lower()}; give another --port"
        ) from None
    return sock


def serve_application(application: ASGIApp, sock: socket.socket) -> None:
    """Serve until SIGINT or SIGTERM. To be called in the main thread.

    Raises:
        KeyboardInterrupt: at SIGINT, after the server has closed.
        SystemExit: at SIGTERM, after the server has closed; with the code 143.
    """
    import uvicorn

    # uvicorn raises SIGTERM again at its end. Unhandled, it would kill this process before the
    # caller has closed its files and workers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    config = uvicorn.Config(
        application,
        log_level="error",
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=2,
    )
    uvicorn.Server(config).run(sockets=[sock])
