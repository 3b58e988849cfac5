"""Tensors as NumPy arrays: their datatypes, and whether they are what a model takes.

A BYTES tensor is an array of `str` or `bytes` objects (or of NumPy's own string types).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from registry import Tensor
from registry.errors import InvalidInput

Array = NDArray[Any]

NUMPY_TYPES: Mapping[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(np.object_),
}
"""Open Inference Protocol v2 datatypes, and what an array of each is made of."""

_DATATYPES = {dtype: datatype for datatype, dtype in NUMPY_TYPES.items()}


def datatype_of(dtype: np.dtype[Any]) -> str | None:
    """Return the Open Inference Protocol datatype of an array, None if there is none.

    Examples:
        >>> datatype_of(np.dtype("float32"))
        'FP32'
    """
    if dtype.kind in "OSU":
        return "BYTES"
    # The byte order is the machine's own business.
    return _DATATYPES.get(dtype.newbyteorder("="))


def flat_columns(inputs: Mapping[str, Array], expected: Sequence[Tensor]) -> Mapping[str, Array]:
    """Return `inputs` with columns of shape [n, 1] as [n], where the model takes [-1].

    Data frames arrive as such columns from other clients of the protocol (MLServer's, say).
    """
    flat = {
        tensor.name: inputs[tensor.name].reshape(-1)
        for tensor in expected
        if tensor.shape == (-1,)
        and tensor.name in inputs
        and inputs[tensor.name].ndim == 2
        and inputs[tensor.name].shape[1] == 1
    }
    return {**inputs, **flat} if flat else inputs


def check(
    inputs: Mapping[str, Array], expected: Sequence[Tensor], *, optional: frozenset[str]
) -> None:
    """See that `inputs` are what `expected` asks for: names, datatypes, shapes, one batch size.

    Raises:
        InvalidInput: they are not; the message names the first input that is wrong.
    """
    known = {tensor.name for tensor in expected}
    if unknown := inputs.keys() - known:
        raise InvalidInput(
            f"no input is called {min(unknown)!r}: the model takes {', '.join(sorted(known))}"
        )
    batch: int | None = None
    for tensor in expected:
        array = inputs.get(tensor.name)
        if array is None:
            if tensor.name not in optional:
                raise InvalidInput(f"input {tensor.name!r} is missing")
            continue
        _check_one(tensor, array)
        if tensor.shape and tensor.shape[0] == -1:
            if batch is not None and array.shape[0] != batch:
                raise InvalidInput(
                    f"input {tensor.name!r} is a batch of {array.shape[0]}, others of {batch}"
                )
            batch = array.shape[0]


def _check_one(tensor: Tensor, array: Array) -> None:
    if datatype_of(array.dtype) != tensor.datatype:
        raise InvalidInput(
            f"input {tensor.name!r} is {datatype_of(array.dtype) or array.dtype}, "
            f"but the model takes {tensor.datatype}"
        )
    if len(array.shape) != len(tensor.shape) or any(
        expected not in (-1, found)
        for expected, found in zip(tensor.shape, array.shape, strict=True)
    ):
        raise InvalidInput(
            f"input {tensor.name!r} has the shape {list(array.shape)}, "
            f"but the model takes {list(tensor.shape)}"
        )
