"""Requests of the Open Inference Protocol v2, read into arrays.

Tensors are in the JSON, or in bytes behind it (`serving.hosts.binary`), each as it says. In JSON
there is no NaN and no infinity, and BYTES are text, or bytes in base64 where a tensor says so.
"""

import base64
import binascii
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import chain, pairwise
from math import prod
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import orjson

from registry import Signature
from registry.errors import InvalidInput
from registry.tensors import NUMPY_TYPES, Array
from serving.errors import MalformedRequest
from serving.hosts.binary import read_binary

BINARY_SIZE: Final = "binary_data_size"
"""Parameter of a tensor that is in bytes: how many."""

_NO_PARAMETERS: Final[Mapping[str, Any]] = MappingProxyType({})
_DIMENSIONS = 32
_ELSEWHERE = ("shared_memory_region", "classification")
"""Parameters that ask for tensors to be somewhere else, or something else, than they are."""

_ELEMENTS: Mapping[str, frozenset[type]] = {
    "b": frozenset({bool}),
    "i": frozenset({int}),
    "u": frozenset({int}),
    "f": frozenset({int, float}),
    "O": frozenset({str}),
}
"""Which JSON values each NumPy kind is made of; a bool is no number here."""


@dataclass(frozen=True, slots=True)
class InferRequest:
    """A request of the protocol's form; whether a model takes it, the model says.

    Args:
        inputs: In the order given; no array is empty.
        outputs: Names of the outputs asked for; empty for all.
        id: The client's own, to be sent back.
        parameters: Of the request; those that the model declares are the model's.
        binary: Whether outputs are wanted as bytes, of those that say so.
        all_binary: The same of all others.
    """

    inputs: Mapping[str, Array]
    outputs: tuple[str, ...] = ()
    id: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    binary: Mapping[str, bool] = field(default_factory=dict)
    all_binary: bool = False

    def wants_binary(self, output: str) -> bool:
        """Whether an output is to be sent as bytes."""
        return self.binary.get(output, self.all_binary)


def read_request(body: bytes, header_length: int | None = None) -> InferRequest:
    """Read an inference request.

    Args:
        header_length: How much of `body` is JSON; None for all of it.

    Raises:
        MalformedRequest: the JSON is none, or not of the protocol's form; or the bytes behind it
            are not what it says.
        InvalidInput: a value does not fit its datatype, or a tensor is empty.
    """
    whole = memoryview(body)
    if header_length is not None and not 0 <= header_length <= len(body):
        raise MalformedRequest(
            f"Inference-Header-Content-Length is {header_length}, the body has {len(body)} bytes"
        )
    try:
        document = orjson.loads(whole[:header_length])
    except orjson.JSONDecodeError as error:
        raise MalformedRequest(f"the body is no JSON: {error}") from None
    if not isinstance(document, dict):
        raise MalformedRequest("the body is no JSON object")
    identity = document.get("id")
    if identity is not None and not isinstance(identity, str):
        raise MalformedRequest("`id` is no string")
    tensors = _named(document, "inputs")
    if not tensors:
        raise MalformedRequest("`inputs` is missing or empty")
    outputs = _named(document, "outputs")
    parameters = _parameters(document, "the request")
    asked = {
        name: _flag(_parameters(each, "output", name), "binary_data", "output", name)
        for name, each in outputs.items()
    }
    return InferRequest(
        _inputs(tensors, None if header_length is None else whole[header_length:]),
        tuple(outputs),
        identity,
        parameters,
        {name: flag for name, flag in asked.items() if flag is not None},
        all_binary=bool(_flag(parameters, "binary_data_output", "the request")),
    )


def require_json(request: InferRequest) -> None:
    """See that all outputs are wanted in JSON, where there is no other way.

    Raises:
        MalformedRequest: some are wanted as bytes.
    """
    if request.all_binary or any(request.binary.values()):
        raise MalformedRequest("a stream of events is text: ask for its outputs in JSON")


def require_outputs(request: InferRequest, signature: Signature | None) -> None:
    """See that the model has the outputs that are asked for, if its signature says which it has.

    One of inputs alone says nothing of them: then the answer shows (`answers.write_response`).

    Raises:
        InvalidInput: it has not.
    """
    if signature is None or not signature.outputs:
        return
    known = {tensor.name for tensor in signature.outputs}
    if unknown := set(request.outputs) - known:
        raise no_such_output(min(unknown), known)


def no_such_output(name: str, known: Collection[str]) -> InvalidInput:
    """Return what a client is told that names an output which the model does not have."""
    listed = ", ".join(sorted(known)) or "none"
    return InvalidInput(f"no output is called {name!r}: the model gives {listed}")


def _named(document: Mapping[str, Any], key: str) -> dict[str, dict[str, Any]]:
    listed = document.get(key)
    if listed is None:
        listed = []
    if not isinstance(listed, list):
        raise MalformedRequest(f"`{key}` is no list")
    named: dict[str, dict[str, Any]] = {}
    for position, tensor in enumerate(listed):
        name = tensor.get("name") if isinstance(tensor, dict) else None
        if not isinstance(name, str):
            raise MalformedRequest(f"`{key}[{position}]` has no name")
        if name in named:
            raise MalformedRequest(f"`{key}` names {name!r} twice")
        named[name] = tensor
    return named


