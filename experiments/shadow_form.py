"""The shape of a shadow in an experiment file, and what has no place beside `mode: shadow`."""

from typing import Annotated

from pydantic import BeforeValidator, Field, field_validator

from experiments.field import Form, Number, Rate, Share, Wrong
from experiments.metric import Metric, Quantile
from experiments.model import WHOLE, BasisPoints, Shadow
from experiments.quantities import write_share

NOBODY = "with mode: shadow nobody meets the challenger"


class ShadowForm(Form):
    share: Share
    pairs: int = Field(default=500, ge=1, le=10_000_000)
    agreement: Rate | None = None
    tolerance: Number = 0.01

    @field_validator("share")
    @classmethod
    def _is_something(cls, share: int) -> int:
        if not 0 < share <= WHOLE:
            at = write_share(BasisPoints(share))
            raise Wrong(f"must be above 0% and at most 100%, not {at}")
        return share

    @field_validator("agreement")
    @classmethod
    def _can_be_shown(cls, agreement: float | None) -> float | None:
        if agreement is not None and not 0.0 < agreement < 1.0:
            raise Wrong("must be above 0% and below 100%: that all agree can never be shown")
        return agreement

    @field_validator("tolerance")
    @classmethod
    def _is_no_less_than_nothing(cls, tolerance: float) -> float:
        if tolerance < 0.0:
            raise Wrong("must be at least 0")
        return tolerance

    @property
    def declared(self) -> Shadow:
        return Shadow(BasisPoints(self.share), self.pairs, self.agreement, self.tolerance)


def _in_full(value: object) -> object:
    """Read `shadow: 20%`, which says the share alone."""
    return {"share": value} if isinstance(value, str | int | float) else value


ShadowOrShare = Annotated[ShadowForm, BeforeValidator(_in_full)]


def require_pairs_tell(metric: Metric, *at: str | int) -> None:
    """Refuse a guardrail that pairs of answers cannot tell anything of."""
    if not metric.at_edge:
        raise Wrong(f"{NOBODY}, so nobody can report this: leave it out", *at, "metric")
    if isinstance(metric.kind, Quantile):
        raise Wrong("pairs of answers are compared by a limit: use above", *at, "quantile")
