"""How much of a model's traffic can be in an experiment: not all, where it shares the units."""

from dataclasses import dataclass
from math import prod

from experiments.model import NOTHING, WHOLE, BasisPoints, Declaration
from experiments.planning.warning import rate_text


@dataclass(frozen=True, slots=True)
class Reach:
    """Shares of the units, of the whole each; who is in all of them can be in the experiment.

    Args:
        layer: That its part of the layer holds; None if it has no layer.
        held_in: That no holdout keeps from challengers.
        audience: That meet its conditions; None if it has none, or if nobody said how many do.
        is_known: Whether nothing had to be left out for want of knowledge.
    """

    layer: float | None = None
    held_in: float = 1.0
    audience: float | None = None
    is_known: bool = True

    @classmethod
    def of(
        cls,
        declaration: Declaration,
        *,
        holdout: BasisPoints = NOTHING,
        audience: float | None = None,
    ) -> "Reach":
        """Return the reach of an experiment.

        Args:
            audience: Share of the units that are in its audience, if anybody knows.
        """
        layer = declaration.layer
        return cls(
            layer=None if layer is None else layer.share / WHOLE,
            held_in=(WHOLE - holdout) / WHOLE,
            audience=None if declaration.audience is None else audience,
            is_known=declaration.audience is None or audience is not None,
        )

    @property
    def share(self) -> float:
        """The part of all units that can be in the experiment; at most that, if one is not known.

        Hashes that do not depend on one another choose layer and holdout, so shares multiply.
        """
        return prod(each for each in (self.layer, self.held_in, self.audience) if each is not None)

    @property
    def is_whole(self) -> bool:
        """Whether every unit can be in it, for all that is declared."""
        return self.is_known and self.share == 1.0

    def words(self, declaration: Declaration, rate: float, *, counted: str = "unit") -> str:
        """Say how much of so many units a second can be in the experiment, and why not all.

        Args:
            counted: What the rate is of.
        """
        parts = []
        if self.layer is not None and declaration.layer is not None:
            parts.append(
                f"{_percent(self.layer)} are its part of the layer {declaration.layer.name}"
            )
        if self.held_in < 1.0:
            parts.append(f"{_percent(self.held_in)} are not held out")
        if self.audience is not None:
            parts.append(f"{_percent(self.audience)} are its audience")
        if not self.is_known:
            parts.append("how many are its audience is not known")
        at_most = "" if self.is_known else "At most "
        whole = rate_text(rate).replace("unit", counted)
        return f"{at_most}{_percent(self.share)} of {whole} can be in it: {', '.join(parts)}."


def _percent(share: float) -> str:
    return f"{100 * share:.3g}%"
