"""Domain values to JSON and back, for the store and for receipts."""

from collections.abc import Hashable
from functools import cache
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter

T = TypeVar("T")


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:  # noqa: ANN401  any annotation is a kind
    return TypeAdapter(kind)


def encode(kind: type[T], value: T) -> bytes:
    """Return `value` as JSON."""
    return _adapter(cast("Hashable", kind)).dump_json(value)


def decode(kind: type[T], body: bytes | str) -> T:
    """Return what `encode` wrote.

    Raises:
        pydantic.ValidationError: `body` is not such a value.
    """
    decoded: T = _adapter(cast("Hashable", kind)).validate_json(body)
    return decoded
