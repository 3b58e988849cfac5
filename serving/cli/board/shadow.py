"""A challenger in the shadow: its answers beside the champion's, to the same requests."""

from collections.abc import Iterable

from rich.console import RenderableType
from rich.text import Text

from serving.cli.board.figures import level, size
from serving.cli.show import Answer, plain, row

AGREEMENT = "agreement"
LOUD_DROPS = 0.2
"""Of the requests that were to be repeated; from here on the gate waits."""


def shadow(found: Answer, challenger: Answer) -> Iterable[RenderableType]:
    """Draw what pairs of answers show; nothing without a shadow."""
    seen = challenger["shadow"]
    if seen is None:
        return
    yield Text()
    yield _pairs(found, challenger["version"], seen)
    yield from _lines(seen)


def tests(challenger: Answer) -> list[tuple[Answer, str]]:
    """Return the tests in the shadow, and what each is about: in favour first, then harm."""
    seen = challenger["shadow"]
    if seen is None:
        return []
    about = [(each["tests"], each["metric"]) for each in seen["metrics"]]
    if seen["tests"]:
        about.append((seen["tests"], AGREEMENT))
    # Of a goal that is measured at the edge there is only harm.
    firsts = [(tests[0], metric) for tests, metric in about if len(tests) > 1]
    harms = [(tests[-1], metric) for tests, metric in about]
    return [(test, f"{metric}, shadow") for test, metric in [*firsts, *harms]]


def _pairs(found: Answer, version: int, seen: Answer) -> RenderableType:
    columns = ("bad answers", "champion", "challenger", "only one of them", "both", "difference")
    who = f"Version {version} in the shadow, against {found['champion']}"
    holds = f"{100 * seen['level']:.3g} % intervals hold at every look"
    table = plain(columns, title=f"{who}: the same requests; {holds}")
    for each in seen["metrics"]:
        metric = each | {"kind": "count"}
        alone = f"{each['champion_alone']:,} and {each['challenger_alone']:,}"
        arms = (level(metric, "champion"), level(metric, "challenger"))
        apart = size(metric, each["effects"][0])
        row(table, each["metric"], *arms, alone, f"{each['both']:,}", apart)
    return table


def _lines(seen: Answer) -> Iterable[Text]:
    agreed = _share(seen["agreement"], seen["agreement_range"])
    declared = seen["declared"]
    asked = f"; {100 * declared:g} % are declared" if declared is not None else ""
    yield Text(f"Agreement: {agreed}{asked}")
    yield Text(f"Outputs lie apart by {_mean(seen['difference'], '')}", style="dim")
    longer = _mean(seen["latency"], " ms", signed=True)
    often = "" if "reason" in seen["slower"] else "; it was slower in "
    slower = _share(seen["slower"], seen["slower_range"]) if often else ""
    yield Text(f"The challenger takes longer by {longer}{often}{slower}", style="dim")
    yield Text(f"Units with a pair: {seen['units']:,} of {seen['needed']:,}.", style="dim")
    if seen["dropped"]:
        said = f"{seen['dropped']:,} of {seen['pairs'] + seen['dropped']:,} repeated requests"
        words = f"Not compared: {said} ({100 * seen['dropped_share']:.3g} %)."
        loud = seen["dropped_share"] > LOUD_DROPS
        yield Text(
            f"{words} What is said here is said of the rest, which may be unlike them.",
            style="bold red" if loud else "yellow",
        )


def _share(found: Answer, bounds: Answer) -> str:
    if "reason" in found:
        return "nothing yet"
    return f"{found['words']}, {100 * bounds['low']:.3g} % to {100 * bounds['high']:.3g} %"


def _mean(bounds: Answer, unit: str, *, signed: bool = False) -> str:
    if "reason" in bounds:
        return f"an unknown amount ({bounds['reason']})"
    sign = "+" if signed else ""
    best, low, high = (f"{bounds[each]:{sign}.4g}" for each in ("estimate", "low", "high"))
    return f"{best}{unit} on average ({low} to {high})"
