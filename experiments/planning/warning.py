"""The warning for an experiment that its traffic, or its horizon, cannot decide."""

from experiments.model import Declaration
from experiments.planning.goal import GoalCourse
from experiments.planning.shadow import seconds_in_shadow
from experiments.stats.planning import Course

LIKELY = 0.5
"""A verdict less probable than this is warned of."""


def warning_of(course: GoalCourse, open_ended: Course, bounded: Course) -> str | None:
    """Say that a verdict is not likely, and what would have to change; None if it is likely."""
    declaration, ramp = course.declaration, course.ramp
    horizon = declaration.horizon
    curve = open_ended if horizon is None else bounded
    if horizon is not None and (power := float(curve.decided[-1])) < LIKELY:
        least = course.need(0.8, course.bounded(0.8)[1]).compared
        return (
            f"The horizon of {horizon.units:,} units reaches a verdict with {power:.0%} probability"
            f" if {declaration.sought.metric.key} changes by min_effect; for 80% declare {least:,}."
        )
    need = course.need(LIKELY, curve.sample_for(LIKELY))
    longest = declaration.limits.max_runtime.total_seconds()
    if ramp.rate is None:
        return None
    before = seconds_in_shadow(declaration, ramp.rate)
    if need.seconds is not None and before + need.seconds <= longest:
        return None
    first = (
        f"with 50% probability after {span(before + need.seconds)}"
        if need.seconds is not None
        else "with less than 50% probability, however long it runs"
    )
    return (
        f"At {rate_text(ramp.rate)} this experiment reaches a verdict {first}; "
        f"it ends after {span(longest)}. Send it more traffic, look for a larger effect, or let it "
        "run longer: `tiltyard plan` shows what each needs."
    )


def shadow_warning(declaration: Declaration, rate: float) -> str | None:
    """Say that so much traffic will not even give enough pairs in time; None if it will."""
    least, longest = seconds_in_shadow(declaration, rate), declaration.limits.max_runtime
    if declaration.shadow is None or least <= longest.total_seconds():
        return None
    return (
        f"At {rate_text(rate)} there are {declaration.shadow.pairs:,} pairs in the shadow after "
        f"{span(least)}; the experiment ends after {span(longest.total_seconds())}. Repeat a "
        "larger share, ask for fewer pairs, or let it run longer: `tiltyard plan` shows what each "
        "needs."
    )


def span(seconds: float) -> str:
    """Write a span of time in the one unit that people would use.

    Examples:
        >>> span(0.4), span(45), span(5_000), span(36_000), span(6.1 * 86_400), span(9e8)
        ('0.4 seconds', '45 seconds', '83 minutes', '10 hours', '6.1 days', '29 years')
    """
    for unit, size, most in (
        ("seconds", 1.0, 120.0),
        ("minutes", 60.0, 7_200.0),
        ("hours", 3_600.0, 172_800.0),
        ("days", 86_400.0, 730.0 * 86_400.0),
    ):
        if seconds < most:
            return _counted(seconds / size, unit)
    return _counted(seconds / (365.25 * 86_400.0), "years")


def rate_text(units_per_second: float) -> str:
    """Write a rate so that it is above 1, if a day is long enough for that.

    Examples:
        >>> rate_text(50.0), rate_text(0.5), rate_text(1 / 60)
        ('50 units a second', '30 units a minute', '1 unit a minute')
    """
    for unit, size in (("second", 1.0), ("minute", 60.0), ("hour", 3_600.0)):
        if units_per_second * size >= 0.995:
            return _per(units_per_second * size, unit)
    return _per(units_per_second * 86_400.0, "day")


def _per(number: float, unit: str) -> str:
    text = f"{number:,.0f}" if number >= 100.0 else f"{number:.3g}"
    return f"{text} unit{'' if text == '1' else 's'} {'an' if unit == 'hour' else 'a'} {unit}"


def _counted(number: float, unit: str) -> str:
    text = f"{number:,.0f}" if number >= 10.0 else f"{number:.1f}".removesuffix(".0")
    return f"{text} {unit.removesuffix('s') if text == '1' else unit}"
