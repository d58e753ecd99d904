"""The page served on this machine, and on it alone."""

from __future__ import annotations

import errno
import socket
from typing import Any

from .web import gradio

__all__ = ["HOST", "listen", "serve"]

HOST = "127.0.0.1"
#: What a browser may load: the page's own files and embedded pictures, nothing from elsewhere.
POLICY = "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'"
#: Seconds that open connections are given at the end.
PATIENCE = 1


def listen(port: int) -> socket.socket:
    """Return a socket that listens on this machine's own address.

    Args:
        port: 0 for any that is free.

    Raises:
        OSError: the port is in use, or may not be used.

    Example:
        >>> with listen(0) as sock:
        ...     sock.getsockname()[0]
        '127.0.0.1'
    """
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((HOST, port))
    except OSError as error:
        sock.close()
        reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
        raise OSError(f"port {port}: {reason}; 0 takes a free one") from None
    sock.listen()
    return sock


def serve(page: gradio.Blocks, sock: socket.socket) -> None:
    """Serve a page until Ctrl-C or SIGTERM; then raise what that signal raises.

    Nothing is recorded or sent anywhere, and a browser is told to load nothing from elsewhere.
    """
    import fastapi
    import uvicorn

    app = fastapi.FastAPI()
    app.middleware("http")(_keep_inside)
    app = gradio.mount_gradio_app(
        app, page, "/", server_name=HOST, server_port=sock.getsockname()[1],
        footer_links=[], run_history=False, ssr_mode=False, pwa=False, mcp_server=False,
    )  # fmt: skip
    config = uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=PATIENCE, ws="none")
    uvicorn.Server(config).run(sockets=[sock])


async def _keep_inside(request: Any, call_next: Any) -> Any:
    response = await call_next(request)
    response.headers["Content-Security-Policy"] = POLICY
    return response
