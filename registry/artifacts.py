"""The files of a model on this machine: copied once, verified every time."""

import fcntl
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from registry.digest import BYTECODE, digest_of
from registry.errors import CorruptArtifact, UnreadableModel


def verified_copy(digest: str, workdir: Path, *, fetch: Callable[[Path], Path]) -> Path:
    """Return the folder of `workdir` that holds the files of `digest`, and nothing else.

    A copy that is there and still has the digest is used again, by every process on the machine;
    else the files are fetched.

    Args:
        fetch: Puts the files in the folder that it is given, or in one below, and returns which.

    Raises:
        CorruptArtifact: what was fetched has another digest.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    copy = workdir / digest.replace(":", "-")
    with locked(copy.with_suffix(".lock")):
        if copy.is_dir():
            _forget_bytecode(copy)
            if _digest_or_none(copy) == digest:
                return copy
            shutil.rmtree(copy)
        with tempfile.TemporaryDirectory(dir=workdir, prefix="fetching-") as temporary:
            fetched = fetch(Path(temporary) / "model")
            _forget_bytecode(fetched)
            found = _digest_or_none(fetched)
            if found != digest:
                raise CorruptArtifact(
                    "the files of the model are not those that were registered: "
                    f"their digest is {found}, but {digest} was recorded"
                )
            fetched.rename(copy)
    return copy


def copy_folder(source: Path, target: Path) -> Path:
    """Copy the files of a model to `target` and return it.

    Raises:
        CorruptArtifact: there is no folder `source`.
    """
    if not source.is_dir():
        raise CorruptArtifact(f"the files of the model are gone from {source}")
    return shutil.copytree(source, target, ignore=shutil.ignore_patterns(BYTECODE))


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file at `path`; it is free again when its holder ends, however it ends."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _digest_or_none(folder: Path) -> str | None:
    try:
        return digest_of(folder)
    except UnreadableModel:
        return None


def _forget_bytecode(folder: Path) -> None:
    # It is no part of the digest, so it must not be run: it could be anybody's.
    for bytecode in list(folder.rglob(BYTECODE)):
        shutil.rmtree(bytecode, ignore_errors=True)
