"""An experiment at a glance: both variants, every test, and what follows from them."""

from collections.abc import Iterable, Sequence
from math import exp
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from serving.cli.show import Answer, plain, row, state, when

BAR = 10
"""Cells of the bar that shows how far a test is on its way to a verdict."""

STATE_WORDS = {
    "ramping": "ramping: {share} meet the challenger, stage {stage} of {stages}.",
    "paused": "paused at {share}: harm is watched, the ramp rests, nothing is promoted.",
    "halted": "halted: the data cannot be trusted, so everybody meets the champion.",
    "promoting": "being promoted: the edges are told.",
    "rolling_back": "being rolled back: the edges are told.",
    "stopping": "being stopped: the edges are told.",
    "concluding": "over without a verdict: the edges are told.",
    "promoted": "promoted: version {challenger} is the champion.",
    "rolled_back": "rolled back: everybody meets version {champion}.",
    "stopped": "stopped by hand, without a verdict.",
    "inconclusive": "inconclusive: time was up, and nothing was shown.",
}

DECISION_WORDS = {
    "continue": "Now: go on.",
    "promote": "Now: promote.",
    "roll_back": "Now: roll back.",
    "halt": "Now: halt.",
    "inconclusive": "Now: end without a verdict.",
}


def state_words(found: Answer) -> str:
    """Say in a sentence where the experiment stands."""
    return STATE_WORDS[found["state"]].format(
        share=f"{100 * found['share']:g} % of units",
        stage=found["rung"] + 1,
        stages=len(found["declaration"]["share"]),
        champion=found["champion"],
        challenger=found["challenger"],
    )


def board(found: Answer) -> RenderableType:
    """Draw everything about one experiment."""
    parts: list[RenderableType] = [
        # A small terminal crops the end: what it means comes before what it is made of.
        _head(found),
        *_verdict(found),
        *_gaps(found),
        Text(),
        _variants(found),
        Text(),
        _tests(found),
        Text(),
        _stages(found),
    ]
    return Group(*parts)


def _head(found: Answer) -> RenderableType:
    head = Text(found["name"], style="bold")
    head.append(f"  {found['model']}: ", style="dim")
    head.append(f"version {found['challenger']} against champion {found['champion']}  ")
    head.append_text(state(found["state"]))
    since = f"Started {when(found['started_at'])}"
    until = f", ended {when(found['ended_at'])}" if found["ended_at"] else ""
    words = state_words(found)
    return Group(head, Text(words[0].upper() + words[1:]), Text(since + until, style="dim"))


def _variants(found: Answer) -> RenderableType:
    metric = found["declaration"]["goal"]["metric"]
    tallies = {side: _total(found, side) for side in ("champion", "challenger")}
    sizes = {each["metric"]: each for each in found["intervals"]}
    table = plain(("", "champion", "challenger", "challenger compared, at any time"))
    row(table, "version", found["champion"], found["challenger"], "")
    for counter in ("units", "requests", "failovers"):
        row(table, counter, *(f"{tallies[side][counter]:,}" for side in tallies), "")
    goal = [_rate(each["successes"], each["successes"] + each["failures"]) for each in _of(tallies)]
    row(table, Text(metric, style="bold"), *goal, _size(sizes[metric]))
    for key in _guardrails(found):
        bad = [_rate(each["bad"].get(key, 0), each["units"]) for each in _of(tallies)]
        row(table, key, *bad, _size(sizes[key]))
    return table


def _stages(found: Answer) -> RenderableType:
    metric = found["declaration"]["goal"]["metric"]
    keys = _guardrails(found)
    stages = found["evidence"]["stages"]
    veterans = any(each["veteran"]["units"] for each in stages)
    columns = ("stage", "share", "units", metric, *keys, *(["veterans"] if veterans else []))
    table = plain(columns, title="By stage, champion / challenger")
    for each in stages:
        sides = (each["champion"], each["challenger"])
        units = " / ".join(f"{side['units']:,}" for side in sides)
        goal = " / ".join(
            _share(side["successes"], side["successes"] + side["failures"]) for side in sides
        )
        bad = (
            " / ".join(_share(side["bad"].get(key, 0), side["units"]) for side in sides)
            for key in keys
        )
        apart = [f"{each['veteran']['units']:,}"] if veterans else []
        row(table, each["stage"] + 1, f"{each['share'] / 100:g} %", units, goal, *bad, *apart)
    return table


