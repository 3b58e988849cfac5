"""A picture of an experiment: how the interval of each metric has narrowed, stage by stage."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from math import inf, isfinite, nan
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.model import BEFORE_RAMP
from experiments.shadow_report import DIFFERS
from serving.cli.board import state_words
from serving.cli.board.figures import SHARES
from serving.cli.pictures import BAND, INK, PALE, panels, save
from serving.cli.show import Answer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#e69f00",
    "#7a5195",
    "#6b6b6b",
)
"""One a challenger; told apart by eyes of every kind."""

HARM, QUIET = "#b22222", "#666666"
HEIGHT, LOW_HEIGHT, MANY = 1.9, 1.35, 4
SETTLED = 0.3
"""The vertical axis has room for what was shown after this part of the time, and crops before."""

FARTHEST = 20.0
"""Ratios beyond this, or below one over it, may be cropped."""

UNITS = ((86_400.0, "days"), (3_600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))
VERDICTS = ("promoted", "passed", "rolled_back", "stopped", "inconclusive", "halted")


def draw_trail(path: Path, found: Answer, trail: Answer) -> None:
    """Draw the interval of each metric over time.

    Args:
        found: The experiment, as control shows it.
        trail: Its trail, with two points at least.

    Raises:
        OSError: the file cannot be written.
    """
    clock = _Clock.of(found, trail)
    metrics = _drawn(found)
    height = HEIGHT if len(metrics) <= MANY else LOW_HEIGHT
    figure, axes = panels([height] * len(metrics), title=_title(found), subtitle=_subtitle(found))
    versions = [each["version"] for each in found["report"]["challengers"]]
    for metric, each in zip(metrics, axes, strict=True):
        lines = {version: _line(trail, clock, version, metric) for version in versions}
        _draw_metric(each, found, metric, lines, clock.end)
    _shade(axes, found, clock)
    _mark_verdict(axes, found, clock)
    if len(versions) > 1:
        axes[0].legend(
            loc="lower right",
            bbox_to_anchor=(1.0, 0.98),
            borderpad=0.0,
            fontsize=8.5,
            frameon=False,
            ncols=len(versions),
        )
    axes[-1].set_xlabel(f"{clock.unit} since the start", fontsize=9, color=QUIET)
    axes[-1].set_xlim(0.0, clock.end)
    figure.align_ylabels(axes)
    save(figure, path)


def _drawn(found: Answer) -> list[Answer]:
    """Return what has a panel: each metric, after what differs in the shadow."""
    first = found["report"]["challengers"][0]
    metrics: list[Answer] = list(first["metrics"])
    seen = first["shadow"]
    if seen is None:
        return metrics
    margins = []
    if seen["declared"] is not None:
        margins = [{"scale": "difference", "value": 1 - seen["declared"], "worse": "higher"}]
    interval = {"reason": "no pair of answers yet"}
    effect = {"scale": "difference", "level": seen["level"], "interval": interval}
    differs = {"metric": DIFFERS, "kind": "binary", "role": "shadow", "effects": [effect]}
    return [differs | {"margins": margins, "champion": interval}, *metrics]


@dataclass(frozen=True, slots=True)
class _Clock:
    """Moments as times since the start."""

    start: datetime
    seconds: float
    unit: str
    end: float

    @classmethod
    def of(cls, found: Answer, trail: Answer) -> "_Clock":
        start = datetime.fromisoformat(found["started_at"])
        last = datetime.fromisoformat(found["ended_at"] or trail["points"][-1]["at"])
        span = max((last - start).total_seconds(), 1.0)
        seconds, unit = next(each for each in UNITS if span >= 2 * each[0] or each[0] == 1.0)
        return cls(start, seconds, unit, 1.02 * span / seconds)

    def __call__(self, moment: str) -> float:
        return (datetime.fromisoformat(moment) - self.start).total_seconds() / self.seconds


@dataclass(frozen=True, slots=True)
class _Line:
    """What the trail has of one metric of one challenger; a bound is infinite if there is none."""

    times: list[float]
    estimates: list[float]
    lows: list[float]
    highs: list[float]

    @property
    def is_known(self) -> bool:
        """Whether there is any number."""
        return any(map(isfinite, self.lows + self.highs))

    def settled(self, since: float) -> list[float]:
        """Return every bound from a time on, and where the line ends if that is earlier."""
        shown = self.estimates[-1:]
        for time, low, high in zip(self.times, self.lows, self.highs, strict=True):
            if time >= since:
                shown += [low, high]
        return shown


def _line(trail: Answer, clock: _Clock, version: int, metric: Answer) -> _Line:
    factor, lowest = _factor(metric), 0.0 if _is_ratio(metric) else -inf
    line = _Line([], [], [], [])
    for point in trail["points"]:
        values = point["values"].get(f"{version}/{metric['metric']}")
        if values is None:
            continue
        estimate, low, high, _ = values
        is_known = (low, high) != (None, None)
        line.times.append(clock(point["at"]))
        line.estimates.append(nan if estimate is None else factor * estimate)
        line.lows.append(nan if not is_known else lowest if low is None else factor * low)
        line.highs.append(nan if not is_known else inf if high is None else factor * high)
    return line


def _draw_metric(
    axes: "Axes", found: Answer, metric: Answer, lines: dict[int, _Line], end: float
) -> None:
    nothing = 1.0 if _is_ratio(metric) else 0.0
    borders = _borders(metric)
    if _is_ratio(metric):
        axes.set_yscale("log")
    always = [nothing, *(value for value, _ in borders)]
    limits = _limits(lines.values(), always, since=SETTLED * end, ratio=_is_ratio(metric))
    axes.set_ylim(*limits)
    axes.grid(axis="y", color=PALE, linewidth=0.5, alpha=0.5)
    axes.axhline(nothing, color=INK, linewidth=1.0, zorder=3)
    below = [value < nothing for value, _ in borders]
    away = "center" if len(set(below)) != 1 else "bottom" if below[0] else "top"
    _beside(axes, nothing, "no difference", INK, away)
    for value, words in borders:
        axes.axhline(value, color=HARM, linewidth=1.0, linestyle=(0, (5, 3)), zorder=3)
        _beside(axes, value, words, HARM, "bottom" if value > nothing else "top")
    for colour, (version, line) in zip(COLOURS, lines.items(), strict=False):
        name = f"version {version}{', dropped' if version in found['dropped'] else ''}"
        _draw_line(axes, line, colour, name, pale=0.2 / len(lines) ** 0.5)
    if not any(line.is_known for line in lines.values()):
        _say_why(axes, metric)
    _label(axes, found, metric)


def _draw_line(axes: "Axes", line: _Line, colour: str, name: str, *, pale: float) -> None:
    bottom, top = axes.get_ylim()
    lows = [max(low, bottom) for low in line.lows]
    highs = [min(high, top) for high in line.highs]
    axes.fill_between(line.times, lows, highs, color=colour, alpha=pale, linewidth=0, zorder=2)
    for ends in (lows, highs):
        # What is cropped has no edge.
        edge = [end if bottom < end < top else nan for end in ends]
        axes.plot(line.times, edge, color=colour, linewidth=0.8, alpha=0.7, zorder=4)
    axes.plot(line.times, line.estimates, color=colour, linewidth=1.8, label=name, zorder=5)


def _label(axes: "Axes", found: Answer, metric: Answer) -> None:
    role = "compared without users" if metric["role"] == "shadow" else "guardrail"
    if metric["role"] == "goal":
        is_up = found["declaration"]["goal"]["direction"] == "increase"
        role = "goal, up is better" if is_up else "goal, down is better"
    axes.set_ylabel(_unit(metric), fontsize=9)
    axes.annotate(
        f"{metric['metric']}  ({role})",
        (0.004, 1.0),
        xycoords="axes fraction",
        xytext=(0, 4),
        textcoords="offset points",
        fontsize=9.5,
        fontweight="bold",
        color=INK,
    )
    if _is_ratio(metric):
        _tick_ratios(axes)


def _tick_ratios(axes: "Axes") -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

    bottom, top = axes.get_ylim()
    if top / bottom < 4.0:
        axes.yaxis.set_major_locator(MaxNLocator(4))
    else:
        subs = (1.0, 2.0, 5.0) if top / bottom < 100.0 else (1.0,)
        axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=9))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def _say_why(axes: "Axes", metric: Answer) -> None:
    interval = metric["effects"][0]["interval"]
    why = interval.get("reason", "nothing was known while it was followed")
    axes.annotate(why, (0.5, 0.62), xycoords="axes fraction", ha="center", fontsize=9, color=QUIET)


def _beside(axes: "Axes", height: float, words: str, colour: str, side: str) -> None:
    axes.annotate(
        words,
        (1.0, height),
        xycoords=("axes fraction", "data"),
        xytext=(4, {"center": 0, "bottom": -2, "top": 2}[side]),
        textcoords="offset points",
        va=side,
        fontsize=8,
        color=colour,
        zorder=6,
    )


def _shade(panels: "Sequence[Axes]", found: Answer, clock: _Clock) -> None:
    """Shade every second stage, and write each one's share above the first panel."""
    stages = found["stages"]
    opened = [max(0.0, clock(stage["opened_at"])) for stage in stages]
    for place, (start, stop) in enumerate(pairwise([*opened, clock.end])):
        if stop <= start:
            continue
        if place % 2:
            for axes in panels:
                axes.axvspan(start, stop, color=BAND, linewidth=0, zorder=0)
        words = f"{stages[place]['share'] / 100:g} %"
        if stages[place]["rung"] == len(found["declaration"].get("share", ())):
            words = f"holdback, {words}"
        elif stages[place]["rung"] == BEFORE_RAMP:
            words = f"shadow, {words}"
        for axes in panels[:1]:
            axes.annotate(
                words,
                (start, 0.0),
                xycoords=("data", "axes fraction"),
                xytext=(3, 3),
                textcoords="offset points",
                fontsize=8.5,
                color=QUIET,
            )


