"""The edge's map file: one line per model, which HAProxy reads when it starts.

Files are replaced whole: a reader sees the old one or the new one, never a part of one.
"""

import os
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import unquote

from experiments.audience import parse_audience
from experiments.errors import InvalidDeclaration
from experiments.model import BasisPoints, Layer, Segments, experiment_name
from experiments.unit import parse_unit
from registry.errors import InvalidName
from registry.refs import ModelName, Version, model_name
from serving.routes import NONE, SHADOW, Route, Trial, map_value

HEAD_FIELDS, TRIAL_FIELDS = 4, 14


class UnreadableMapLine(ValueError):
    """A line, or a value, that `render` did not write."""


PARTIAL = "# without trials: this edge is cut off from the store"
"""Last line of a map file that does not hold all there is to its routes; HAProxy ignores it."""


def render(routes: Iterable[Route], *, partial: bool = False) -> bytes:
    """Return the map file that makes HAProxy obey `routes`.

    Args:
        partial: Trials were left out.
    """
    lines = sorted(f"{route.model} {map_value(route)}\n" for route in routes)
    return "".join([*lines, f"{PARTIAL}\n"] if partial else lines).encode()


def parse_line(line: str, at: datetime) -> Route:
    """Return the route that a line of the map stands for.

    The map holds what a request needs, so who changed the route, why, and what the collector is to
    count are lost.

    Raises:
        UnreadableMapLine: `render` wrote no such line.
    """
    model, _, value = line.strip().partition(" ")
    try:
        return parse_value(model_name(model), value.strip(), at)
    except InvalidName as error:
        raise UnreadableMapLine(f"{line!r} begins with no model") from error


def parse_value(model: ModelName, value: str, at: datetime) -> Route:
    """Return the route of `model` that `map_value` wrote as `value`.

    Raises:
        UnreadableMapLine: `map_value` wrote no such value.
    """
    fields = value.split("|")
    if len(fields) < HEAD_FIELDS or (len(fields) - HEAD_FIELDS) % TRIAL_FIELDS:
        raise UnreadableMapLine(f"{value!r} has {len(fields)} fields")
    epoch, champion, previous, holdout = fields[:HEAD_FIELDS]
    starts = range(HEAD_FIELDS, len(fields), TRIAL_FIELDS)
    try:
        route = Route(
            model=model,
            epoch=int(epoch),
            champion=Version(int(champion)),
            previous=None if previous == NONE else Version(int(previous)),
            trials=tuple(_trial(fields[start : start + TRIAL_FIELDS]) for start in starts),
            by="edge",
            why="read back from the edge's map file",
            at=at,
            holdout=BasisPoints(int(holdout)),
        )
    except (ValueError, InvalidDeclaration) as error:
        raise UnreadableMapLine(f"{value!r}: {error}") from error
    if map_value(route) != value:
        raise UnreadableMapLine(f"{value!r} is written otherwise: {map_value(route)!r}")
    return route


def _trial(fields: list[str]) -> Trial:
    experiment, stage, _, lanes, floor, cut, deadline_ms, *tail = fields
    unit, segments, audience, layer, mode, budget, salt = tail
    signed = [int(version) for version in lanes.split(",")]
    return Trial(
        experiment=experiment_name(experiment),
        stage=int(stage),
        challengers=tuple(Version(abs(version)) for version in signed),
        dropped=tuple(Version(-version) for version in signed if version < 0),
        cut=BasisPoints(int(cut)),
        floor=BasisPoints(int(floor)),
        unit=parse_unit(unit),
        segments=_segments(segments),
        audience=None if audience == NONE else parse_audience(audience),
        layer=_layer(layer),
        shadow=mode == SHADOW,
        budget=BasisPoints(int(budget)),
        salt=unquote(salt),
        deadline=timedelta(milliseconds=int(deadline_ms)),
    )


def _layer(text: str) -> Layer | None:
    if text == NONE:
        return None
    name, _, part = text.rpartition(":")
    low, _, high = part.partition("-")
    return Layer(name, BasisPoints(int(low)), BasisPoints(int(high)))


def _segments(text: str) -> Segments | None:
    if text == NONE:
        return None
    header, colon, values = text.partition(":")
    if not colon:
        raise ValueError(f"{text!r} are no segments")
    return Segments(header, tuple(values.split(",")))


def replace_file(path: Path, body: bytes) -> None:
    """Put `body` in the place of whatever `path` holds, in one step.

    A killed process leaves the old file or the new one. What a machine that loses its power
    leaves is settled by `make_durable`, which may wait for the disk and so is called later,
    out of the way of a rollback.
    """
    new = path.with_name(path.name + ".new")
    new.write_bytes(body)
    new.replace(path)


def make_durable(path: Path) -> None:
    """Wait until `path`, as it is now, would survive a loss of power."""
    for place, flags in ((path, os.O_RDONLY), (path.parent, os.O_RDONLY | os.O_DIRECTORY)):
        descriptor = os.open(place, flags)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
