"""Answers of the Open Inference Protocol v2, as bytes: predictions, metadata, problems.

An output is sent in JSON, or in bytes behind it, as the request wants it. JSON has no NaN and no
infinity: where it is wanted, a model that gives one has given no answer (`InvalidOutput`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import numpy as np
import orjson

from registry import Signature, Tensor
from registry.errors import InvalidInput, TiltyardError
from registry.refs import VersionRef
from registry.tensors import NUMPY_TYPES, Array, datatype_of
from serving.errors import InvalidOutput
from serving.hosts.binary import write_binary
from serving.hosts.protocol import BINARY_SIZE, InferRequest, no_such_output
from serving.problem import problem_document


@dataclass(frozen=True, slots=True)
class Body:
    """The body of an answer.

    Args:
        header_length: How much of it is JSON, if bytes of tensors follow.
    """

    content: bytes
    header_length: int | None = None


def write_response(
    ref: VersionRef,
    request: InferRequest,
    outputs: Mapping[str, Array],
    signature: Signature | None,
    *,
    piece: bool = False,
) -> Body:
    """Return the body of the answer to `request`.

    Args:
        piece: It is one of several that come after one another, and has the outputs that it has:
            signatures are about whole answers.

    Raises:
        InvalidOutput: a declared output is missing, or one is of another type than declared, or
            is wanted in JSON and not finite.
        InvalidInput: it is not finite, and neither are the inputs; or an output was asked for
            that is neither declared nor given.
    """
    declared = {t.name: t for t in signature.outputs} if signature else {}
    names = request.outputs or (() if piece else tuple(declared)) or tuple(outputs)
    if missing := set(names) - set(outputs):
        if unknown := missing - set(declared):
            # Nobody promised it, so whoever asked for it is wrong, and not the model.
            raise no_such_output(min(unknown), outputs)
        raise InvalidOutput(f"the model gave no output {min(missing)!r}")
    written = []
    behind: list[bytes] = []
    for name in names:
        array, datatype = _typed(name, outputs[name], declared.get(name))
        if request.wants_binary(name):
            behind.append(write_binary(name, array))
            written.append(
                _tensor(name, array, datatype, parameters={BINARY_SIZE: len(behind[-1])})
            )
        else:
            _require_finite(name, array, request.inputs)
            written.append(_tensor(name, array, datatype, data=_json_data(name, array)))
    document: dict[str, Any] = {
        "model_name": ref.model,
        "model_version": str(ref.version),
        "outputs": written,
    }
    if request.id is not None:
        document["id"] = request.id
    try:
        header = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError as error:
        raise InvalidOutput(f"no JSON can hold the outputs: {error}") from None
    return Body(b"".join([header, *behind]), len(header)) if behind else Body(header)


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
        tensors = []
        for name, array in example.items():
            typed, datatype = _typed(name, array, None)
            _require_finite(name, typed, {})
            tensors.append(_tensor(name, typed, datatype, data=_json_data(name, typed)))
        return orjson.dumps({"inputs": tensors}, option=orjson.OPT_SERIALIZE_NUMPY)
    except InvalidOutput:
        return None


def write_problem(error: TiltyardError, status: HTTPStatus, **more: object) -> bytes:
    """Return `error` as a problem document (RFC 9457) with its stable code.

    It has the protocol's own member `error` as well, which clients of the protocol print.
    """
    more = {"error": error.message} | more
    return orjson.dumps(problem_document(status, error.code, error.message, error.hint, **more))


def _describe(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}


def _typed(name: str, array: Array, declared: Tensor | None) -> tuple[Array, str]:
    """Return an output as its signature declares it, and its datatype."""
    datatype = datatype_of(array.dtype)
    if declared is not None and datatype != declared.datatype:
        array, datatype = _cast(name, array, declared.datatype), declared.datatype
    if datatype is None:
        raise InvalidOutput(f"output {name!r} is {array.dtype}, which no tensor can hold")
    return array, datatype


def _require_finite(name: str, array: Array, inputs: Mapping[str, Array]) -> None:
    """See that JSON can hold an output; if it cannot, say whose fault that is."""
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return
    said = f"output {name!r} has a value that is NaN or infinite"
    if all(each.dtype.kind != "f" or np.isfinite(each).all() for each in inputs.values()):
        raise InvalidOutput(said)
    raise InvalidInput(f"{said}, as the inputs have; ask for it as binary data")


def _tensor(name: str, array: Array, datatype: str, **content: object) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": list(array.shape), **content}


def _json_data(name: str, array: Array) -> Any:  # noqa: ANN401  what orjson takes as a list
    data: Any = np.ascontiguousarray(array).reshape(-1)
    if array.dtype.kind in "OSU":
        return [_text(name, element) for element in data.tolist()]
    return data if array.dtype.isnative else data.astype(array.dtype.newbyteorder("="))


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
