"""What is asked of every comparison: is it better, is it worse, is it within its margin?"""

from experiments.methods import Aim, Comparison, Margin
from experiments.metric import Direction, Goal, Guardrail, Kind, Mean, Ratio, Score, Worse
from experiments.stats.combine import weighted_mean_log_e
from experiments.stats.stages import Side


def superior_log_e(goal: Goal, seen: Comparison) -> float:
    """Return the evidence that the goal has moved the way it was meant to."""
    better = Side.GREATER if goal.direction is Direction.INCREASE else Side.LESS
    return seen.log_e(side=better, aim=Aim.BETTER)


def harm_log_e(asked: Goal | Guardrail, seen: Comparison) -> float:
    """Return the evidence that the challenger is worse: at the goal at all, or beyond a margin."""
    if isinstance(asked, Goal):
        worse = Side.LESS if asked.direction is Direction.INCREASE else Side.GREATER
        return seen.log_e(side=worse, aim=Aim.HARM)
    log_es = [seen.log_e(side=side, margin=margin, aim=Aim.HARM) for side, margin in borders(asked)]
    if asked.max_ratio is not None and _may_be_negative(asked.metric.kind):
        # Below zero the border lies on the better side of the champion: then all harm counts.
        at_all = [seen.log_e(side=side, aim=Aim.HARM) for side, _ in borders(asked)]
        log_es = list(map(min, log_es, at_all))
    return weighted_mean_log_e(log_es, [1 / len(log_es)] * len(log_es))


def _may_be_negative(kind: Kind) -> bool:
    return isinstance(kind, Ratio) or (isinstance(kind, Mean | Score) and kind.low < 0.0)


def not_inferior_log_e(guardrail: Guardrail, seen: Comparison) -> float:
    """Evidence that the guardrail is within its margin; two margins must both be kept."""
    return min(
        seen.log_e(side=_OPPOSITE[side], margin=margin, aim=Aim.SAFE)
        for side, margin in borders(guardrail)
    )


_OPPOSITE = {Side.GREATER: Side.LESS, Side.LESS: Side.GREATER}


def borders(guardrail: Guardrail) -> list[tuple[Side, Margin]]:
    """Return where harm begins: beyond each margin, on the side given with it."""
    if guardrail.max_ratio is not None:
        above, below = Margin(ratio=guardrail.max_ratio), Margin(ratio=1 / guardrail.max_ratio)
    else:
        assert guardrail.max_difference is not None
        above = Margin(difference=guardrail.max_difference)
        below = Margin(difference=-guardrail.max_difference)
    match guardrail.worse:
        case Worse.HIGHER:
            return [(Side.GREATER, above)]
        case Worse.LOWER:
            return [(Side.LESS, below)]
        case Worse.EITHER:
            return [(Side.GREATER, above), (Side.LESS, below)]
