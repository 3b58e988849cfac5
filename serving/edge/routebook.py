"""What an edge knows of its routes, and the two files in which it survives.

`routes.json` holds everything and is written first; `routes.map` is derived from it, for HAProxy.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from experiments.codec import decode, encode
from experiments.model import ExperimentName
from registry.refs import ModelName, Version
from serving.edge.mapfile import (
    UnreadableMapLine,
    make_durable,
    parse_line,
    render,
    replace_file,
)
from serving.routes import NOTHING_MORE, Route, Watch, Withdrawal, map_value

WATCHES_KEPT = 256
"""Experiments whose watches are remembered: their last requests may still be in the log."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Override:
    """A rollback made at this edge, until the controller has taken it over.

    Args:
        withdrawn: Versions that a person took away from traffic here.
        published: The controller can see it.
    """

    route: Route
    withdrawn: frozenset[Version]
    published: bool = False

    def is_undone_by(self, route: Route) -> bool:
        """Whether `route` would send traffic to what was withdrawn."""
        return not self.withdrawn.isdisjoint({route.champion, *route.served})


@dataclass(frozen=True, slots=True)
class Known:
    """All that the edge knows; a value, replaced whole.

    Args:
        watches: What the collector counts of every experiment seen lately, the latest last.
    """

    routes: dict[ModelName, Route] = field(default_factory=dict)
    overrides: dict[ModelName, Override] = field(default_factory=dict)
    watches: dict[ExperimentName, Watch] = field(default_factory=dict)

    @property
    def on_trial(self) -> tuple[Route, ...]:
        """The routes that an experiment has put a trial into."""
        return tuple(route for route in self.routes.values() if route.trial is not None)

    @property
    def map_values(self) -> Mapping[ModelName, str]:
        """What HAProxy's map has to hold."""
        return {model: map_value(route) for model, route in self.routes.items()}

    def is_news(self, route: Route) -> bool:
        """Whether `route` is later than what is known. Epochs never go backwards."""
        current = self.routes.get(route.model)
        return current is None or route.epoch > current.epoch

    def with_route(self, route: Route) -> "Known":
        """Obey `route`; an override of the model has then been taken over."""
        overrides = {name: it for name, it in self.overrides.items() if name != route.model}
        watches = dict(self.watches)
        if route.trial is not None:
            before = watches.pop(route.trial.experiment, NOTHING_MORE)
            # A trial that was read back from the map has lost its watch.
            watch = route.trial.watch
            watches[route.trial.experiment] = before if watch == NOTHING_MORE else watch
        kept = dict(list(watches.items())[-WATCHES_KEPT:])
        return Known({**self.routes, route.model: route}, overrides, kept)

    def without(self, model: ModelName) -> "Known":
        """Have no route of `model` any more, nor a rollback of it to hold on to."""
        routes = {name: it for name, it in self.routes.items() if name != model}
        overrides = {name: it for name, it in self.overrides.items() if name != model}
        return replace(self, routes=routes, overrides=overrides)

    def with_override(self, withdrawal: Withdrawal) -> "Known":
        """Obey a rollback made here, and hold on to it until the controller knows."""
        route = withdrawal.route
        before = self.overrides.get(route.model)
        withdrawn = frozenset(withdrawal.withdrawn) | (before.withdrawn if before else set())
        override = Override(route, withdrawn - {withdrawal.to_version})
        after = self.with_route(route)
        return replace(after, overrides={**after.overrides, route.model: override})

    def with_published(self, model: ModelName) -> "Known":
        """Note that the controller can see the override of `model`."""
        override = replace(self.overrides[model], published=True)
        return replace(self, overrides={**self.overrides, model: override})


class RouteBook:
    """`Known`, and the files that keep it.

    Attributes:
        known: What is obeyed, even where a file could not be written.
        is_written: Whether both files say so.
    """

    def __init__(self, folder: Path) -> None:
        self._document = folder / "routes.json"
        self._map = folder / "routes.map"
        self._unsettled: set[Path] = set()
        self.known = Known()
        self.is_written = False

    def load(self, now: datetime) -> None:
        """Read back what was known before; an edge without files knows nothing yet."""
        known = self._read_document()
        for route in self._read_map(now):
            if known.is_news(route):
                known = known.with_route(route)
        self.record(known)

    def record(self, known: Known) -> None:
        """Know `known` from now on, and write the files that do not say so yet.

        Raises:
            OSError: a file cannot be written. It is known all the same.
        """
        self.known = known
        self.is_written = False
        self._write(self._document, encode(Known, known))
        self._write(self._map, render(known.routes.values()))
        self.is_written = True

    def make_durable(self) -> None:
        """Let what was written survive a loss of power. Waits for the disk."""
        while self._unsettled:
            make_durable(self._unsettled.pop())

    def _write(self, path: Path, body: bytes) -> None:
        if not path.exists() or path.read_bytes() != body:
            replace_file(path, body)
            self._unsettled.add(path)

    def _read_document(self) -> Known:
        try:
            return decode(Known, self._document.read_bytes())
        except FileNotFoundError:
            return Known()
        except ValidationError:
            _log.exception("%s cannot be read; the map and the store must do", self._document)
            return Known()

    def _read_map(self, now: datetime) -> list[Route]:
        routes: list[Route] = []
        lines = self._map.read_text("utf-8", "replace").splitlines() if self._map.exists() else []
        for line in lines:
            try:
                routes.append(parse_line(line, now))
            except UnreadableMapLine:
                _log.exception("%s has a line that cannot be read", self._map)
        return routes
