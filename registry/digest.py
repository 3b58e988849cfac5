"""One digest for a model's folder of files."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from registry.errors import UnreadableModel

BYTECODE = "__pycache__"
"""Folders that Python writes beside code as it runs: no part of a model, never loaded from."""


def digest_of(folder: Path) -> str:
    """Return `sha256:...` over the relative paths and the contents of all files in `folder`.

    Equal for equal trees of files on every machine, whatever their times, modes and order.
    Empty folders do not count (artifact stores do not keep them), nor does `__pycache__`.

    Raises:
        UnreadableModel: `folder` is no folder, is empty, or holds what cannot be read as a file.
    """
    whole = hashlib.sha256()
    try:
        for path, file in sorted((f.relative_to(folder).as_posix(), f) for f in _files(folder)):
            # A path cannot contain NUL, so no two trees give the same stream.
            whole.update(path.encode("utf-8", "surrogateescape") + b"\0")
            with file.open("rb") as opened:
                whole.update(hashlib.file_digest(opened, "sha256").digest())
    except OSError as error:
        raise UnreadableModel(f"the files in {folder} cannot be read: {error}") from error
    return f"sha256:{whole.hexdigest()}"


def _files(folder: Path) -> list[Path]:
    found = list(_walk(folder)) if folder.is_dir() else []
    if not found:
        raise UnreadableModel(f"{folder} is no folder with files in it")
    return found


def _walk(folder: Path) -> Iterator[Path]:
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            if entry.name != BYTECODE:
                yield from _walk(entry)
        elif entry.is_file():
            yield entry
        else:
            # Pipes, sockets, dangling links and links to folders are not copied alike everywhere.
            raise UnreadableModel(f"{entry} is neither a file nor a folder")
