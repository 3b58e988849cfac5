"""From the inputs of a reference case to a call of the engine; nothing is computed here."""

from collections.abc import Callable
from typing import Any

from tests.reference.adapters import counts, gaussian, ordered, sequential

ADAPTERS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = (
    counts.ADAPTERS | gaussian.ADAPTERS | ordered.ADAPTERS | sequential.ADAPTERS
)
