"""Payloads that are small on the wire and huge in memory, recognised before they are read.

Tables are padded to their widest row and to every column that any row names, and arrays of text to
their longest. A few megabytes of JSON can so ask for terabytes.
"""

from collections.abc import Iterator
from typing import Any, Final

from registry.errors import InvalidInput

CELLS: Final = 1 << 22
"""A table may have so many cells however few bytes it was sent in; some are sparse."""

TEXT_BYTES: Final = 256 * 1024 * 1024
"""What the texts of a payload may take together if each takes as much as the longest."""

_LONG = 64
"""Characters up to which padding is no danger: a payload is not that much larger in memory."""

_CHARACTER_BYTES = 4


def require_compact(
    form: str,
    data: Any,  # noqa: ANN401  any JSON
    sent_bytes: int,
    *,
    tensors: bool,
) -> None:
    """See that a payload in JSON does not swell.

    Args:
        form: One of the keys of MLflow's scoring protocol.
        sent_bytes: Length of the payload as it came.
        tensors: Whether tables become arrays as well.

    Raises:
        InvalidInput: it would, or it is no table where it has to be one.
    """
    match form:
        case "dataframe_split":
            rows = data.get("data") if isinstance(data, dict) else None
            if not isinstance(rows, list):
                raise InvalidInput("`dataframe_split` needs `data`, a list of rows")
            _require_table(rows, sent_bytes)
        case "dataframe_records":
            if not isinstance(data, list) or not all(isinstance(row, dict) for row in data):
                raise InvalidInput("`dataframe_records` is a list of objects, one for a row")
            _require_table(data, sent_bytes)
    if tensors or not form.startswith("dataframe"):
        for column in _columns(data):
            _require_texts(column)


def require_compact_csv(body: bytes) -> None:
    """See that a payload in CSV does not swell: its first line says how wide the table is.

    Raises:
        InvalidInput: it would.
    """
    columns = body.partition(b"\n")[0].count(b",") + 1
    _require_cells(body.count(b"\n") + 1, columns, len(body))


def _require_table(rows: list[Any], sent_bytes: int) -> None:
    widest = max((len(row) for row in rows if isinstance(row, list)), default=0)
    named: set[str] = set()
    for row in rows:
        if isinstance(row, dict):
            named.update(row)
    _require_cells(len(rows), max(widest, len(named)), sent_bytes)


def _require_cells(rows: int, columns: int, sent_bytes: int) -> None:
    # A cell of a full table takes a byte at least.
    if rows * columns > max(CELLS, sent_bytes):
        raise InvalidInput(f"{rows} rows of {columns} columns, hardly any of them filled")


def _columns(data: Any) -> Iterator[Any]:  # noqa: ANN401  any JSON
    """Yield the parts that become an array each."""
    if isinstance(data, dict):
        yield from data.values()
    elif isinstance(data, list) and data and isinstance(data[0], dict):
        columns: dict[str, list[Any]] = {}
        for row in data:
            for name, value in row.items() if isinstance(row, dict) else ():
                columns.setdefault(name, []).append(value)
        yield from columns.values()
    else:
        yield data


def _require_texts(data: Any) -> None:  # noqa: ANN401  any JSON
    count = longest = 0
    for leaf in _leaves(data):
        count += 1
        if isinstance(leaf, str) and len(leaf) > longest:
            longest = len(leaf)
    if longest > _LONG and count * longest * _CHARACTER_BYTES > TEXT_BYTES:
        raise InvalidInput(
            f"{count} values, one of them with a length of {longest}, take too much memory"
        )


def _leaves(data: Any) -> Iterator[Any]:  # noqa: ANN401  any JSON
    waiting = [data]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)
        else:
            yield part
