"""The edge's map file: one line per model, which HAProxy reads when it starts.

Files are replaced whole: a reader sees the old one or the new one, never a part of one.
"""

import os
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

from experiments.errors import InvalidDeclaration
from experiments.model import BasisPoints, Segments, experiment_name
from registry.errors import InvalidName
from registry.refs import ModelName, Version, model_name
from serving.routes import NONE, Route, Trial, map_value, parse_unit

FIELDS = 13


class UnreadableMapLine(ValueError):
    """A line, or a value, that `render` did not write."""


def render(routes: Iterable[Route]) -> bytes:
    """Return the map file that makes HAProxy obey `routes`."""
    lines = [f"{route.model} {map_value(route)}\n" for route in routes]
    return "".join(sorted(lines)).encode()


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
    if len(fields) != FIELDS:
        raise UnreadableMapLine(f"{value!r} has {len(fields)} fields, not {FIELDS}")
    epoch, champion, previous, experiment, stage, _, *tail = fields
    try:
        route = Route(
            model=model,
            epoch=int(epoch),
            champion=Version(int(champion)),
            previous=None if previous == NONE else Version(int(previous)),
            trial=None if experiment == NONE else _trial(experiment, stage, tail),
            by="edge",
            why="read back from the edge's map file",
            at=at,
        )
    except (ValueError, InvalidDeclaration) as error:
        raise UnreadableMapLine(f"{value!r}: {error}") from error
    if map_value(route) != value:
        raise UnreadableMapLine(f"{value!r} is written otherwise: {map_value(route)!r}")
    return route


def _trial(experiment: str, stage: str, fields: list[str]) -> Trial:
    lanes, floor, cut, deadline_ms, unit, segments, salt = fields
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
        salt=salt,
        deadline=timedelta(milliseconds=int(deadline_ms)),
    )


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
