"""What a version answered, and the values in it that can be compared with another's."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import prod
from types import NoneType
from typing import Any

import numpy as np
import orjson

from registry.tensors import NUMPY_TYPES, Array
from serving.edge.pairline import failed

Header = tuple[bytes, bytes]
"""Name in lower case, and value."""

_WRITTEN: Mapping[str, frozenset[type]] = {
    "b": frozenset({bool}),
    "i": frozenset({int}),
    "u": frozenset({int}),
    # JSON has no NaN; some servers write null for it.
    "f": frozenset({int, float, NoneType}),
}
_FRACTIONS = frozenset({"BF16", "FP16", "FP32", "FP64"})
_JSON_LENGTH = b"inference-header-content-length"
_ENVELOPE = frozenset({"model_name", "model_version", "id"})
_SIZE = "binary_data_size"


class Incomparable(ValueError):
    """An answer that is neither of the protocol's form nor JSON."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a version answered.

    Args:
        status: `NO_ANSWER` of the pairs' log if it gave none.
    """

    status: int
    headers: Sequence[Header] = ()
    body: bytes = b""

    @property
    def failed(self) -> bool:
        """Whether a user would have needed another version's answer."""
        return failed(self.status)

    @property
    def succeeded(self) -> bool:
        return 200 <= self.status < 300

    def header(self, name: bytes) -> bytes | None:
        return next((value for known, value in self.headers if known == name), None)


@dataclass(frozen=True, slots=True)
class Values:
    """A part of an answer.

    Args:
        form: What has to be equal before values are compared: datatype and shape, or structure.
        elements: One-dimensional.
        numeric: Whether they are numbers; booleans of a tensor are.
        approximate: Which of the elements are fractions, and so need not be equal to agree.
    """

    form: str
    elements: Array
    numeric: bool
    approximate: Array


def values(answer: Answer) -> Mapping[str, Values]:
    """Return what an answer says, by name.

    Of the Open Inference Protocol these are the outputs, in JSON or binary. Any other JSON is one
    structure, with its numbers and its other scalars apart; what names the model or the request is
    left out, for that differs between two versions that agree.

    Raises:
        Incomparable: the body is neither.
    """
    try:
        size = answer.header(_JSON_LENGTH)
        split = len(answer.body) if size is None else int(size)
        document = orjson.loads(answer.body[:split])
        if isinstance(document, dict) and isinstance(document.get("outputs"), list):
            return dict(_tensors(document["outputs"], answer.body[split:]))
        return _structure(document)
    except (
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise Incomparable(str(error)) from error


def _tensors(outputs: Sequence[Any], binary: bytes) -> Iterator[tuple[str, Values]]:
    at = 0
    for output in outputs:
        name, datatype, shape = output["name"], output["datatype"], output["shape"]
        size = output.get("parameters", {}).get(_SIZE)
        if size is None:
            elements = _of_json(output["data"], datatype)
        else:
            elements = _of_bytes(binary[at : at + size], datatype)
            at += size
        if elements.size != prod(shape):
            raise Incomparable(f"output {name!r} has {elements.size} elements, and shape {shape}")
        kind = elements.dtype.kind
        yield name, Values(f"{datatype} {shape}", elements, kind != "O", np.array(kind == "f"))


def _of_json(data: list[Any], datatype: str) -> Array:
    flat = data
    while any(isinstance(each, list) for each in flat):
        flat = list(chain.from_iterable(flat))
    if datatype == "BYTES":
        return _objects([each.encode() for each in flat])
    dtype = np.dtype(np.float64) if datatype in _FRACTIONS else NUMPY_TYPES[datatype]
    if not set(map(type, flat)) <= _WRITTEN[dtype.kind]:
        raise Incomparable(f"{datatype} is written otherwise")
    return np.array(flat, dtype)


def _of_bytes(data: bytes, datatype: str) -> Array:
    if datatype == "BYTES":
        return _objects(list(_strings(data)))
    if datatype == "BF16":
        # The upper half of a float of 32 bits.
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(data, NUMPY_TYPES[datatype].newbyteorder("<"))


def _strings(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "little")
        yield data[at + 4 : at + 4 + size]
        at += 4 + size


def _objects(elements: Sequence[object]) -> Array:
    array = np.empty(len(elements), dtype=np.object_)
    array[:] = elements
    return array


def _structure(document: object) -> Mapping[str, Values]:
    if isinstance(document, dict):
        document = {name: each for name, each in document.items() if name not in _ENVELOPE}
    form: list[str] = []
    numbers: list[float] = []
    others: list[object] = []
    _walk(document, form, numbers, others)
    shape = "".join(form)
    approximate = np.array([isinstance(number, float) for number in numbers], dtype=np.bool_)
    return {
        "numbers": Values(shape, _objects(numbers), True, approximate),
        "others": Values(shape, _objects(others), False, np.array(False)),
    }


def _walk(node: object, form: list[str], numbers: list[float], others: list[object]) -> None:
    match node:
        case dict():
            form.append("{")
            for name in sorted(node):
                form.append(f"{name!r}:")
                _walk(node[name], form, numbers, others)
            form.append("}")
        case list():
            form.append("[")
            for each in node:
                _walk(each, form, numbers, others)
            form.append("]")
        case int() | float() if not isinstance(node, bool):
            form.append("n")
            numbers.append(node)
        case _:
            form.append("s")
            others.append(node)
