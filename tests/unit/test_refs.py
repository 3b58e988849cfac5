import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import InvalidName
from registry.refs import (
    RESERVED,
    ModelName,
    Version,
    VersionRef,
    is_model_name,
    is_users_model_name,
    model_name,
    users_model_name,
)

names = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,62}", fullmatch=True)


@given(name=names, version=st.integers(1, 999_999_999))
def test_a_reference_reads_back_as_it_was_written(name: str, version: int) -> None:
    ref = VersionRef(ModelName(name), Version(version))
    assert VersionRef.parse(str(ref)) == ref


@given(name=names)
def test_every_name_is_taken_as_it_is(name: str) -> None:
    assert model_name(name) == name
    assert is_model_name(name)


@pytest.mark.parametrize(
    "text",
    ["", "Digits", "-a", "_a", "a/b", "a b", "a.b", "é", "a\n", "x" * 64, "a|b", "٣"],
)
def test_what_would_not_travel_in_paths_and_maps_is_no_name(text: str) -> None:
    assert not is_model_name(text)
    with pytest.raises(InvalidName):
        model_name(text)


@pytest.mark.parametrize(
    "text", ["digits", "digits/", "digits/0", "digits/01", "digits/-1", "digits/1/2",
             "digits/x", "/1", "digits/1 ", "digits/1\n", "Digits/1", "digits/1234567890"],
)  # fmt: skip
def test_what_is_not_model_slash_version_is_no_reference(text: str) -> None:
    with pytest.raises(InvalidName):
        VersionRef.parse(text)


@pytest.mark.parametrize("version", [0, -1])
def test_versions_count_from_one(version: int) -> None:
    with pytest.raises(InvalidName, match="count from 1"):
        VersionRef(ModelName("digits"), Version(version))


def test_references_sort_by_model_and_then_by_number() -> None:
    refs = [VersionRef.parse(text) for text in ("b/1", "a/10", "a/9")]
    assert [str(ref) for ref in sorted(refs)] == ["a/9", "a/10", "b/1"]


def test_tiltyards_own_names_are_names_but_nobody_elses():
    name = f"{RESERVED}certify-digits"
    assert model_name(name) == name
    assert not is_users_model_name(name)
    with pytest.raises(InvalidName, match="keeps for itself"):
        users_model_name(name)


@pytest.mark.parametrize("text", ["digits", "certify-digits", "tiltyard"])
def test_all_other_names_are_free(text: str) -> None:
    assert is_users_model_name(text)
    assert users_model_name(text) == text
