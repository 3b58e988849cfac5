"""Answers of control, drawn for people. Everything that others wrote is shown as it stands."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from experiments.model import BEFORE_RAMP

Answer = dict[str, Any]

STATE_STYLES = {
    "hot": "green",
    "warm": "yellow",
    "failed": "bold red",
    "ramping": "cyan",
    "paused": "yellow",
    "halted": "bold red",
    "promoted": "green",
    "passed": "green",
    "rolled_back": "red",
}


NOTICED = 20
"""Milliseconds of waiting that a person is told of."""


def plain(columns: Iterable[str], *, title: str | None = None, whole: str | None = None) -> Table:
    """Return a table without rules, whose cells wrap where the terminal is narrow.

    Args:
        whole: The column that never wraps.
    """
    drawn = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in columns:
        drawn.add_column(column, header_style="dim", overflow="fold", no_wrap=column == whole)
    return drawn


def row(table: Table, *cells: object) -> None:
    """Add cells as they stand, without reading any markup in them."""
    table.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in cells))


def state(word: str) -> Text:
    """Return a state in its colour, loud where it matters."""
    shown = word.replace("_", " ")
    loud = word in ("hot", "warm", "failed", "halted")
    return Text(shown.upper() if loud else shown, style=STATE_STYLES.get(word, ""))


def when(text: str) -> str:
    """Write a moment for people.

    Examples:
        >>> when("2026-01-02T12:00:12.345Z")
        '2026-01-02 12:00:12 UTC'
    """
    return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M:%S} UTC"


def host(ref: str, found: Answer) -> RenderableType:
    """Say how far a version is."""
    return Text(host_words(ref, found))


def host_words(ref: str, found: Answer) -> str:
    """Say how far a version is, and what it waits for."""
    why = f": {found['reason']}" if found["reason"] else ""
    ready = f"{found['ready_replicas']} of {found['replicas']} replicas are ready"
    return f"{ref} is {found['state'].upper()}, {ready}{why}"


def promoted(found: Answer) -> RenderableType:
    """Say what a promotion has changed."""
    if not found["changed"]:
        return Text(f"{found['model']} stands for version {found['version']} already.")
    before = f"version {found['previous']}" if found["previous"] else "nothing"
    return _moved(f"{found['model']}: {before} -> version {found['version']}", found)


def held_out(found: Answer) -> RenderableType:
    """Say which share of the units never meets a challenger, and whether that is new."""
    share, before = (f"{found[which] / 100:g} %" for which in ("holdout", "before"))
    if not found["changed"]:
        return Text(f"{found['model']}: {share} of the units never meet a challenger.")
    return _moved(f"{found['model']}: holdout {before} -> {share}", found)


def rolled_back(found: Answer) -> RenderableType:
    """Say what a rollback has changed, where, and how long that took."""
    from serving.break_glass import named

    moved = f"{found['model']}: {named(found['withdrawn'])} -> version {found['to_version']}"
    return _moved(moved, found)


def _moved(moved: str, found: Answer) -> RenderableType:
    times = found.get("acknowledged") or {}
    told = [f"{edge} ({times[edge]:.1f} ms)" if len(times) > 1 else edge for edge in found["edges"]]
    edges = ", ".join(told) or "no edge: none is alive"
    lines = [Text(f"{moved} in {found['milliseconds']:.1f} ms, obeyed by {edges}")]
    if found.get("break_glass"):
        lines.append(Text("Told to this machine's edges alone; control takes it over when it can."))
    lines += [Text(f"{edge}: {why}") for edge, why in found.get("said", {}).items()]
    if silent := found["silent"]:
        said = f"No word in time from {', '.join(silent)}, which may serve the old route."
        lines.append(Text(said, style="bold red"))
    if lost := found.get("lost"):
        said = (
            f"Not waited for: {', '.join(lost)}, whose lease is over. What it still serves, if it "
            "does, is up to its partition policy; it obeys as soon as it is back."
        )
        lines.append(Text(said, style="yellow"))
    if (silent or lost) and found["waited"] > found["milliseconds"] + NOTICED:
        lines.append(Text(f"Nobody was waited for any more after {found['waited']:,.0f} ms."))
    return Group(*lines)


def system(found: Answer) -> RenderableType:
    """Draw every model, version, edge and trouble."""
    parts: list[RenderableType] = [_model(each) for each in found["models"]]
    if not parts:
        parts.append(Text("No version is deployed. Begin with `tiltyard deploy MODEL VERSION`."))
    parts.append(_edges(found["edges"]))
    for edge, at in found["lost_edges"].items():
        heard = f"{datetime.fromisoformat(at):%Y-%m-%d %H:%M} UTC"
        said = f"{edge} is lost: it was last heard of about {heard}. What it serves is not known."
        parts.append(Text(said, style="bold red"))
    if waiting := found["waiting_outcome_bytes"]:
        parts.append(Text(f"{waiting:,} bytes of outcomes wait for Redis.", style="yellow"))
    if not found["leads"]:
        parts.append(Text("This control does not lead: another decides, or the store is away."))
    for part, trouble in sorted(found["troubles"].items()):
        parts.append(Text(f"{part}: {trouble}", style="bold red"))
    return Group(*_spaced(parts))


def _model(found: Answer) -> RenderableType:
    head = Text(found["model"], style="bold")
    if found["epoch"] is None:
        head.append("  serves no traffic yet", style="yellow")
    else:
        head.append(f"  epoch {found['epoch']}", style="dim")
    if names := found["experiments"]:
        several = "s" if len(names) > 1 else ""
        head.append(f"  in the experiment{several} {', '.join(names)}", style="cyan")
    if share := found["holdout"]:
        head.append(f"  {100 * share:g} % held out", style="cyan")
    table = plain(("version", "role", "state", "replicas", "CPUs", "GPUs", "reason"))
    for each in found["hosts"]:
        replicas = f"{each['ready_replicas']} of {each['replicas']}"
        resources = (f"{each['cpus']:g}", f"{each['gpus']:g}")
        shown = state(each["state"])
        row(table, each["version"], each["role"], shown, replicas, *resources, each["reason"])
    return Group(head, table)


def _edges(found: Sequence[Answer]) -> RenderableType:
    if not found:
        return Text("No edge is alive.", style="bold red")
    table = plain(("edge", "heard of", "HAProxy", "epochs", "requests", "to count", "lost"))
    for each in found:
        up = Text("runs") if each["haproxy_up"] else Text("DOWN", style="bold red")
        epochs = ", ".join(f"{model} {epoch}" for model, epoch in sorted(each["epochs"].items()))
        backlog, lost = f"{each['backlog_bytes']:,} B", f"{each['lost_requests']:,} requests"
        if each["lost_bytes"] and not each["lost_requests"]:
            lost = f"{each['lost_bytes']:,} B"
        has_lost = each["lost_requests"] or each["lost_bytes"]
        shown_lost = Text(lost, style="bold red") if has_lost else "-"
        heard = when(each["heard_at"])
        requests = f"{each['requests_seen']:,}"
        row(table, each["edge"], heard, up, epochs or "-", requests, backlog, shown_lost)
    by_hand = [
        Text(f"{each['edge']}: {model} was rolled back at the edge itself", style="yellow")
        for each in found
        for model in each["break_glass"]
    ]
    cut_off = [Text(_cut_off(each), style="yellow") for each in found if each["cut_off"]]
    return Group(table, *by_hand, *cut_off)


def _cut_off(edge: Answer) -> str:
    served = {
        "keep": "it kept the routes that it knew",
        "champion": "nobody met a challenger there",
    }
    since, until = edge["cut_off"]["since"], edge["cut_off"]["until"]
    spell = f"from {when(since)} to {when(until)}" if until else f"since {when(since)}"
    return f"{edge['edge']}: cut off from Redis {spell}; {served[edge['policy']]}"


def history(found: Answer) -> RenderableType:
    """Draw a model's champions, its receipts, and its drills."""
    champions = plain(("epoch", "at", "champion", "by", "why"), title="Champions")
    for each in found["champions"]:
        before = each["before"] or "-"
        moved = f"{before} -> {each['after']}"
        row(champions, each["epoch"], when(each["at"]), moved, each["by"], each["why"])
    receipts = plain(("receipt", "at", "act", "experiment", "by", "why"), title="Receipts")
    for each in found["receipts"]:
        act, experiment = each["act"].replace("_", " "), each["experiment"] or "-"
        why = " ".join(each["reasons"])
        row(receipts, each["id"][:12], when(each["at"]), act, experiment, each["by"], why)
    parts = [champions, receipts]
    if found["drills"]:
        drills = plain(("at", "by", "rollbacks", "failed", "p50", "p99", "edges"), title="Drills")
        for each in found["drills"]:
            spread = each["rollback"]
            times = [f"{spread[name]:.1f} ms" if spread else "-" for name in ("p50", "p99")]
            edges = ", ".join(each["edges"]) or "-"
            counts = (f"{each['done']:,} of {each['times']:,}", each["failed"])
            row(drills, when(each["started_at"]), each["by"], *counts, *times, edges)
        parts.append(drills)
    return Group(*_spaced(parts))