def _parameters(
    document: Mapping[str, Any], kind: str, name: str | None = None
) -> Mapping[str, Any]:
    """Return the parameters of the request, or of an input or output of this name."""
    found = document.get("parameters")
    if found is None:
        return _NO_PARAMETERS
    if not isinstance(found, dict):
        raise MalformedRequest(f"{_called(kind, name)}: `parameters` is no JSON object")
    for parameter in _ELSEWHERE:
        if found.get(parameter) is not None:
            raise MalformedRequest(f"{_called(kind, name)}: `{parameter}` is not offered here")
    return found


def _flag(
    parameters: Mapping[str, Any], parameter: str, kind: str, name: str | None = None
) -> bool | None:
    flag = parameters.get(parameter)
    if flag is not None and not isinstance(flag, bool):
        said = f"the parameter `{parameter}` is neither true nor false"
        raise MalformedRequest(f"{_called(kind, name)}: {said}")
    return flag


def _called(kind: str, name: str | None) -> str:
    return kind if name is None else f"{kind} {name!r}"


def _inputs(
    tensors: Mapping[str, Mapping[str, Any]], behind: memoryview | None
) -> dict[str, Array]:
    """Read the inputs; those that say how many bytes they have take them from `behind`."""
    inputs = {}
    for name, tensor in tensors.items():
        datatype, shape = _datatype(name, tensor), _shape(name, tensor)
        parameters = _parameters(tensor, "input", name)
        size = parameters.get(BINARY_SIZE)
        if size is None:
            as_base64 = datatype == "BYTES" and parameters.get("content_type") == "base64"
            data = _flatten(name, tensor.get("data"), shape)
            inputs[name] = _array(name, data, datatype, as_base64=as_base64).reshape(shape)
            continue
        if behind is None:
            raise MalformedRequest(
                f"input {name!r}: the header Inference-Header-Content-Length is missing"
            )
        if type(size) is not int or not 0 <= size <= len(behind):
            raise MalformedRequest(
                f"input {name!r}: `{BINARY_SIZE}` is {size}, and {len(behind)} bytes are left"
            )
        if tensor.get("data") is not None:
            raise MalformedRequest(f"input {name!r} has both `data` and `{BINARY_SIZE}`")
        inputs[name] = read_binary(name, datatype, shape, behind[:size])
        behind = behind[size:]
    if behind:
        raise MalformedRequest(f"{len(behind)} bytes behind the JSON belong to no input")
    return inputs


def _datatype(name: str, tensor: Mapping[str, Any]) -> str:
    datatype = tensor.get("datatype")
    if datatype == "BF16":
        raise MalformedRequest(
            f"input {name!r}: BF16 is a type that no MLflow model declares; send FP32"
        )
    if not isinstance(datatype, str) or datatype not in NUMPY_TYPES:
        raise MalformedRequest(
            f"input {name!r}: {datatype!r} is no datatype; there are {', '.join(NUMPY_TYPES)}"
        )
    return datatype


def _shape(name: str, tensor: Mapping[str, Any]) -> list[int]:
    shape = tensor.get("shape")
    if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
        raise MalformedRequest(f"input {name!r}: `shape` is no list of whole numbers")
    if len(shape) > _DIMENSIONS:
        raise MalformedRequest(f"input {name!r}: more than {_DIMENSIONS} dimensions")
    if 0 in shape:
        raise InvalidInput(f"input {name!r} is empty: its shape is {shape}")
    return shape


def _flatten(name: str, data: object, shape: list[int]) -> list[Any]:
    """Return the elements in row-major order; `data` is flat, or nested as `shape` says."""
    if not isinstance(data, list):
        raise MalformedRequest(f"input {name!r}: `data` is no list")
    if data and isinstance(data[0], list):
        expected = 1
        for extent, within in pairwise(shape):
            expected *= extent
            if len(data) != expected or not all(
                isinstance(row, list) and len(row) == within for row in data
            ):
                raise MalformedRequest(f"input {name!r}: `data` is not nested as shape {shape}")
            data = list(chain.from_iterable(data))
    if len(data) != prod(shape):
        raise MalformedRequest(
            f"input {name!r}: shape {shape} wants {prod(shape)} values, `data` has {len(data)}"
        )
    return data


def _array(name: str, elements: list[Any], datatype: str, *, as_base64: bool) -> Array:
    dtype = NUMPY_TYPES[datatype]
    # Without this NumPy would read "1", true and null as numbers.
    if wrong := set(map(type, elements)) - _ELEMENTS[dtype.kind]:
        found = ", ".join(sorted(kind.__name__ for kind in wrong))
        raise InvalidInput(f"input {name!r}: {datatype} cannot hold a value of type {found}")
    if as_base64:
        elements = [_decoded(name, element) for element in elements]
    try:
        with np.errstate(over="ignore"):
            array = np.array(elements, dtype=dtype)
    except OverflowError as error:
        raise InvalidInput(f"input {name!r}: {error}") from None
    if dtype.kind == "f" and not np.isfinite(array).all():
        raise InvalidInput(f"input {name!r}: a value is too large for {datatype}")
    return array


def _decoded(name: str, element: str) -> bytes:
    try:
        return base64.b64decode(element, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput(f"input {name!r}: a value is no base64") from None
