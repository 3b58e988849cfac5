"""Tables of a report: what differs, how sure that is, in which segment and in which stage."""

from collections.abc import Iterable
from math import exp

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from serving.cli.board import shadow
from serving.cli.board.figures import chance, evidence, level, shrunk, size
from serving.cli.show import Answer, plain, row

BAR = 10
"""Cells of the bar that shows how far a test is on its way to a verdict."""


def differences(found: Answer, challenger: Answer) -> RenderableType:
    """Draw both arms and how far they are apart; an interval that holds at every look."""
    at = challenger["metrics"][0]["effects"][0]["level"]
    columns = ("metric", "champion", "challenger", f"difference ({100 * at:.3g} %)", "shrunk")
    table = _dense(columns, title=_against(found, challenger))
    for each in challenger["metrics"]:
        name = Text(each["metric"], style="bold" if each["role"] == "goal" else "")
        arms = (level(each, "champion"), level(each, "challenger"))
        row(table, name, *arms, size(each, each["effects"][0]), shrunk(each))
    for counter in ("units", "requests", "failovers"):
        champion, own = _counted(found, challenger["version"], counter)
        row(table, Text(counter, style="dim"), f"{champion:,}", f"{own:,}", "", "")
    return table


def maturity(challenger: Answer) -> Iterable[RenderableType]:
    """Say how much of the metrics with a window can be looked at yet."""
    for each in challenger["metrics"]:
        ripe = each["matured"]
        if ripe is not None:
            share = "no unit yet" if ripe["share"] is None else f"{100 * ripe['share']:.3g} %"
            seen = f"{share} of units are old enough ({ripe['units']:,} of {ripe['of']:,})."
            yield Text(f"{each['metric']}: {seen}", style="dim")


def tests(found: Answer, challenger: Answer) -> RenderableType:
    """Draw every test of a challenger, and how far each is on its way."""
    title = "Tests" if _is_only(found) else f"Tests of version {challenger['version']}"
    columns = ("test", "evidence", "e", "needed", "p, any time", "shown")
    table = _dense(columns, title=title, whole="evidence")
    with_users = challenger["metrics"] if found["evidence"]["stages"] else []
    firsts = [(each["tests"][0], each["metric"]) for each in with_users]
    harms = [(each["tests"][1], each["metric"]) for each in with_users]
    segments = [
        (each["harm"], f"{each['metric']} in {each['segment']}")
        for each in challenger["segments"]
        if each["harm"]["reached"]
    ]
    about = [*firsts, (challenger["any_harm"], ""), *harms, *segments, *shadow.tests(challenger)]
    for test, metric in about:
        _test(table, test, metric)
    return table


def trust(found: Answer) -> RenderableType:
    """Say whether units arrive as they should, and how far a horizon is seen."""
    said = found["report"]["sample_ratio"]
    ratio = f"Sample ratio: e = {said['e']}, {exp(said['needed']):,.0f} halts; "
    line = Text(f"{ratio}p = {chance(said['p'])}.", style="bold red" if said["reached"] else "dim")
    look = _look(found)
    if look is None:
        return line
    taken = "1 look was taken" if look["looks"] == 1 else f"{look['looks']} looks were taken"
    seen = f"Horizon: {100 * look['time']:.3g} % of {look['units']:,} units seen, {taken}."
    return Text("\n").join([Text(seen, style="dim"), line])


def segments(found: Answer) -> Iterable[RenderableType]:
    """Draw harm by segment."""
    every = [(c, each) for c in found["report"]["challengers"] for each in c["segments"]]
    if not every:
        return
    only = _is_only(found)
    columns = ("segment", "metric", "champion", "challenger", "difference", "harm e", "worse")
    table = _dense(columns, title="By segment")
    for challenger, each in every:
        worse = Text("yes", style="bold red") if each["worse"] else Text("no", style="dim")
        who = each["segment"] if only else f"{each['segment']}, {challenger['version']}"
        arms = (level(each, "champion"), level(each, "challenger"))
        apart = size(each, each["effect"], terse=True)
        row(table, who, each["metric"], *arms, apart, evidence(each["alone"]), worse)
    yield Text()
    yield table
    rate = f"{100 * found['declaration']['alpha']['harm']:.3g} %"
    yield Text(
        f"worse: of those marked, {rate} at most are expected to be wrong (e-BH over all "
        f"{len(every)}).",
        style="dim",
    )


