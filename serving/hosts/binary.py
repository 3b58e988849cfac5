"""Tensors as bytes: the binary tensor data extension of the Open Inference Protocol.

Numbers are little-endian, a BOOL is a byte, and each element of BYTES comes after its length, in
four bytes. So a tensor may hold what JSON cannot: NaN, infinity, and text that is no UTF-8.
"""

from collections.abc import Iterator
from math import prod
from struct import Struct, error

import numpy as np

from registry.errors import InvalidInput
from registry.tensors import NUMPY_TYPES, Array
from serving.errors import InvalidOutput, MalformedRequest

_LENGTH = Struct("<I")


def read_binary(name: str, datatype: str, shape: list[int], data: memoryview) -> Array:
    """Return the tensor that `data` is, as an array of its own.

    Args:
        shape: Extents, none of them negative.

    Raises:
        MalformedRequest: `data` is not as long as the shape says.
        InvalidInput: a BOOL is neither 0 nor 1.
    """
    dtype = NUMPY_TYPES[datatype]
    if datatype == "BYTES":
        return _read_elements(name, prod(shape), data).reshape(shape)
    expected = prod(shape) * dtype.itemsize
    if len(data) != expected:
        raise MalformedRequest(
            f"input {name!r}: {datatype} of shape {shape} has {expected} bytes, not {len(data)}"
        )
    if dtype.kind == "b" and (np.frombuffer(data, np.uint8) > 1).any():
        raise InvalidInput(f"input {name!r}: a BOOL is a byte of 0 or 1")
    # A copy: aligned, and a model may write into it.
    return np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype).reshape(shape)


def _read_elements(name: str, count: int, data: memoryview) -> Array:
    # Before anything is made for them: each has at least its length.
    if count * _LENGTH.size > len(data):
        raise MalformedRequest(
            f"input {name!r}: {count} elements do not fit into {len(data)} bytes"
        )
    elements = np.empty(count, dtype=object)
    at = 0
    for place in range(count):
        try:
            (length,) = _LENGTH.unpack_from(data, at)
        except error:
            raise MalformedRequest(f"input {name!r}: element {place} has no length") from None
        at += _LENGTH.size + length
        if at > len(data):
            raise MalformedRequest(f"input {name!r}: element {place} ends beyond the tensor")
        elements[place] = bytes(data[at - length : at])
    if at != len(data):
        raise MalformedRequest(
            f"input {name!r}: {len(data) - at} bytes are left over after {count} elements"
        )
    return elements


def write_binary(name: str, array: Array) -> bytes:
    """Return the bytes of an output, whatever its layout in memory.

    Raises:
        InvalidOutput: an element is neither text nor bytes.
    """
    if array.dtype.kind in "OSU":
        return b"".join(_written_elements(name, array))
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()


def _written_elements(name: str, array: Array) -> Iterator[bytes]:
    for element in array.reshape(-1).tolist():
        match element:
            case str():
                raw = _encoded(name, element)
            case bytes():
                raw = element
            case _:
                raise InvalidOutput(f"output {name!r} has a value of type {type(element).__name__}")
        yield _LENGTH.pack(len(raw))
        yield raw


def _encoded(name: str, element: str) -> bytes:
    try:
        return element.encode()
    except UnicodeEncodeError:
        raise InvalidOutput(f"output {name!r} has text that is no Unicode") from None
