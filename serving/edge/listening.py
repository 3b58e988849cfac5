"""Sockets in an edge's folder."""

import os
import socket
from pathlib import Path

from serving.errors import UnusableEdgeFolder


def listen(path: Path) -> socket.socket:
    """Return a socket that listens at `path` and that only this user may speak to.

    Raises:
        UnusableEdgeFolder: no socket can be made there.
    """
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        mask = os.umask(0o177)
        try:
            listening.bind(str(path))
        finally:
            os.umask(mask)
        listening.listen()
    except OSError as error:
        listening.close()
        raise UnusableEdgeFolder(f"no socket can be made at {path}: {error}") from error
    return listening