def stages(found: Answer, challenger: Answer) -> RenderableType:
    """Draw what each stage shows by itself."""
    columns = ("stage", "metric", "champion", "challenger", "difference", "e for", "e harm")
    whose = "" if _is_only(found) else f", version {challenger['version']}"
    table = _dense(columns, title=f"By stage{whose}")
    apart = {each["stage"]: each["veterans"]["units"] for each in found["evidence"]["stages"]}
    for place, first in enumerate(challenger["metrics"][0]["stages"]):
        veterans = apart[first["stage"]]
        said = f"and {veterans:,} who came back" if veterans else ""
        units = (f"{first['champion_units']:,}", f"{first['challenger_units']:,}")
        stage = found["stages"][first["stage"]]
        where = f"{stage['rung'] + 1}: {stage['share'] / 100:.3g} %"
        row(table, where, Text("units", style="dim"), *units, Text(said, style="dim"), "", "")
        for metric in challenger["metrics"]:
            each = metric["stages"][place] | {"kind": metric["kind"]}
            arms = (level(each, "champion"), level(each, "challenger"))
            for_it = _stage_evidence(metric, each)
            size_of_it = size(each, each["effect"], terse=True)
            row(table, "", metric["metric"], *arms, size_of_it, for_it, evidence(each["against"]))
    return table


def _stage_evidence(metric: Answer, stage: Answer) -> str:
    return "-" if _is_look(metric["tests"][0]) else evidence(stage["in_favour"])


def _test(table: Table, test: Answer, metric: str) -> None:
    question = f"{test['question']}: {metric}" if metric else f"any {test['question']}"
    shown = Text("yes", style="bold") if test["reached"] else Text("no", style="dim")
    if _is_look(test):
        z, limit = test["z"], test["boundary"]
        bar = _bar(z or 0.0, limit or float("inf"))
        now = "-" if z is None else f"z {z:.3g}"
        row(table, question, bar, now, "-" if limit is None else f"z {limit:.3g}", "-", shown)
        return
    bar = _bar(test["log_e"], test["needed"])
    numbers = (evidence(test["log_e"]), f"{exp(test['needed']):,.0f}", chance(test["p"]))
    row(table, question, bar, *numbers, shown)


def _bar(reached: float | None, needed: float) -> Text:
    """Draw evidence against what is needed, in log e; evidence to the contrary is an empty bar."""
    part = 0.0 if reached is None else min(1.0, max(0.0, reached / needed))
    full = int(part * BAR)
    bar = Text("━" * full, style="green" if part >= 1.0 else "cyan")
    bar.append("─" * (BAR - full), style="dim")
    return bar


def _dense(columns: Iterable[str], *, title: str, whole: str | None = None) -> Table:
    table = plain(columns, title=title, whole=whole)
    table.padding = (0, 1)
    table.collapse_padding = True
    return table


def _against(found: Answer, challenger: Answer) -> str:
    version = challenger["version"]
    return f"Version {version} against {found['champion']}; intervals hold at every look"


def _counted(found: Answer, version: int, counter: str) -> tuple[int, int]:
    """Return a count over all stages in which the version was on trial."""
    arms = [
        (stage["champion"][counter], stage["challengers"][str(version)][counter])
        for stage in found["evidence"]["stages"]
        if str(version) in stage["challengers"]
    ]
    return sum(champion for champion, _ in arms), sum(own for _, own in arms)


def _look(found: Answer) -> Answer | None:
    firsts = [each["metrics"][0]["tests"][0] for each in found["report"]["challengers"]]
    looks = [each for each in firsts if _is_look(each)]
    return max(looks, key=lambda each: each["looks"], default=None)


def _is_look(test: Answer) -> bool:
    return "boundary" in test


def _is_only(found: Answer) -> bool:
    return len(found["challengers"]) == 1
