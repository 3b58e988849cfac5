"""A loaded model behind named tensors: what comes in checked, what goes out named."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from registry import Signature
from registry.errors import InvalidInput
from registry.mlmodel import Description, Field
from registry.pyfunc import (
    NO_PARAMETERS,
    Function,
    Parameters,
    Stream,
    pyfunc_function,
    pyfunc_stream,
)
from registry.scoring import Scorer
from registry.tensors import NUMPY_TYPES, Array, check, flat_columns

NOTHING_MORE: Final[Mapping[str, Any]] = MappingProxyType({})
"""No parameters."""

PADDED_BYTES: Final = 256 * 1024 * 1024
"""Most that the texts of an input may take in an array of NumPy's text types, where the longest
one decides how much each of them takes."""


class LoadedModel:
    """Answers `dict` of tensors with `dict` of tensors, as its signature names them.

    Args:
        description: What the model says of itself.
        function: The model's own prediction function; it is given an array, a dict of arrays
            or a data frame, whichever the description says it was saved for.
        example: The input that the model was saved with, in its own form.
        stream: What answers a single row piece by piece, if anything does.
        scorer: What takes MLflow's payloads; a model that has none is asked in tensors only.
    """

    def __init__(
        self,
        description: Description,
        function: Function,
        example: Any = None,  # noqa: ANN401  whatever the model was saved with
        *,
        stream: Stream | None = None,
        parameters: Parameters = NO_PARAMETERS,
        scorer: Scorer | None = None,
    ) -> None:
        self.signature: Signature | None = description.signature
        self.scorer = scorer
        self._function = function
        self._stream = stream
        self._parameters = parameters
        self._inputs = description.inputs
        self._outputs = tuple(f.tensor.name for f in description.outputs or ())
        self._optional = frozenset(
            f.tensor.name for f in description.inputs or () if not f.required
        )
        self.example: dict[str, Array] | None = _example(example, description.inputs)

    @property
    def streams(self) -> bool:
        """Whether there is a `predict_stream`."""
        return self._stream is not None

    def parameters(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return which of these parameters of a request are the model's.

        Raises:
            InvalidInput: one is not of the type that the model declares.
        """
        return self._parameters.among(given)

    def predict(
        self, inputs: Mapping[str, Array], parameters: Mapping[str, Any] = NOTHING_MORE
    ) -> dict[str, Array]:
        """Return the model's answer to `inputs`; rows are answered in their order.

        Args:
            inputs: One array an input. BYTES are `str` or `bytes`, times ISO 8601 text; where the
                signature says neither text nor bytes, but objects, the model is given them as they
                are. What it says is a column may be one: `[n, 1]` where it says `[-1]`.
            parameters: As `parameters` gave them.

        Raises:
            InvalidInput: names, datatypes, shapes or batch sizes are not the signature's.
            Exception: whatever the model itself raises.
        """
        native = _native(self._checked(inputs), self._inputs)
        return named(self._function(native, **_params(parameters)), self._outputs)

    def predict_stream(
        self, inputs: Mapping[str, Array], parameters: Mapping[str, Any] = NOTHING_MORE
    ) -> Iterator[dict[str, Array]]:
        """Yield the model's answer to one row, piece by piece; nothing happens before the first.

        Raises:
            InvalidInput: as `predict` does, and if there is more than one row.
            Exception: whatever the model itself raises, also after some pieces.
        """
        if self._stream is None:
            raise InvalidInput("the model has no `predict_stream`")
        checked = self._checked(inputs)
        if any(array.ndim and array.shape[0] > 1 for array in self._batches(checked)):
            raise InvalidInput("a stream answers one row, and there are more")
        for piece in self._stream(_native(checked, self._inputs), **_params(parameters)):
            yield {
                name: np.atleast_1d(array) for name, array in named(piece, self._outputs).items()
            }

    def _checked(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        if self._inputs is None or self.signature is None:
            return inputs
        inputs = flat_columns(inputs, self.signature.inputs)
        check(inputs, self.signature.inputs, optional=self._optional)
        return inputs

    def _batches(self, inputs: Mapping[str, Array]) -> Sequence[Array]:
        """Return the inputs whose first dimension counts rows."""
        if self.signature is None:
            return list(inputs.values())
        expected = (tensor for tensor in self.signature.inputs if tensor.shape[:1] == (-1,))
        return [inputs[tensor.name] for tensor in expected if tensor.name in inputs]


def loaded_pyfunc(
    description: Description,
    model: Any,  # noqa: ANN401
    server: Any,  # noqa: ANN401
    validate: Callable[[Any, Any], None],
) -> LoadedModel:
    """Return what MLflow has loaded as a model of ours.

    Args:
        model: mlflow's PyFuncModel.
        server, validate: mlflow.pyfunc.scoring_server and mlflow.models.validate_schema.
    """
    parameters = Parameters(model.metadata.get_params_schema())
    return LoadedModel(
        description,
        pyfunc_function(model),
        model.input_example,
        stream=pyfunc_stream(model),
        parameters=parameters,
        scorer=Scorer(model, server, validate, parameters),
    )


def _params(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {"params": dict(parameters)} if parameters else {}


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

        try:
            return pandas.to_datetime(array)
        except (ValueError, OverflowError) as error:
            raise InvalidInput(f"a time is not as ISO 8601 has it: {error}") from None
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
            return _padded(_each(array, _text), np.str_)
        case "S":
            return _padded(_each(array, _raw), np.bytes_)
        case _:
            return array


def _each(array: Array, change: Callable[[Any], Any]) -> Array:
    changed = np.empty(array.shape, dtype=object)
    changed.flat[:] = [change(element) for element in array.flat]
    return changed


def _padded(array: Array, kind: type[np.str_ | np.bytes_]) -> Array:
    """Return an array of NumPy's text type, in which every element is as large as the largest."""
    largest = max(map(len, array.flat), default=0)
    if array.size * largest * np.dtype((kind, 1)).itemsize > PADDED_BYTES:
        raise InvalidInput(
            f"{array.size} texts, one of them with a length of {largest}, take too much memory"
        )
    return array.astype(kind)


def _text(element: object) -> str:
    if not isinstance(element, bytes):
        return str(element)
    try:
        return element.decode()
    except UnicodeDecodeError:
        raise InvalidInput("the model takes text, and some bytes are no UTF-8") from None


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
