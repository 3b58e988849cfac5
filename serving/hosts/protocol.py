"""Open Inference Protocol v2 in JSON, to arrays and back. Pure: bytes in, values out.

JSON has no NaN and no infinity: a request cannot carry them, and a model that gives one has
given no answer (`InvalidOutput`). BYTES are text, for that is all that a JSON string holds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from itertools import chain, pairwise
from math import prod
from typing import Any

import numpy as np
import orjson

from registry import Signature, Tensor
from registry.errors import InvalidInput, TiltyardError
from registry.refs import VersionRef
from registry.tensors import NUMPY_TYPES, Array, datatype_of
from serving.errors import InvalidOutput, MalformedRequest
from serving.problem import problem_document

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
    """

    inputs: Mapping[str, Array]
    outputs: tuple[str, ...] = ()
    id: str | None = None


def read_request(body: bytes) -> InferRequest:
    """Read an inference request.

    Raises:
        MalformedRequest: `body` is no JSON, or not of the protocol's form.
        InvalidInput: a value does not fit its datatype, or a tensor is empty.
    """
    try:
        document = orjson.loads(body)
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
    inputs = {name: _read_tensor(name, tensor) for name, tensor in tensors.items()}
    return InferRequest(inputs, tuple(_named(document, "outputs")), identity)


def require_outputs(request: InferRequest, signature: Signature | None) -> None:
    """See that the model has the outputs that are asked for.

    Raises:
        InvalidInput: it has not.
    """
    if signature is None:
        return
    known = {tensor.name for tensor in signature.outputs}
    if unknown := set(request.outputs) - known:
        raise InvalidInput(
            f"no output is called {min(unknown)!r}: the model gives {', '.join(sorted(known))}"
        )


def write_response(
    ref: VersionRef,
    request: InferRequest,
    outputs: Mapping[str, Array],
    signature: Signature | None,
) -> bytes:
    """Return the body of the answer to `request`.

    Raises:
        InvalidOutput: an output is missing, of another type than declared, or not finite.
    """
    declared = {t.name: t for t in signature.outputs} if signature else {}
    names = request.outputs or tuple(declared) or tuple(outputs)
    if missing := set(names) - set(outputs):
        raise InvalidOutput(f"the model gave no output {min(missing)!r}")
    document = {
        "model_name": ref.model,
        "model_version": str(ref.version),
        "outputs": [_write_tensor(name, outputs[name], declared.get(name)) for name in names],
    }
    if request.id is not None:
        document["id"] = request.id
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def write_metadata(ref: VersionRef, signature: Signature | None) -> bytes:
    """Return the version's metadata as the protocol defines it."""
    return orjson.dumps(
        {
            "name": ref.model,
            "versions": [str(ref.version)],
            "platform": "mlflow_pyfunc",
            "inputs": [_describe(t) for t in signature.inputs] if signature else [],
            "outputs": [_describe(t) for t in signature.outputs] if signature else [],
        }
    )


def write_example(example: Mapping[str, Array] | None) -> bytes | None:
    """Return the request that asks what a model was saved with; None if no JSON can say it."""
    if not example:
        return None
    try:
        tensors = [_write_tensor(name, array, None) for name, array in example.items()]
        return orjson.dumps({"inputs": tensors}, option=orjson.OPT_SERIALIZE_NUMPY)
    except InvalidOutput:
        return None


def write_problem(error: TiltyardError, status: HTTPStatus) -> bytes:
    """Return `error` as a problem document (RFC 9457) with its stable code."""
    return orjson.dumps(problem_document(status, error.code, error.message, error.hint))


def _describe(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}


