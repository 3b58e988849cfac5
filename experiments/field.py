"""What fields of an experiment file are made of."""

from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any, NoReturn

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from experiments.quantities import read_duration, read_number, read_rate, read_share
from experiments.spelling import shown
from experiments.unit import require_header
from registry.errors import TiltyardError


class Wrong(ValueError):
    """A problem with a value, or with what stands at `at` inside it."""

    def __init__(self, message: str, *at: str | int) -> None:
        super().__init__(message)
        self.at = at


class Unsure(Wrong):
    """Nothing can be said of a field, for another is wrong, and that is told already."""

    def __init__(self) -> None:
        super().__init__("depends on what is wrong elsewhere")


class Said(dict[str, Any]):
    """What a form's earlier fields say; asking for one that is wrong gives up silently."""

    def __missing__(self, field: str) -> NoReturn:
        raise Unsure


class Form(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def accepted_by(check: Callable[[str], object], advice: str) -> AfterValidator:
    """Refuse text that `check` does, with `advice`."""

    def checked(text: str) -> str:
        try:
            check(text)
        except TiltyardError:
            raise Wrong(f"{shown(text)} is not allowed: {advice}") from None
        return text

    return AfterValidator(checked)


HEADING = "a header's name in lower case, and none that the edge itself sets"

HeaderText = Annotated[str, accepted_by(require_header, f"use {HEADING}")]
Number = Annotated[float, BeforeValidator(read_number)]
Rate = Annotated[float, BeforeValidator(read_rate)]
Share = Annotated[int, BeforeValidator(read_share)]
Duration = Annotated[timedelta, BeforeValidator(read_duration)]
ErrorRate = Annotated[float, Field(ge=1e-9, lt=0.5)]
VersionNumber = Annotated[int, Field(ge=1, le=999_999_999)]
