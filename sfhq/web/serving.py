"""A socket on the loopback address, and a server that ends well on every signal."""

from __future__ import annotations

import signal
import socket
import sys

from starlette.types import ASGIApp

from sfhq.errors import UsageError


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
