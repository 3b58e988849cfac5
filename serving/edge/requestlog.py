"""The request log as a file: HAProxy appends to it, the collector reads it and frees what is done.

What has been counted is punched out of the file, so that positions never change while the disk
holds only what is not counted yet.
"""

import ctypes
import errno
import logging
import os
import uuid
from pathlib import Path
from threading import Lock
from typing import Self

from serving.edge.mapfile import make_durable, replace_file

BLOCK = 4096

_KEEP_SIZE = 1
_PUNCH_HOLE = 2
_CANNOT = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM, errno.EINVAL)

_log = logging.getLogger(__name__)


class RequestLog:
    """One request log, from its creation until it is replaced or cut off.

    Attributes:
        source: Names this very file among all that the edge has ever written.
        can_punch: Whether the file system gives disk space back.
    """

    def __init__(self, path: Path, descriptor: int, source: str) -> None:
        self._path = path
        self._descriptor = descriptor
        self._freed = 0
        # A closed descriptor's number may name another file: never close it under a punch.
        self._punching = Lock()
        self.source = source
        self.can_punch = True

    @classmethod
    def open(cls, path: Path, edge: str) -> Self | None:
        """Open the log of `edge`, or return None if there is none yet."""
        try:
            # Read and write, for only a writer may punch holes.
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        return cls(path, descriptor, f"{edge}:{_identity(path, descriptor)}")

    def renew(self, edge: str) -> None:
        """Take the file for a new one: it was cut off, and positions in it mean nothing now."""
        _side_file(self._path).unlink(missing_ok=True)
        self.source = f"{edge}:{_identity(self._path, self._descriptor)}"
        self._freed = 0

    def close(self) -> None:
        with self._punching:
            os.close(self._descriptor)
            self.can_punch = False

    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def disk_bytes(self) -> int:
        """What the file takes on the disk; holes take nothing."""
        return os.fstat(self._descriptor).st_blocks * 512

    def is_replaced(self) -> bool:
        """Whether another file has the log's name now."""
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return False
        return not os.path.samestat(there, os.fstat(self._descriptor))

    def read(self, position: int, size: int) -> bytes:
        """Return up to `size` bytes from `position`; holes read as zero bytes."""
        return os.pread(self._descriptor, size, position)

    def next_data(self, position: int) -> int:
        """Return where the first byte is, from `position` on, that is not known to be a hole.

        The end of the file if nothing follows. It is not moved past data, ever; zero bytes may
        still follow where the file system cannot tell.
        """
        size = self.size()  # before the search: what is appended meanwhile is no hole
        try:
            return os.lseek(self._descriptor, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return max(position, size)
            return position

    def free(self, end: int, *, at_least: int = BLOCK) -> None:
        """Give back the disk space of everything before `end`, unless it is too little to bother.

        It may wait for the disk.
        """
        end = end // BLOCK * BLOCK
        if end - self._freed >= at_least and self._punch(self._freed, end):
            self._freed = end

    def drop(self, start: int, end: int) -> None:
        """Give back the disk space of whole blocks in [start, end), counted or not."""
        start, end = -(-start // BLOCK) * BLOCK, end // BLOCK * BLOCK
        if end > start:
            self._punch(start, end)

    def _punch(self, start: int, end: int) -> bool:
        with self._punching:
            if not self.can_punch:
                return False
            failed = _fallocate(self._descriptor, start, end - start)
        if failed in _CANNOT:
            self.can_punch = False
            _log.warning(
                "%s grows without bound: its file system cannot free parts of a file (%s)",
                self._path,
                os.strerror(failed),
            )
        elif failed:
            raise OSError(failed, os.strerror(failed), str(self._path))
        return not failed


def _identity(path: Path, descriptor: int) -> str:
    """Return inode and creation id, kept in a side file: inode numbers are used again."""
    inode = os.fstat(descriptor).st_ino
    side = _side_file(path)
    try:
        known = side.read_text().strip()
    except FileNotFoundError:
        known = ""
    if known.partition(":")[0] == str(inode):
        return known
    fresh = f"{inode}:{uuid.uuid4().hex}"
    replace_file(side, f"{fresh}\n".encode())
    make_durable(side)
    return fresh


def _side_file(path: Path) -> Path:
    return path.with_name(path.name + ".id")


def _fallocate(descriptor: int, start: int, length: int) -> int:
    """Punch a hole and return the error number, 0 if it went well."""
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.fallocate64(
        descriptor,
        _PUNCH_HOLE | _KEEP_SIZE,
        ctypes.c_int64(start),
        ctypes.c_int64(length),
    )
    return 0 if done == 0 else ctypes.get_errno()