def started(sentence: str, found: Answer) -> RenderableType:
    """Say that an experiment has begun, and what can be foreseen of it."""
    traffic = [Text(found["traffic"], style="dim")] if found["traffic"] else []
    warnings = [Text(f"Warning: {each}", style="bold yellow") for each in found["warnings"]]
    return Group(Text(sentence), *traffic, *warnings)


def experiments(found: Sequence[Answer]) -> RenderableType:
    """Draw a line an experiment."""
    if not found:
        return Text("There is no experiment. Begin with `tiltyard experiment start FILE`.")
    table = plain(("name", "model", "challengers", "champion", "state", "share", "started"))
    for each in found:
        versions = (challengers(each), each["champion"])
        share = f"{'shadow ' if in_shadow(each) else ''}{100 * each['share']:g} %"
        shown = state(each["state"])
        if each["incomplete"]:
            shown.append(" INCOMPLETE", style="bold red")
        row(table, each["name"], each["model"], *versions, shown, share, when(each["started_at"]))
    return table


def in_shadow(found: Answer) -> bool:
    """Return whether an experiment's present stage is one in which nobody meets a challenger."""
    return bool(found["rung"] == BEFORE_RAMP)


def challengers(found: Answer) -> str:
    """Write an experiment's challengers, `7, 8 (dropped)`."""
    dropped = found["dropped"]
    return ", ".join(f"{v} (dropped)" if v in dropped else str(v) for v in found["challengers"])


def replayed(found: Answer) -> RenderableType:
    """Say that a receipt recomputes to its own decision."""
    receipt = found["receipt"]
    act = receipt["act"].replace("_", " ")
    lines = [Text(f"Receipt {receipt['id'][:12]} comes out the same: {act}, by {receipt['by']}")]
    lines += [Text(f"  {reason}") for reason in receipt["reasons"]]
    return Group(*lines)


def outcomes(found: Answer) -> RenderableType:
    """Say what became of outcomes; each that was refused with its reason."""
    words: dict[str, int] = {}
    lines = []
    for place, each in enumerate(found["results"]):
        word = each["status"].replace("_", " ")
        words[word] = words.get(word, 0) + 1
        if "code" in each:
            said = f"outcomes[{place}]: {each['detail']} ({each['code']})"
            lines.append(Text(said, style="red"))
    summary = ", ".join(f"{count:,} {word}" for word, count in words.items())
    return Group(*lines, Text(summary or "nothing was sent"))


def _spaced(parts: Sequence[RenderableType]) -> list[RenderableType]:
    spaced: list[RenderableType] = []
    for part in parts:
        spaced += [part, Text()]
    return spaced[:-1]
