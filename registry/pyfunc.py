"""MLflow's loaded models as Tiltyard calls them: the function, the stream, the parameters.

MLflow's own objects come in as arguments; nothing of MLflow is imported here.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final, TypeAlias

from registry.errors import InvalidInput

Function: TypeAlias = Callable[..., Any]
"""Takes the input in the model's own form and, where there are some, `params`."""

Stream: TypeAlias = Callable[..., Iterator[Any]]
"""Takes the same, for a single row, and gives the answer piece by piece."""


def pyfunc_function(model: Any) -> Function:  # noqa: ANN401  mlflow's PyFuncModel
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


def pyfunc_stream(model: Any) -> Stream | None:  # noqa: ANN401  mlflow's PyFuncModel
    """Return what answers piece by piece; None if the model has no `predict_stream`.

    It is MLflow's own, which gives the model a single row in the form that MLflow documents: a
    dict by column, or a list.
    """
    flavor = model.metadata.to_dict()["flavors"]["python_function"]
    return model.predict_stream if flavor.get("streamable") else None


class Parameters:
    """What a model takes beside its inputs, as its signature declares it.

    Args:
        schema: mlflow's ParamSchema; None if the model takes no parameters.
    """

    def __init__(self, schema: Any = None) -> None:  # noqa: ANN401
        self._specs = {spec.name: spec for spec in schema.params} if schema is not None else {}

    def among(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return those of `given` that the model takes, of the type that it declares.

        What it does not take is left out, as MLflow does: a request may carry parameters for
        the protocol, or for others on the way.

        Raises:
            InvalidInput: a value is not of the declared type.
        """
        taken = {}
        for name, value in given.items():
            spec = self._specs.get(name)
            if spec is None or value is None:
                continue
            try:
                taken[name] = spec.validate_param_spec(value, spec)
            except Exception as error:
                # Any: MLflow's own, and what NumPy says to a value that MLflow did not expect.
                raise InvalidInput(
                    f"parameter {name!r} is {value!r}, but the model takes {spec!r}"
                ) from error
        return taken


NO_PARAMETERS: Final = Parameters()