def _named(document: Mapping[str, Any], field: str) -> dict[str, dict[str, Any]]:
    listed = document.get(field, [])
    if not isinstance(listed, list):
        raise MalformedRequest(f"`{field}` is no list")
    named: dict[str, dict[str, Any]] = {}
    for position, tensor in enumerate(listed):
        name = tensor.get("name") if isinstance(tensor, dict) else None
        if not isinstance(name, str):
            raise MalformedRequest(f"`{field}[{position}]` has no name")
        if name in named:
            raise MalformedRequest(f"`{field}` names {name!r} twice")
        named[name] = tensor
    return named


def _read_tensor(name: str, tensor: Mapping[str, Any]) -> Array:
    datatype = tensor.get("datatype")
    if not isinstance(datatype, str) or datatype not in NUMPY_TYPES:
        raise MalformedRequest(
            f"input {name!r}: {datatype!r} is no datatype; there are {', '.join(NUMPY_TYPES)}"
        )
    shape = tensor.get("shape")
    if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
        raise MalformedRequest(f"input {name!r}: `shape` is no list of whole numbers")
    data = tensor.get("data")
    if not isinstance(data, list):
        raise MalformedRequest(f"input {name!r}: `data` is no list")
    if 0 in shape:
        raise InvalidInput(f"input {name!r} is empty: its shape is {shape}")
    elements = _flatten(name, data, shape)
    return _array(name, elements, datatype).reshape(shape)


def _flatten(name: str, data: list[Any], shape: list[int]) -> list[Any]:
    """Return the elements in row-major order; `data` is flat, or nested as `shape` says."""
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


def _array(name: str, elements: list[Any], datatype: str) -> Array:
    dtype = NUMPY_TYPES[datatype]
    # Without this NumPy would read "1", true and null as numbers.
    if wrong := set(map(type, elements)) - _ELEMENTS[dtype.kind]:
        found = ", ".join(sorted(kind.__name__ for kind in wrong))
        raise InvalidInput(f"input {name!r}: {datatype} cannot hold a value of type {found}")
    try:
        with np.errstate(over="ignore"):
            array = np.array(elements, dtype=dtype)
    except OverflowError as error:
        raise InvalidInput(f"input {name!r}: {error}") from None
    if dtype.kind == "f" and not np.isfinite(array).all():
        raise InvalidInput(f"input {name!r}: a value is too large for {datatype}")
    return array


def _write_tensor(name: str, array: Array, declared: Tensor | None) -> dict[str, Any]:
    datatype = datatype_of(array.dtype)
    if declared is not None and datatype != declared.datatype:
        array, datatype = _cast(name, array, declared.datatype), declared.datatype
    if datatype is None:
        raise InvalidOutput(f"output {name!r} is {array.dtype}, which no tensor can hold")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InvalidOutput(f"output {name!r} has a value that is NaN or infinite")
    data: Any = np.ascontiguousarray(array).reshape(-1)
    if datatype == "BYTES":
        data = [_text(name, element) for element in data.tolist()]
    elif not array.dtype.isnative:
        data = data.astype(array.dtype.newbyteorder("="))
    return {"name": name, "datatype": datatype, "shape": list(array.shape), "data": data}


def _cast(name: str, array: Array, datatype: str) -> Array:
    """Give an output the type that its signature declares, if that loses no meaning."""
    dtype = NUMPY_TYPES[datatype]
    if array.dtype.kind == "O" or not np.can_cast(array.dtype, dtype, "same_kind"):
        raise InvalidOutput(f"output {name!r} is {array.dtype}, the signature says {datatype}")
    with np.errstate(over="ignore"):
        cast = array.astype(dtype)
    if dtype.kind in "iu" and not np.array_equal(cast, array):
        raise InvalidOutput(f"output {name!r} has a value that is too large for {datatype}")
    return cast


def _text(name: str, element: object) -> str:
    if isinstance(element, str):
        return element
    if isinstance(element, bytes):
        try:
            return element.decode()
        except UnicodeDecodeError:
            raise InvalidOutput(f"output {name!r} has bytes that are not UTF-8") from None
    raise InvalidOutput(f"output {name!r} has a value of type {type(element).__name__}")
