"""A forecast, drawn for people."""

from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from experiments.metric import Binary, Count, Slow
from experiments.model import Declaration
from experiments.planning import (
    Forecast,
    GoalForecast,
    Harm,
    HeldBy,
    Insufficient,
    Need,
    Safety,
    ShadowForecast,
    StageForecast,
    rate_text,
    span,
)
from experiments.stats.planning import Mode
from serving.cli.show import plain, row

NEVER = "beyond what can be foreseen"


def drawn(declaration: Declaration, found: Forecast, reach: str = "") -> RenderableType:
    """Draw all of a forecast: first the answer, then the goal, the ramp, guardrails and harm.

    Args:
        reach: Why not all of the model's traffic can be in the experiment.
    """
    parts: list[RenderableType] = [_head(declaration, found)]
    if reach:
        parts.append(Text(reach))
    if found.warning:
        parts.append(Text(found.warning, style="bold yellow"))
    if found.shadow is not None:
        parts.append(_shadow(declaration, found.shadow, found))
    if found.goal is None:
        return Group(*_spaced(parts))
    if isinstance(found.goal, Insufficient):
        parts.append(Text(f"{declaration.sought.metric.key}: {found.goal.reason}.", style="yellow"))
    else:
        parts.append(_goal(declaration, found.goal, found))
    parts.append(_ramp(declaration, found))
    parts.append(_guardrails(found))
    parts.append(_harm(found))
    return Group(*_spaced(parts))


def _head(declaration: Declaration, found: Forecast) -> RenderableType:
    head = Text(declaration.name, style="bold")
    if found.units_per_second is None:
        head.append("  traffic is not known; give --traffic 50/s for times", style="yellow")
    else:
        head.append(f"  at {rate_text(found.units_per_second)}", style="dim")
    lines = [head]
    if isinstance(found.goal, GoalForecast):
        goal = declaration.sought
        is_share = isinstance(goal.metric.kind, Binary | Slow | Count)
        before, after = found.goal.baseline, found.goal.baseline + found.goal.effect
        moved = f"{100 * before:.4g} % to {100 * after:.4g} %" if is_share else ""
        moved = moved or f"{before:.5g} to {after:.5g}"
        lines.append(
            Text(f"If {goal.metric.key} moves from {moved}, one-sided level {found.goal.alpha:g}:")
        )
    return Group(*lines)


def _shadow(declaration: Declaration, shadow: ShadowForecast, found: Forecast) -> RenderableType:
    has_rate = found.units_per_second is not None
    columns = ("", "pairs", "units", *(("takes",) if has_rate else ()))
    title = f"In the shadow, {100 * shadow.share:g} % of the units"
    table = plain(columns, title=title)
    for need in (shadow.least, *shadow.needs, shadow.harm):
        times = () if not has_rate else ("-" if need.seconds is None else span(need.seconds),)
        numbers = (
            NEVER if number is None else f"{number:,}" for number in (need.pairs, need.units)
        )
        row(table, need.what, *numbers, *times)
    each = "" if len(declaration.challengers) == 1 else "Pairs: of each challenger. "
    after = "" if declaration.shadow_only else "What follows begins when the shadow is over."
    words = f"{each}Units that come, of which so many give a pair. {after}".rstrip()
    return Group(table, Text(words, style="dim"))


def _goal(declaration: Declaration, goal: GoalForecast, found: Forecast) -> RenderableType:
    has_rate = found.units_per_second is not None
    table = plain(("probability", "one look", *_columns(has_rate)), title="Units until a verdict")
    for once, open_ended, bounded in zip(
        goal.at_one_look, goal.open_ended, goal.bounded, strict=True
    ):
        cells = [f"{once.power:.0%}", _units(once), _units(open_ended)]
        cells += [_time(open_ended)] if has_rate else []
        cells += [_units(bounded), f"{bounded.compared:,}" if bounded.compared else NEVER]
        row(table, *cells, *([_time(bounded)] if has_rate else []))
    means = (goal.expected[Mode.OPEN_ENDED], goal.expected[Mode.BOUNDED])
    lines = [
        Text(
            f"On average a verdict takes about {means[0]:,} units open-ended, {means[1]:,} within "
            "the horizon for 80%.",
            style="dim",
        )
    ]
    if declaration.horizon is None:
        lines.append(Text("The file declares no horizon: it is open-ended."))
    else:
        assert goal.declared is not None
        lines.append(
            Text(
                f"The file declares a horizon of {declaration.horizon.units:,} units, which finds "
                f"this effect with {goal.declared:.0%} probability."
            )
        )
    return Group(table, *lines)


