import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.digest import digest_of
from registry.errors import UnreadableModel


def _tree(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def test_it_is_recorded_and_never_changes_between_releases(tmp_path: Path) -> None:
    """Recorded once: a change here would make every registered artifact look corrupt."""
    folder = _tree(tmp_path, {"MLmodel": b"flavors: {}\n", "code/model.py": b"x = 1\n"})
    recorded = "7816a3a08557c064ee3a8223df049b73f9828274a0825dc249a6c5c48cf99897"
    assert digest_of(folder) == f"sha256:{recorded}"


def test_equal_trees_have_equal_digests_whatever_their_times_and_modes(tmp_path: Path) -> None:
    files = {"a": b"1", "b/c": b"2"}
    first = _tree(tmp_path / "first", files)
    second = _tree(tmp_path / "second", dict(reversed(files.items())))
    os.utime(second / "a", (1, 1))
    (second / "a").chmod(0o600)
    assert digest_of(first) == digest_of(second)


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"a": b"1", "b/c": b"3"}, id="another content"),
        pytest.param({"a": b"1", "b/d": b"2"}, id="another name"),
        pytest.param({"a": b"1", "c": b"2"}, id="another folder"),
        pytest.param({"a": b"1"}, id="a file less"),
        pytest.param({"a": b"1", "b/c": b"2", "d": b""}, id="an empty file more"),
        pytest.param({"a": b"2", "b/c": b"1"}, id="contents swapped"),
    ],
)
def test_any_change_of_files_changes_it(tmp_path: Path, changed: dict[str, bytes]) -> None:
    before = _tree(tmp_path / "before", {"a": b"1", "b/c": b"2"})
    after = _tree(tmp_path / "after", changed)
    assert digest_of(before) != digest_of(after)


_NAMES = st.text("ab.", min_size=1, max_size=3).filter(lambda name: name not in {".", ".."})
_TREES = st.dictionaries(_NAMES, st.binary(max_size=4), min_size=1, max_size=3)


@settings(deadline=None, max_examples=20)
@given(first=_TREES, second=_TREES)
def test_two_trees_have_the_same_digest_only_if_they_are_equal(
    tmp_path_factory: pytest.TempPathFactory, first: dict[str, bytes], second: dict[str, bytes]
) -> None:
    digests = [digest_of(_tree(tmp_path_factory.mktemp("t"), files)) for files in (first, second)]
    assert (digests[0] == digests[1]) == (first == second)


def test_bytecode_and_empty_folders_do_not_count(tmp_path: Path) -> None:
    bare = _tree(tmp_path / "bare", {"code/model.py": b""})
    used = _tree(tmp_path / "used", {"code/model.py": b"", "code/__pycache__/model.pyc": b"1"})
    (used / "empty").mkdir()
    assert digest_of(bare) == digest_of(used)


def test_a_link_to_a_file_counts_as_the_file(tmp_path: Path) -> None:
    plain = _tree(tmp_path / "plain", {"a": b"1"})
    linked = _tree(tmp_path / "linked", {})
    linked.mkdir()
    (linked / "a").symlink_to(plain / "a")
    assert digest_of(plain) == digest_of(linked)


@pytest.mark.parametrize("kind", ["pipe", "dangling link", "link to a folder"])
def test_what_is_neither_file_nor_folder_is_refused(tmp_path: Path, kind: str) -> None:
    folder = _tree(tmp_path / "model", {"a": b"1"})
    strange = folder / "strange"
    match kind:
        case "pipe":
            os.mkfifo(strange)
        case "dangling link":
            strange.symlink_to(tmp_path / "nowhere")
        case _:
            strange.symlink_to(tmp_path)
    with pytest.raises(UnreadableModel, match="strange"):
        digest_of(folder)


def test_a_folder_that_is_empty_or_not_there_has_none(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UnreadableModel, match="no folder with files"):
            digest_of(folder)
