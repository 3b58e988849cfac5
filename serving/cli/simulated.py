"""What many simulated runs have shown, for people and for programs."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from experiments.model import BEFORE_RAMP, Declaration
from experiments.planning import span
from experiments.simulation import End, Origin, Premise, Share, Spread, Summary
from experiments.simulation.summary import Gate, Taken
from serving.cli.show import plain, row
from serving.simulations import Order

END_STYLES = {
    End.PROMOTED: "green",
    End.PASSED: "green",
    End.ROLLED_BACK: "red",
    End.INCONCLUSIVE: "",
    End.HALTED: "yellow",
}


def as_dict(
    order: Order, supposed: Sequence[Premise], summary: Summary, *, is_timed: bool
) -> dict[str, Any]:
    """Return everything, for a program.

    Args:
        is_timed: Somebody said how much traffic there is, so times mean something.
    """
    extent = order.extent
    return {
        "experiment": order.declaration.name,
        "runs": order.runs,
        "seed": order.seed,
        "effect": order.truth.effect,
        "harm": dict(order.truth.harm),
        "agreement": order.truth.agreement,
        "units": extent.units,
        "batch": extent.batch,
        "units_per_second": extent.rate if is_timed else None,
        "baselines": {
            each.key: {"value": each.value, "spread": each.spread, "from": each.origin.value}
            for each in supposed
        },
        "ends": {
            end.value: _counted(share) | _taken(summary.taken_by_end.get(end), is_timed=is_timed)
            for end, share in summary.ends.items()
        },
        "dropped": _share(summary.dropped),
        "false_promotions": _share(summary.false_promotions),
        "false_passes": _share(summary.false_passes),
        "false_alarms": _share(summary.false_alarms),
        "missed_harm": _share(summary.missed_harm),
        "decided_by": summary.decided_by,
        "gates": [
            {
                "share": _gate(order.declaration, gate),
                "reached": _share(gate.reached),
                "median_units_before": gate.units,
            }
            for gate in summary.gates
        ],
    } | _taken(summary.taken, is_timed=is_timed)


def shown(
    order: Order, supposed: Sequence[Premise], summary: Summary, *, is_timed: bool
) -> RenderableType:
    """Draw everything, for people."""
    parts: list[RenderableType] = [*_head(order, supposed, is_timed=is_timed), Text()]
    parts += [_truth(order, supposed), Text(), _ends(summary), Text()]
    parts += [_lengths(summary, is_timed=is_timed), Text()]
    parts += [_gates(order.declaration, summary), Text(), *_wrongs(order.declaration, summary)]
    return Group(*parts)


def _head(order: Order, supposed: Sequence[Premise], *, is_timed: bool) -> Iterator[Text]:
    extent = order.extent
    head = Text(order.declaration.name, style="bold")
    head.append(
        f"  {order.runs:,} runs, seed {order.seed}, up to {extent.units:,} units, "
        f"a look every {extent.batch:,} or less",
        style="not bold dim",
    )
    yield head
    if any(premise.origin is Origin.USUAL for premise in supposed):
        yield Text("What nobody said is supposed: --baseline METRIC=VALUE says it.", style="yellow")
    if not is_timed:
        yield Text("Traffic is not known; give --traffic 50/s for times.", style="yellow")


def _truth(order: Order, supposed: Sequence[Premise]) -> RenderableType:
    several = len(order.declaration.challengers) > 1
    first = f"version {order.declaration.challengers[0]}" if several else "the challenger"
    table = plain(("", "with the champion", f"with {first}", "says"), title="What is true")
    for premise in supposed:
        factor = order.truth.factor(premise.asked)
        change = f"{100 * (factor - 1):+.4g} %" if factor != 1 else "the same"
        usual = premise.origin is Origin.USUAL
        says = Text(_SAYS[premise.origin], style="yellow" if usual else "")
        row(table, premise.key, premise.text, change, says)
    if order.declaration.shadow is not None:
        agree = order.truth.agreement
        says = Text("--agreement" if agree < 1 else _SAYS[Origin.USUAL])
        row(table, "agreement", "", percent(agree), says)
    return table


_SAYS = {Origin.FILE: "the file", Origin.GIVEN: "--baseline", Origin.USUAL: "nobody"}


def _ends(summary: Summary) -> RenderableType:
    table = plain(("", "runs", "share", "95 % interval"), title="How they ended")
    for end, share in summary.ends.items():
        row(table, _name(end), f"{share.count:,}", percent(share.value), _interval(share))
    return table


def _lengths(summary: Summary, *, is_timed: bool) -> RenderableType:
    table = plain(("", "median", "mean", "80 % of them", ""), title="How long to the verdict")
    by_end = [(_name(end), taken) for end, taken in summary.taken_by_end.items()]
    for name, taken in (*by_end, (Text("all"), summary.taken)):
        row(table, name, *_spread(taken.units, lambda units: f"{units:,.0f}"), "units")
        if is_timed:
            row(table, "", *_spread(taken.seconds, span))
    return table


def _spread(found: Spread, written: Callable[[float], str]) -> tuple[str, str, str]:
    both = f"{written(found.low)} to {written(found.high)}"
    return written(found.median), written(found.mean), both


def _name(end: End) -> Text:
    return Text(end.replace("_", " "), style=END_STYLES[end])


def _wrongs(declaration: Declaration, summary: Summary) -> Iterator[Text]:
    """Say what went wrong, each beside what was promised."""
    alpha = declaration.alpha
    if summary.false_promotions is not None:
        yield _wrong("False promotions", summary.false_promotions, promised=alpha.promote)
    if summary.false_passes is not None:
        yield _wrong("False passes", summary.false_passes, promised=alpha.promote)
    if summary.false_alarms is not None:
        yield _wrong("Harmless, but taken out", summary.false_alarms, promised=alpha.harm)
    if summary.missed_harm is not None:
        yield _wrong("Harm that was missed", summary.missed_harm, promised=None)
    if summary.dropped is not None:
        line = f"A challenger was dropped in {_of(summary.dropped)}."
        yield Text(line)
    if summary.decided_by:
        named = ", ".join(f"{key} {count:,}" for key, count in summary.decided_by.items())
        yield Text(f"Decided by: {named}.")


def _wrong(what: str, share: Share, *, promised: float | None) -> Text:
    line = Text(f"{what}: {_of(share)}")
    if promised is None:
        line.append(".")
    elif share.low > promised:
        line.append(f"; more than the {percent(promised)} promised.", style="bold red")
    else:
        line.append(f"; at most {percent(promised)} is promised.")
    return line


def _gates(declaration: Declaration, summary: Summary) -> RenderableType:
    table = plain(("", "runs", "share", "95 % interval", "units before"), title="Stages reached")
    for gate in summary.gates:
        share = gate.reached
        before = "" if gate.units is None else f"{gate.units:,.0f}"
        cells = (f"{share.count:,}", percent(share.value), _interval(share), before)
        row(table, _gate(declaration, gate), *cells)
    return table


def _gate(declaration: Declaration, gate: Gate) -> str:
    if declaration.shadow is not None and gate.rung == BEFORE_RAMP:
        return f"shadow, {declaration.shadow.share / 100:g} %"
    if gate.rung < len(declaration.ramp):
        return f"{declaration.ramp[gate.rung] / 100:g} %"
    return "holdback"


def percent(share: float) -> str:
    """Write a share.

    Examples:
        >>> percent(0.0), percent(0.0251), percent(1.0)
        ('0 %', '2.51 %', '100 %')
    """
    return f"{100 * share:.3g} %"


def _of(share: Share) -> str:
    return f"{share.count:,} of {share.of:,} runs, {percent(share.value)} ({_interval(share)})"


def _interval(share: Share) -> str:
    return f"{percent(share.low)} to {percent(share.high)}"


def _share(share: Share | None) -> dict[str, Any] | None:
    return None if share is None else _counted(share)


def _counted(share: Share) -> dict[str, Any]:
    return {"runs": share.count, "share": share.value, "low": share.low, "high": share.high}


def _taken(taken: Taken | None, *, is_timed: bool) -> dict[str, Any]:
    """Return times and units to the verdict; null where there are none."""

    return {
        "units_to_verdict": None if taken is None else asdict(taken.units),
        "seconds_to_verdict": asdict(taken.seconds) if taken is not None and is_timed else None,
    }
