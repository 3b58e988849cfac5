"""A condition of an audience, as experiment files say it."""

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from experiments.audience import (
    LONGEST_VALUE,
    MOST_VALUES,
    Among,
    Compared,
    Condition,
    Order,
    require_value,
)
from experiments.field import Form, HeaderText, Number, Wrong, accepted_by
from experiments.spelling import shown


def _differ(values: list[str]) -> list[str]:
    for index, value in enumerate(values):
        if value in values[:index]:
            raise Wrong(f"{shown(value)} is given twice", index)
    return values


_Value = Annotated[
    str,
    accepted_by(
        require_value,
        f"use what a header can hold, at most {LONGEST_VALUE} characters, no blanks around it",
    ),
]
_Values = Annotated[
    list[_Value], Field(min_length=1, max_length=MOST_VALUES), AfterValidator(_differ)
]


class ConditionForm(Form):
    header: HeaderText
    any_of: _Values | None = Field(default=None, alias="in")
    none_of: _Values | None = Field(default=None, alias="not in")
    above: Number | None = None
    at_least: Number | None = None
    at_most: Number | None = None
    below: Number | None = None

    @model_validator(mode="after")
    def _says_one_thing(self) -> "ConditionForm":
        if len(self._said) != 1:
            raise Wrong("must have one of in, not in, above, at_least, at_most and below")
        return self

    @property
    def declared(self) -> Condition:
        (condition,) = self._said
        return condition

    @property
    def _said(self) -> list[Condition]:
        said: list[Condition] = []
        if self.any_of is not None:
            said.append(Among(self.header, tuple(self.any_of)))
        if self.none_of is not None:
            said.append(Among(self.header, tuple(self.none_of), others=True))
        bounds = {order: getattr(self, order) for order in Order}
        said += [Compared(self.header, order, it) for order, it in bounds.items() if it is not None]
        return said
