"""Models that are saved with their code."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeAlias

Rows: TypeAlias = Any
"""Input of a model, as it takes it: an array, a dict of arrays, a data frame."""


class Predictor(Protocol):
    """Whatever answers rows of input."""

    @property
    def predict(self) -> Callable[..., Any]:
        """What returns an answer for each row; it may take `params`."""


def python_model(base: Any, model: Any, *, takes_params: bool) -> Any:  # noqa: ANN401
    """Return `model` as an instance of `base`, mlflow's PythonModel, to be saved.

    It can be pickled without this module: a class that is made in a function travels whole.
    """

    # Without annotations: MLflow would derive a signature from them.
    class Saved(base):  # type: ignore[misc]
        def predict(self, _context, model_input, params=None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            said = {"params": params} if takes_params else {}
            return model.predict(model_input, **said)

    class Streaming(Saved):
        def predict_stream(self, _context, model_input, params=None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            said = {"params": params} if takes_params else {}
            return model.predict_stream(model_input, **said)

    return Streaming() if hasattr(model, "predict_stream") else Saved()


@contextmanager
def by_value(module: str) -> Iterator[None]:
    """Have cloudpickle take along what the imported `module` defines, instead of its name."""
    import cloudpickle  # type: ignore[import-untyped]

    if module in cloudpickle.list_registry_pickle_by_value() or module in ("__main__", "builtins"):
        yield
        return
    cloudpickle.register_pickle_by_value(sys.modules[module])
    try:
        yield
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[module])
