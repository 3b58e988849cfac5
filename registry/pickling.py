"""Models that are saved with their code."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeAlias

Rows: TypeAlias = Any
"""Input of a model, as it takes it: an array, a dict of arrays, a data frame."""


class Predictor(Protocol):
    """Whatever answers rows of input."""

    def predict(self, inputs: Rows, /) -> Any:  # noqa: ANN401  whatever it gives
        """Return an answer for each row."""


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
