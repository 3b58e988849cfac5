"""Pictures: what many numbers look like at once. Drawn without a screen, and nothing is global."""

from collections.abc import Sequence
from math import log
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.model import BEFORE_RAMP, Declaration
from experiments.simulation import End, Run, Truth

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {
    End.PROMOTED: "#0077bb",
    End.PASSED: "#0077bb",
    End.ROLLED_BACK: "#cc3311",
    End.INCONCLUSIVE: "#888888",
    End.HALTED: "#ee9933",
}
"""Told apart by eyes of every kind."""

INK, PALE, BAND = "#222222", "#bbbbbb", "#f1f3f6"
DOTS_PER_INCH = 130
_DECADE = log(10)
_LEAST_E = -2.5
_BINS = 40


def panels(
    heights: Sequence[float], *, title: str, subtitle: str = "", width: float = 10.0
) -> "tuple[Figure, list[Axes]]":
    """Return a figure with one panel below the other, on one horizontal axis.

    Args:
        heights: Of the panels, in inches.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, sum(heights) + 1.0), layout="constrained", dpi=DOTS_PER_INCH)
    figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold", color=INK)
    rows = figure.subplots(
        len(heights), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": list(heights)}
    )
    axes: list[Axes] = [each[0] for each in rows]
    axes[0].set_title(subtitle, loc="left", fontsize=10, color="#555555")
    for each in axes:
        for side in ("top", "right"):
            each.spines[side].set_visible(False)
        for side in ("left", "bottom"):
            each.spines[side].set_color(PALE)
        each.tick_params(colors="#555555", labelsize=9)
        each.yaxis.label.set_color(INK)
    return figure, axes


def save(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG.

    Raises:
        OSError: the file cannot be written.
    """
    figure.savefig(path, format="png", facecolor="white")


def threshold(axes: "Axes", height: float, words: str) -> None:
    """Draw the line from which on a test has spoken."""
    axes.axhline(height, color=INK, linewidth=1.0, linestyle=(0, (5, 3)), zorder=4)
    axes.annotate(
        words,
        (0.006, height),
        xycoords=("axes fraction", "data"),
        xytext=(0, 3),
        textcoords="offset points",
        fontsize=8.5,
        color=INK,
        zorder=5,
    )


def draw_simulation(
    path: Path, declaration: Declaration, truth: Truth, runs: Sequence[Run]
) -> None:
    """Draw how the evidence of each run went, what ended it, and when.

    Raises:
        OSError: the file cannot be written.
    """
    figure, (benefit, harm, when) = panels(
        (2.9, 2.2, 1.7), title=_title(declaration, truth, runs), subtitle=_counted(runs)
    )
    watched = [run for run in runs if run.path]
    _shade(declaration, runs, (benefit, harm, when))
    _benefit(benefit, declaration, watched)
    _harm(harm, declaration, watched)
    _when(when, runs)
    save(figure, path)


def _title(declaration: Declaration, truth: Truth, runs: Sequence[Run]) -> str:
    effect = "no effect (A/A)"
    if truth.effect:
        effect = f"{declaration.sought.metric.key} {100 * truth.effect:+.4g} %"
    elif truth.agreement < 1.0:
        effect = f"{100 * truth.agreement:.4g} % agree in the shadow"
    harm = "".join(f", {key} x {factor:g}" for key, factor in truth.harm.items())
    plural = "s" if len(runs) > 1 else ""
    return f"{declaration.name}: {len(runs):,} simulated experiment{plural}, {effect}{harm}"


def _counted(runs: Sequence[Run]) -> str:
    counts = {end: sum(run.end is end for run in runs) for end in End}
    return ", ".join(
        f"{count:,} {end.replace('_', ' ')} ({100 * count / len(runs):.3g} %)"
        for end, count in counts.items()
        if count
    )


