"""A loaded model behind named tensors: what comes in checked, what goes out named."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from registry import Signature
from registry.mlmodel import Description, Field
from registry.tensors import NUMPY_TYPES, Array, check


class LoadedModel:
    """Answers `dict` of tensors with `dict` of tensors, as its signature names them.

    Args:
        description: What the model says of itself.
        function: The model's own prediction function; it is given an array, a dict of arrays
            or a data frame, whichever the description says it was saved for.
        example: The input that the model was saved with, in its own form.
    """

    def __init__(
        self,
        description: Description,
        function: Callable[[Any], Any],
        example: Any = None,  # noqa: ANN401  whatever the model was saved with
    ) -> None:
        self.signature: Signature | None = description.signature
        self._function = function
        self._inputs = description.inputs
        self._outputs = tuple(f.tensor.name for f in description.outputs or ())
        self._optional = frozenset(
            f.tensor.name for f in description.inputs or () if not f.required
        )
        self.example: dict[str, Array] | None = _example(example, description.inputs)

    def predict(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return the model's answer to `inputs`; rows are answered in their order.

        Args:
            inputs: One array an input. BYTES are `str` or `bytes`, times ISO 8601 text.

        Raises:
            InvalidInput: names, datatypes, shapes or batch sizes are not the signature's.
            Exception: whatever the model itself raises.
        """
        if self._inputs is not None and self.signature is not None:
            check(inputs, self.signature.inputs, optional=self._optional)
        return named(self._function(_native(inputs, self._inputs)), self._outputs)


def pyfunc_function(model: Any) -> Callable[[Any], Any]:  # noqa: ANN401  mlflow's PyFuncModel
    """Return a model's prediction function, without MLflow's own check of the schema if possible.

    That check repeats ours, and costs near 1 ms a call for a data frame of eight columns. It is
    kept where it does more: parameters with defaults, and inputs made from type hints.
    """
    said = model.metadata.to_dict()
    signature = model.metadata.signature
    if signature is None or signature.params is not None or said.get("is_signature_from_type_hint"):
        return model.predict  # type: ignore[no-any-return]
    name = said["flavors"]["python_function"].get("predict_fn", "predict")
    function: Callable[..., Any] = getattr(model._model_impl, name)
    takes_params = "params" in inspect.signature(function).parameters
    return partial(function, params=None) if takes_params else function


def _native(inputs: Mapping[str, Array], fields: Sequence[Field] | None) -> Any:  # noqa: ANN401
    """Put tensors in the form that the model was saved for."""
    if fields is None:
        return next(iter(inputs.values())) if len(inputs) == 1 else dict(inputs)
    given = [
        (field, _elements(inputs[field.tensor.name], field.kind))
        for field in fields
        if field.tensor.name in inputs
    ]
    if any(field.column for field in fields):
        return _table(given)
    if len(fields) == 1 and fields[0].name is None:
        return given[0][1]
    return {field.name: array for field, array in given}


def _table(given: Sequence[tuple[Field, Array]]) -> Any:  # noqa: ANN401  a pandas.DataFrame
    import pandas

    columns = {
        place if field.name is None else field.name: _column(array, field.kind)
        for place, (field, array) in enumerate(given)
    }
    return pandas.DataFrame(columns)


def _column(array: Array, kind: str) -> Any:  # noqa: ANN401  what a data frame takes as a column
    if kind == "datetime" and array.ndim == 1:
        import pandas

        return pandas.to_datetime(array)
    return array if array.ndim == 1 else list(array)


def _elements(array: Array, kind: str) -> Array:
    """Turn BYTES into what the model was saved for: text, bytes, or either."""
    if array.dtype.kind not in "OSU":
        return array
    if kind in ("string", "datetime"):
        return _each(array, _text)
    if kind == "binary":
        return _each(array, _raw)
    match np.dtype(kind).kind:
        case "U":
            return _each(array, _text).astype(np.str_)
        case "S":
            return _each(array, _raw).astype(np.bytes_)
        case _:
            return array


def _each(array: Array, change: Callable[[Any], Any]) -> Array:
    changed = np.empty(array.shape, dtype=object)
    changed.flat[:] = [change(element) for element in array.flat]
    return changed


def _text(element: object) -> str:
    return element.decode() if isinstance(element, bytes) else str(element)


def _raw(element: object) -> bytes:
    return element if isinstance(element, bytes) else str(element).encode()


def named(result: Any, names: Sequence[str]) -> dict[str, Array]:  # noqa: ANN401
    """Return what a model gave as named arrays.

    Parts that have names keep them; the others take `names` in order, then `output-N`.

    Examples:
        >>> named([0.5, 1.5], names=[])
        {'output-0': array([0.5, 1.5])}
    """
    if isinstance(result, np.ndarray):
        return {names[0] if names else "output-0": result}
    if isinstance(result, Mapping):
        return {str(name): _array(part) for name, part in result.items()}
    if hasattr(result, "columns") and hasattr(result, "to_numpy"):
        return _frame(result, names)
    if isinstance(result, list) and result and isinstance(result[0], Mapping):
        return {str(name): _array([row[name] for row in result]) for name in result[0]}
    if isinstance(result, tuple):
        return {
            names[place] if place < len(names) else f"output-{place}": _array(part)
            for place, part in enumerate(result)
        }
    return {names[0] if names else "output-0": _array(result)}


def _frame(frame: Any, names: Sequence[str]) -> dict[str, Array]:  # noqa: ANN401  pandas.DataFrame
    columns = [str(column) for column in frame.columns]
    if set(columns) != set(names):
        if len(names) == 1:
            return {names[0]: _array(frame.to_numpy())}
        if len(columns) == len(names):
            columns = list(names)
    return {name: _array(frame.iloc[:, place].to_numpy()) for place, name in enumerate(columns)}


def _array(part: Any) -> Array:  # noqa: ANN401  anything that NumPy can read
    if hasattr(part, "toarray"):
        part = part.toarray()
    elif hasattr(part, "to_numpy"):
        part = part.to_numpy()
    array = np.asarray(part)
    # No tensor holds times: they travel as ISO 8601 text.
    return np.datetime_as_string(array).astype(object) if array.dtype.kind == "M" else array


def _example(example: Any, fields: Sequence[Field] | None) -> dict[str, Array] | None:  # noqa: ANN401
    """Return a saved input example as tensors; None if there is none, or it cannot be one."""
    if example is None:
        return None
    if fields is None:
        return named(example, ["input-0"])
    public = {
        str(place if field.name is None else field.name): field.tensor
        for place, field in enumerate(fields)
    }
    parts = named(example, [next(iter(public))] if len(public) == 1 else [])
    try:
        return {
            public[name].name: np.atleast_1d(array).astype(
                NUMPY_TYPES[public[name].datatype], copy=False
            )
            for name, array in parts.items()
        }
    except (KeyError, TypeError, ValueError):
        return None