def _columns(has_rate: bool) -> tuple[str, ...]:
    if has_rate:
        return ("open-ended", "takes", "bounded", "horizon to declare", "takes")
    return ("open-ended", "bounded", "horizon to declare")


def _ramp(declaration: Declaration, found: Forecast) -> RenderableType:
    table = plain(
        ("stage", "share", "at least", "held by", "units", "challenger", "open-ended", "bounded"),
        title="Ramp",
    )
    for each in found.stages:
        row(
            table,
            each.stage,
            f"{100 * each.share:g} %",
            "-" if each.seconds is None else span(each.seconds),
            _held_by(each),
            f"{each.units:,}",
            f"{each.challenger_units:,}",
            _power(each.open_ended),
            _power(each.bounded),
        )
    words = "The last two columns: how probable the verdict is by the stage's earliest end."
    if len(declaration.challengers) > 1:
        words += " Units of the challenger: of each."
    return Group(table, Text(words, style="dim"))


def _held_by(stage: StageForecast) -> str:
    return "min_runtime" if stage.held_by is HeldBy.RUNTIME else "min_units"


def _guardrails(found: Forecast) -> RenderableType:
    has_rate = found.units_per_second is not None
    columns = ("guardrail", "margin", "one look, 80%", "50%", "80%", "90%")
    table = plain((*columns, *(("80% takes",) if has_rate else ())), title="Guardrails kept")
    notes: list[str] = []
    for each in found.guardrails:
        if isinstance(each.kept, Insufficient) or isinstance(each.at_one_look, Insufficient):
            if isinstance(each.kept, Insufficient):
                notes.append(_note(each, each.kept))
            continue
        cells = [each.metric, each.margin, _units(each.at_one_look[1]), *map(_units, each.kept)]
        row(table, *cells, *([_time(each.kept[1])] if has_rate else []))
    words = "Units until a guardrail is shown to be kept, by a challenger that equals the champion."
    parts: list[RenderableType] = [table] if table.row_count else [Text("Guardrails kept", "bold")]
    parts += [Text(words, style="dim")] if table.row_count else []
    return Group(*parts, *(Text(note, style="yellow") for note in notes))


def _note(each: Safety, why: Insufficient) -> str:
    words = f"{each.metric}: {why.reason}."
    if each.if_none is None or each.if_none.units is None:
        return words
    takes = f" ({_time(each.if_none)})" if each.if_none.seconds is not None else ""
    return f"{words} If none of the challenger's units is bad: {each.if_none.units:,}{takes}."


def _harm(found: Forecast) -> RenderableType:
    has_rate = found.units_per_second is not None
    columns = ("metric", "gross harm", "challenger units", *(("found after",) if has_rate else ()))
    table = plain(columns, title="Harm found in the first stage")
    for each in found.harm:
        if not isinstance(each.found, Insufficient):
            row(table, each.metric, each.what, *_found(each, has_rate))
    if not table.row_count:
        return Text("Harm found in the first stage: nothing can be said without a baseline.")
    return table


def _found(each: Harm, has_rate: bool) -> Iterable[str]:
    assert not isinstance(each.found, Insufficient)
    if each.found is None:
        return ("within its margin", "-") if has_rate else ("within its margin",)
    seconds = each.found.seconds
    times = (span(seconds),) if has_rate and seconds is not None else ()
    return (f"{each.found.units:,}", *times)


def _units(need: Need) -> str:
    return NEVER if need.units is None else f"{need.units:,}"


def _time(need: Need) -> str:
    return "-" if need.seconds is None else span(need.seconds)


def _power(power: float | None) -> str:
    if power is None:
        return "-"
    return "< 1%" if power < 0.01 else "> 99%" if power > 0.99 else f"{power:.0%}"


def _spaced(parts: Sequence[RenderableType]) -> list[RenderableType]:
    spaced: list[RenderableType] = []
    for part in parts:
        spaced += [part, Text()]
    return spaced[:-1]
