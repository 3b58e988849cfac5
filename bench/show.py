"""Results as tables for people."""

from collections.abc import Iterator

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from bench.results import BARS, Results
from bench.rounds import CONNECTIONS

TITLES = {
    "edge": "Tiltyard's edge, in an experiment",
    "bare": "bare Ray Serve, the same two hosts",
    "bare_one": "bare Ray Serve, one host alone",
    "handles": "ingress and handles, optimised",
    "handles_default": "ingress and handles, defaults",
    "mlserver_1": "MLServer, 1 worker",
    "mlserver_2": "MLServer, 2 workers",
    "bentoml_1": "BentoML, 1 worker",
    "bentoml_2": "BentoML, 2 workers",
    "litserve_1": "LitServe, 1 worker",
    "litserve_2": "LitServe, 2 workers",
}

SIZES = {"small": "64 floats", "large": "1 MB"}

COLORS = {"aim": "green", "bar": "yellow", "missed": "bold red", "not measured": "dim"}


def show(results: Results, console: Console) -> None:
    """Print everything that a person wants to know."""
    for size, title in SIZES.items():
        console.print(_throughput(results, size, title))
    console.print(_bars(results))
    console.print(Group(*_sentences(results)))


def _throughput(results: Results, size: str, title: str) -> Table:
    table = Table(title=f"{title}: right answers a second, p50; least to most", box=box.SIMPLE)
    table.add_column("")
    for connections in CONNECTIONS:
        table.add_column(f"{connections} connection{'s' * (connections > 1)}", justify="right")
    for target, name in TITLES.items():
        found = results["throughput"].get(target, {}).get(size, {})
        cells = [_cell(found.get(str(connections))) for connections in CONNECTIONS]
        if found:
            table.add_row(name, *cells)
    return table


def _cell(found: dict[str, dict[str, float]] | None) -> str:
    if not found:
        return "-"
    rate, p50 = found["per_second"], found["p50_ms"]["median"]
    wrong = f"\n[red]{found['failures']} failed[/]" if found["failures"] else ""
    spread = f"[dim]{rate['min']:,.0f} to {rate['max']:,.0f}[/]"
    return f"{rate['median']:,.0f}  {p50:.2f} ms\n{spread}{wrong}"


def _bars(results: Results) -> Table:
    table = Table(title="The edge, held against its bars", box=box.SIMPLE)
    for name in ("", "measured", "at least", "aim", ""):
        table.add_column(name, justify="left" if not name else "right")
    for bar in BARS:
        found, verdict = bar.read(results), bar.verdict(results)
        measured = "-" if found is None else f"{found:,.4g}" if found < 1000 else f"{found:,.0f}"
        marked = Text(verdict, style=COLORS[verdict])
        table.add_row(bar.what, measured, f"{bar.least:,g}", f"{bar.aim:,g}", marked)
    return table


def _sentences(results: Results) -> Iterator[str]:
    generator = results["generator"]
    ceilings = ", ".join(f"{n}: {rate:,.0f}/s" for n, rate in generator["per_second"].items())
    yield f"Load generator: {generator['name']}; before HAProxy's `return 200` alone: {ceilings}."
    if held_back := generator["held_back"]:
        yield f"[bold red]The generator itself may hold back: {', '.join(held_back)}.[/]"
    yield f"{results['rounds']} rounds of {results['seconds']} s a figure. {results['turns']}"
    for edges, found in results["rollback_ms"].get("by_edges", {}).items():
        yield (
            f"Rollback under load, edges: {edges}; p50 {found['p50']:.1f} ms, p99 "
            f"{found['p99']:.1f} ms of {found['drills']} drills; of {found['requests']:,} requests "
            f"{found['failed_requests']} failed."
        )
    for fault, found in results["faults"].items():
        yield (
            f"Challenger {fault}: the champion answered {found['rescued']:,} of "
            f"{found['answers']:,} requests in its place; users saw {found['failures']} failures."
        )
    for process, sizes in results["memory_mb"].items():
        yield f"Memory of {process}: {' -> '.join(f'{size:,.0f}' for size in sizes.values())} MB"
    yield f"Start: {results['start_seconds']} s until everything is ready."
    if evidence := results["evidence"]:
        yield (
            f"Evidence: {evidence['answered']:,} requests were answered, {evidence['counted']:,} "
            f"counted (whoever left before the answer, too), {evidence['lost_bytes']} bytes lost."
        )
    for name, why in results["missing"].items():
        yield f"[bold red]Missing: {name}: {why}[/]"