def _mark_verdict(panels: "Sequence[Axes]", found: Answer, clock: _Clock) -> None:
    if found["state"] not in VERDICTS:
        return
    at = clock(found["ended_at"]) if found["ended_at"] else clock.end / 1.02
    for axes in panels:
        axes.axvline(at, color=INK, linewidth=1.4, zorder=6)
    panels[0].annotate(
        found["state"].replace("_", " "),
        (at, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(-4, -12),
        textcoords="offset points",
        ha="right",
        fontsize=9.5,
        fontweight="bold",
        color=INK,
    )


def _limits(
    lines: Iterable[_Line], always: Sequence[float], *, since: float, ratio: bool
) -> tuple[float, float]:
    """Return a range with room for what matters, and for intervals once they are of use."""
    shown = [each for line in lines for each in line.settled(since) if isfinite(each)]
    if not ratio:
        low, high = min([*shown, *always]), max([*shown, *always])
        room = 0.12 * (high - low) or 1.0
        return low - room, high + room
    # A ratio that is farther away than this is not told better by showing how far.
    shown = [min(max(each, 1 / FARTHEST), FARTHEST) for each in shown]
    low, high = min([*shown, *always]), max([*shown, *always])
    room = (high / low) ** 0.12 if high > low else 1.5
    return low / room, high * room


def _borders(metric: Answer) -> list[tuple[float, str]]:
    """Return where harm begins, on the scale that is drawn."""
    borders = []
    for margin in metric["margins"]:
        if (margin["scale"] == "ratio") == _is_ratio(metric):
            borders.append((_factor(metric) * margin["value"], "margin"))
        elif "reason" not in metric["champion"] and margin["scale"] == "ratio":
            apart = (margin["value"] - 1.0) * metric["champion"]["value"]
            borders.append((_factor(metric) * apart, f"margin, {margin['value']:.3g}×"))
    return borders


def _title(found: Answer) -> str:
    versions = ", ".join(str(each["version"]) for each in found["report"]["challengers"])
    plural = "s" if "," in versions else ""
    return f"{found['name']}: version{plural} {versions} against champion {found['champion']}"


def _subtitle(found: Answer) -> str:
    level = _drawn(found)[0]["effects"][0]["level"]
    words = state_words(found)
    holding = f"{100 * level:.3g} % intervals that hold at every look"
    return f"{words[0].upper()}{words[1:]} Shaded: {holding}.\n"


def _unit(metric: Answer) -> str:
    if _is_ratio(metric):
        return "ratio"
    return "difference, points" if metric["kind"] in SHARES else "difference"


def _factor(metric: Answer) -> float:
    return 100.0 if not _is_ratio(metric) and metric["kind"] in SHARES else 1.0


def _is_ratio(metric: Answer) -> bool:
    return bool(metric["effects"][0]["scale"] == "ratio")