def _shade(declaration: Declaration, runs: Sequence[Run], panels: "Sequence[Axes]") -> None:
    """Shade every second stage, from where it opened in the run in the middle."""
    from statistics import median

    edges = []
    for rung in range(BEFORE_RAMP, len(declaration.ramp) + 1):
        opened = [stage.units for run in runs for stage in run.stages if stage.rung == rung]
        if opened:
            edges.append((rung, max(median(opened), _first_look(runs))))
    end = max(_last_look(run) for run in runs) * 1.05
    for place, (rung, start) in enumerate(edges):
        stop = edges[place + 1][1] if place + 1 < len(edges) else end
        if stop <= start:
            continue
        if place % 2 == 0:
            for axes in panels:
                axes.axvspan(start, stop, color=BAND, linewidth=0, zorder=0)
        words = "shadow" if rung == BEFORE_RAMP else "holdback"
        if 0 <= rung < len(declaration.ramp):
            words = f"{declaration.ramp[rung] / 100:g} %"
        panels[0].annotate(
            words,
            (start, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(3, -11),
            textcoords="offset points",
            fontsize=8.5,
            color="#777777",
            annotation_clip=True,
        )
    for axes in panels:
        axes.set_xscale("log")
        axes.set_xlim(_first_look(runs), end)


def _benefit(axes: "Axes", declaration: Declaration, runs: Sequence[Run]) -> None:
    """Draw the goal's evidence up to each verdict, in powers of ten or as z-scores."""
    open_ended = declaration.horizon is None
    needed = log(1 / declaration.alpha.promote) / _DECADE
    unit = _DECADE if open_ended else 1.0
    low, high = (_LEAST_E, 2.0 * needed + 0.5) if open_ended else (-3.5, 6.0)
    for run in runs:
        seen = [
            (point.units, point.benefit / unit)
            for point in run.path
            if point.benefit is not None and point.units <= run.units
        ]
        _path(axes, run, seen, low, high)
    axes.set_ylim(low, high)
    if open_ended:
        verdict = "pass" if declaration.shadow_only else "promote"
        threshold(axes, needed, f"{verdict}: e = {1 / declaration.alpha.promote:g}")
        axes.set_ylabel("benefit: log10 e")
    else:
        _boundary(axes, runs)
        axes.set_ylabel("benefit: z")


def _boundary(axes: "Axes", runs: Sequence[Run]) -> None:
    """Draw what each look needs, from the run that took the most looks."""
    steps: list[tuple[int, float]] = []
    for run in runs:
        found = [(point.units, point.needed) for point in run.path if point.needed is not None]
        if found and (not steps or found[-1][1] < steps[-1][1]):
            last = next(place for place, step in enumerate(found) if step[1] == found[-1][1])
            steps = found[: last + 1]
    if not steps:
        return
    axes.plot(*zip(*steps, strict=True), color=INK, linewidth=1.2, linestyle=(0, (5, 3)), zorder=4)
    visible = next((step for step in steps if step[1] <= axes.get_ylim()[1]), steps[-1])
    axes.annotate(
        "promote: z above this",
        visible,
        xytext=(-4, -10),
        textcoords="offset points",
        ha="right",
        fontsize=8.5,
        color=INK,
        zorder=5,
    )


def _harm(axes: "Axes", declaration: Declaration, runs: Sequence[Run]) -> None:
    needed = log(1 / declaration.alpha.harm) / _DECADE
    high = 2.0 * needed + 0.5
    for run in runs:
        seen = [(point.units, point.harm / _DECADE) for point in run.path]
        _path(axes, run, seen, _LEAST_E, high)
    axes.set_ylim(_LEAST_E, high)
    threshold(axes, needed, f"roll back: e = {1 / declaration.alpha.harm:g}")
    axes.set_ylabel("harm: log10 e")


def _path(
    axes: "Axes", run: Run, seen: Sequence[tuple[int, float]], low: float, high: float
) -> None:
    """Draw one run as a thin line; what leaves the panel ends at its border."""
    if not seen:
        return
    units = [each for each, _ in seen]
    heights = [min(max(height, low), high) for _, height in seen]
    colour = COLOURS[run.end]
    axes.plot(units, heights, color=colour, linewidth=0.7, alpha=0.35, zorder=2)
    axes.plot(units[-1:], heights[-1:], "o", color=colour, markersize=2.6, alpha=0.8, zorder=3)


def _when(axes: "Axes", runs: Sequence[Run]) -> None:
    """Draw how many runs ended when, by how they did."""
    import numpy as np

    first, last = axes.get_xlim()
    ends = [end for end in End if any(run.end is end for run in runs)]
    axes.hist(
        [[max(run.units, first) for run in runs if run.end is end] for end in ends],
        bins=list(np.geomspace(first, last, _BINS)),
        stacked=True,
        color=[COLOURS[end] for end in ends],
        label=[end.replace("_", " ") for end in ends],
    )
    axes.set_ylabel("runs decided")
    axes.set_xlabel("units that had arrived", color=INK)
    axes.xaxis.set_major_formatter(lambda units, _: f"{units:,.0f}")
    axes.legend(loc="upper left", fontsize=8.5, frameon=False)


def _first_look(runs: Sequence[Run]) -> float:
    return max(1.0, min((run.path[0].units for run in runs if run.path), default=1))


def _last_look(run: Run) -> int:
    return max(run.units, run.path[-1].units if run.path else 0)
