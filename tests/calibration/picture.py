"""The report at a glance: false verdicts beside alpha, and sample to a decision."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tests.calibration.judged import HARMED, PROMOTED, PROMOTED_IN_TIME, SAFE
from tests.calibration.race import FIXED, OURS, OURS_BOUNDED, OURS_UNKNOWN
from tests.calibration.report import (
    MOST_BOUNDED,
    MOST_OPEN_ENDED,
    Report,
)

INK, FAINT, OWN, OTHER, WRONG = "#222222", "#bbbbbb", "#0b6e4f", "#8d99ae", "#c1121f"
LIMITS = {OURS: MOST_OPEN_ENDED, OURS_BOUNDED: MOST_BOUNDED}
COLOURS = {PROMOTED: OWN, PROMOTED_IN_TIME: "#3a86c8", HARMED: "#e09f3e", SAFE: "#7b2d8b"}


def draw(report: Report, path: Path) -> None:
    """Write the picture."""
    figure = Figure(figsize=(17.0, 12.5), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.2, 1.0))
    _false(report, left.subplots(1, 1))
    top, bottom = right.subplots(2, 1)
    _samples(report, top)
    _courses(report, bottom)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _false(report: Report, axes: Axes) -> None:
    names = list(report.rates)
    for verdict, shift in zip(COLOURS, (-0.24, 0.0, 0.24, 0.0), strict=True):
        rows = [(i, r[verdict]) for i, r in enumerate(report.rates.values()) if verdict in r]
        if not rows:
            continue
        places = [index + shift for index, _ in rows]
        values = np.array([rate.share for _, rate in rows])
        ends = np.array([rate.interval for _, rate in rows]).T
        spread = np.maximum(np.abs(ends - values), 0.0)
        alpha = rows[0][1].alpha
        axes.errorbar(
            100 * values,
            places,
            xerr=100 * spread,
            fmt="o",
            markersize=3.5,
            linewidth=1.0,
            color=COLOURS[verdict],
            label=f"{verdict} (alpha {100 * alpha:g} %)",
        )
    axes.axvline(2.5, color=OWN, linewidth=1.0, linestyle="--")
    axes.axvline(5.0, color=COLOURS[HARMED], linewidth=1.0, linestyle="--")
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(left=-0.1)
    axes.set_xlabel(
        "runs with the false verdict at any look, %; exact 99 % intervals; dashed: alpha"
    )
    axes.set_title("False verdicts, with a look after every batch", loc="left", fontsize=11)
    axes.legend(fontsize=8, loc="upper right")
    _plain(axes)


def _samples(report: Report, axes: Axes) -> None:
    names = [_name(racer.name) for racer in report.racers]
    values = [racer.mean for racer in report.racers]
    colours = [_colour(racer.name, racer.wrong.kept) for racer in report.racers]
    axes.barh(names, values, color=colours, height=0.65)
    for index, racer in enumerate(report.racers):
        mean = f"{racer.mean:.2f}"
        axes.text(
            racer.mean - 0.03, index, mean, va="center", ha="right", fontsize=8, color="white"
        )
        wrong = f"{100 * racer.wrong.share:.1f} % wrong (alpha {100 * racer.wrong.alpha:g} %)"
        axes.text(2.2, index, wrong, va="center", ha="right", fontsize=8, color=INK)
    for index, racer in enumerate(report.racers):
        if racer.name in LIMITS:
            axes.plot([LIMITS[racer.name]] * 2, [index - 0.42, index + 0.42], color=INK, lw=2.0)
    axes.invert_yaxis()
    axes.set_xlim(0.0, 2.2)
    axes.set_xticks(np.arange(0.0, 1.51, 0.25))
    axes.tick_params(axis="y", labelsize=8)
    axes.set_xlabel(
        f"mean sample to a decision, in N = {FIXED:,.0f} units an arm; black: most allowed"
    )
    axes.set_title(
        "Finding .11 beside .10, and being wrong without an effect", loc="left", fontsize=11
    )
    _plain(axes)


def _courses(report: Report, axes: Axes) -> None:
    for racer in report.racers:
        own = racer.name in (OURS, OURS_BOUNDED, OURS_UNKNOWN)
        found = np.sort(racer.samples[racer.decided])
        part = np.arange(1, len(found) + 1) / len(racer.samples)
        axes.step(
            found,
            100 * part,
            where="post",
            color=_colour(racer.name, racer.wrong.kept),
            linewidth=2.2 if own else 1.1,
            linestyle={OURS_BOUNDED: "--", OURS_UNKNOWN: ":"}.get(racer.name, "-"),
            label=_name(racer.name) if own or not racer.wrong.kept else None,
        )
    axes.axhline(80.0, color=FAINT, linewidth=1.0)
    axes.set_xlim(0.0, 3.0)
    axes.set_ylim(0.0, 100.0)
    axes.set_xlabel("sample, in N")
    axes.set_ylabel("runs that found the effect, %")
    axes.set_title("Decided by when (grey: published alternatives)", loc="left", fontsize=11)
    axes.legend(fontsize=8, loc="lower right")
    _plain(axes)


def _name(name: str) -> str:
    return name.replace("**", "")


def _colour(name: str, kept: bool) -> str:
    if not kept:
        return WRONG
    return OWN if name in (OURS, OURS_BOUNDED, OURS_UNKNOWN) else OTHER


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", color="#eeeeee")
    axes.set_axisbelow(True)
