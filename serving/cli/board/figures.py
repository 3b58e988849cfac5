"""Numbers of a report in few characters, and reasons where there are none."""

from math import exp, floor, log10
from typing import Any

from rich.text import Text

from experiments.finding import e_text
from serving.cli.show import Answer

SHARES = ("binary", "slow", "count")
"""Kinds of metrics whose value is a share of units."""

IN_MILLISECONDS = ("quantile",)


def level(metric: Answer, arm: str) -> Text:
    """Write what an arm shows."""
    found = metric[arm]
    if "reason" in found:
        return Text("-", style="dim")
    value = found["value"]
    if metric["kind"] in SHARES:
        return Text(f"{100 * value:.3g} %")
    return Text(f"{value:.4g} ms" if metric["kind"] in IN_MILLISECONDS else f"{value:.5g}")


def size(metric: Answer, effect: Answer, *, terse: bool = False) -> Text:
    """Write an interval, or why there is none; it is never a number then.

    Args:
        terse: Without unit and reasons, which stand elsewhere.
    """
    found = effect["interval"]
    if "reason" in found:
        return Text("unknown" if terse else f"unknown: {found['reason']}", style="dim")
    write = _Writer(metric["kind"], effect["scale"], found)
    low, high, estimate = (found[each] for each in ("low", "high", "estimate"))
    after = "" if terse else write.unit
    if low is None and high is None:
        return Text("unknown: nothing bounds it yet", style="dim")
    best = f"{write(estimate)} " if estimate is not None else ""
    if high is None:
        return Text(f"{best}(at least {write(low)}){after}")
    if low is None:
        return Text(f"{best}(at most {write(high)}){after}")
    between = f"{write(low)} to {write(high)}"
    return Text(f"{best}({between}){after}" if best else f"{between}{after}")


def shrunk(metric: Answer) -> Text:
    """Write the estimate that is corrected for winner's curse, to as many places as it has."""
    found = metric["shrunk"]
    if "reason" in found:
        return Text("-", style="dim")
    main = metric["effects"][0]["interval"]
    like = {"low": None, "high": None} if "reason" in main else main
    return Text(_Writer(metric["kind"], found["scale"], like)(found["value"]))


def evidence(log_e: float | None) -> str:
    """Write an e-value.

    Examples:
        >>> evidence(None), evidence(0.0), evidence(3.7), evidence(-20.0), evidence(800.0)
        ('0', '1', '40.4', '2e-09', '10^347')
    """
    if log_e is None:
        return "0"
    return f"{exp(log_e):.0e}" if log_e < -9 else e_text(log_e)


def chance(p: float) -> str:
    """Write a p-value.

    Examples:
        >>> chance(1.0), chance(0.0213), chance(2.3e-308)
        ('1', '0.021', '<1e-300')
    """
    return "<1e-300" if p < 1e-300 else f"{p:.2g}"


class _Writer:
    """Writes differences or ratios with the digits that an interval leaves them."""

    def __init__(self, kind: str, scale: str, interval: dict[str, Any]) -> None:
        self._is_difference = scale == "difference"
        self._factor = 100.0 if self._is_difference and kind in SHARES else 1.0
        self.unit = " times" if not self._is_difference else " points" if kind in SHARES else ""
        ends = [interval[end] for end in ("low", "high") if interval[end] is not None]
        width = self._factor * abs(ends[1] - ends[0]) if len(ends) == 2 else 0.0
        fewest = 0 if self._is_difference else 2
        self._places = min(6, max(fewest, 1 - floor(log10(width)))) if width > 0 else 2

    def __call__(self, value: float) -> str:
        shown = self._factor * value
        if abs(shown) >= 1e6:
            return f"{shown:+.3g}" if self._is_difference else f"{shown:.3g}"
        sign = "+" if self._is_difference else ""
        rounded = round(shown, self._places) + 0.0  # without the sign of a zero
        return f"{rounded:{sign}.{self._places}f}"