def _tests(found: Answer) -> RenderableType:
    columns = ("test", "evidence", "e", "needed", "p, any time", "shown")
    table = plain(columns, title="Tests", whole="evidence")
    for each in found["tests"]:
        shown = Text("yes", style="bold") if each["reached"] else Text("no", style="dim")
        row(
            table,
            f"{each['question']}: {each['metric']}",
            _bar(each["log_e"], each["needed"]),
            each["e"],
            f"{exp(each['needed']):,.0f}",
            f"{each['p_value']:.2g}",
            shown,
        )
    return table


def _bar(log_e: float, needed: float) -> Text:
    """Draw evidence against what is needed, in log e; evidence to the contrary is an empty bar."""
    part = min(1.0, max(0.0, log_e / needed))
    full = int(part * BAR)
    bar = Text("━" * full, style="green" if part >= 1.0 else "cyan")
    bar.append("─" * (BAR - full), style="dim")
    return bar


def _verdict(found: Answer) -> Iterable[RenderableType]:
    decision = found["decision"]
    if decision is None:
        said = found["reasons"]
        yield Text("Why it ended so" if found["ended_at"] else "Why", style="bold")
    else:
        said = decision["reasons"]
        yield Text(DECISION_WORDS[decision["kind"]], style="bold")
    for reason in said or ("Nobody has said.",):
        yield Text(f"  {reason}")
    if found["receipt"]:
        yield Text(f"  Receipt {found['receipt'][:12]}", style="dim")


def _gaps(found: Answer) -> Iterable[RenderableType]:
    evidence = found["evidence"]
    if found.get("unseen"):
        yield Text(f"{found['unseen']} What stands here is what was last seen.", style="bold red")
    if evidence["lost_bytes"]:
        lost = f"Incomplete: {evidence['lost_bytes']:,} bytes of request log were never counted."
        yield Text(lost, style="bold red")
    if evidence["late"]:
        late = f"{evidence['late']:,} outcomes came after the attribution window; not counted."
        yield Text(late, style="yellow")
    if not evidence["rollback_target_hot"] and found["decision"] is not None:
        yield Text("The champion is not hot: nothing is promoted, no share grows.", style="yellow")


def _total(found: Answer, side: str) -> Answer:
    total: Answer = {"bad": {}}
    for stage in found["evidence"]["stages"]:
        for name, count in stage[side].items():
            if name == "bad":
                for key, bad in count.items():
                    total["bad"][key] = total["bad"].get(key, 0) + bad
            else:
                total[name] = total.get(name, 0) + count
    return total


def _of(tallies: dict[str, Answer]) -> Sequence[Answer]:
    return tuple(tallies.values())


def _guardrails(found: Answer) -> list[str]:
    return [
        f"{each['metric']}>{each['above']}" if "above" in each else each["metric"]
        for each in found["declaration"]["guardrails"]
    ]


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.3g} %" if whole else "-"


def _rate(part: int, whole: int) -> str:
    return f"{_share(part, whole)} ({part:,} of {whole:,})" if whole else "nothing yet"


def _size(found: dict[str, Any]) -> Text:
    """Write an interval, or why there is none; it is never a number then."""
    if "reason" in found:
        return Text(f"unknown: {found['reason']}", style="dim")
    level = f"({100 * found['level']:g} %)"
    if found["effect"] == "difference":
        low, high = (f"{100 * found[end]:+.2f}" for end in ("low", "high"))
        return Text(f"{100 * found['estimate']:+.2f} points, {low} to {high} {level}")
    size = f"{found['estimate']:.2f} times, " if found["estimate"] is not None else ""
    if found["high"] is None:
        return Text(f"{size}at least {found['low']:.2f} times {level}")
    return Text(f"{size}{found['low']:.2f} to {found['high']:.2f} {level}")
