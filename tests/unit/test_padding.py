"""Payloads that would swell are refused before anything is made of them; all others are not."""

import pytest

from registry.errors import InvalidInput
from registry.padding import CELLS, TEXT_BYTES, require_compact, require_compact_csv

SENT = 1_000_000


def check(form, data, *, tensors=False):
    require_compact(form, data, SENT, tensors=tensors)


@pytest.mark.parametrize(
    ("form", "data"),
    [
        ("dataframe_split", {"columns": ["a"], "data": [[1], [2]]}),
        ("dataframe_split", {"data": [1, 2]}),
        ("dataframe_split", {"data": [[0] * 1_000] * (CELLS // 1_000)}),
        ("dataframe_records", [{"a": 1}, {"b": 2}]),
        ("dataframe_records", [{str(n): n} for n in range(2_000)]),
        ("instances", [{"a": [[1, 2], ["x"]]}, 3, None]),
        ("inputs", {"a": ["x" * 1_000] * 50_000, "b": [1] * 50_000}),
        ("inputs", ["x" * 60] + ["y"] * 500_000),
        ("inputs", 5),
    ],
)
def test_what_is_hardly_larger_in_memory_is_let_through(form, data):
    check(form, data)


@pytest.mark.parametrize(
    ("form", "data"),
    [
        ("dataframe_split", {"data": [[0] * 3_000, *[[0]] * 3_000]}),
        ("dataframe_records", [{str(n): n} for n in range(3_000)]),
        ("instances", ["x" * 100_000, *["y"] * 1_000]),
        ("instances", [{"a": "x" * 100_000}, *[{"a": "y"}] * 1_000]),
        ("inputs", {"a": [["x" * 100_000], ["y"] * 1_000]}),
    ],
)
def test_what_would_swell_is_not(form, data):
    with pytest.raises(InvalidInput):
        check(form, data)


def test_long_texts_swell_in_arrays_but_not_in_the_columns_of_a_frame():
    rows = [["x" * 100_000], *[["y"]] * 1_000]
    assert TEXT_BYTES < 100_000 * 1_001 * 4
    check("dataframe_split", {"data": rows})
    check("dataframe_records", [{"a": text} for [text] in rows])
    with pytest.raises(InvalidInput, match="too much memory"):
        check("dataframe_records", [{"a": text} for [text] in rows], tensors=True)


@pytest.mark.parametrize(
    "data", [{"index": [1], "columns": [2], "data": 3}, {"data": {"a": 1}}, {}, [], 5, None]
)
def test_a_split_frame_is_a_list_of_rows(data):
    """Pandas would spread a single value over all of an index and all columns."""
    with pytest.raises(InvalidInput, match="a list of rows"):
        check("dataframe_split", data)


@pytest.mark.parametrize("data", [{"a": 1}, [[1]], [1], None])
def test_records_are_a_list_of_objects(data):
    with pytest.raises(InvalidInput, match="a list of objects"):
        check("dataframe_records", data)


def test_a_wide_head_over_short_lines_swells():
    require_compact_csv(b"a,b,c\n" * 1_000)
    require_compact_csv(b"")
    with pytest.raises(InvalidInput, match="hardly any of them filled"):
        require_compact_csv(b"," * 3_000 + b"\n1" * 3_000)
