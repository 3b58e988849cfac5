"""What an edge knows of its routes, and the two files in which it survives.

`routes.json` holds everything and is written first; `routes.map` is derived from it, for HAProxy.
"""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from experiments.codec import decode, encode
from experiments.model import ExperimentName
from registry.refs import ModelName, Version
from serving.edge.mapfile import (
    PARTIAL,
    UnreadableMapLine,
    make_durable,
    parse_line,
    render,
    replace_file,
)
from serving.routes import NOTHING_MORE, Route, Watch, Withdrawal, control_only, map_value

WATCHES_KEPT = 256
"""Experiments whose watches are remembered: their last requests may still be in the log."""


class UnreadableDocument(ValueError):
    """`routes.json` is of another release: all that is looked for in it is missing."""


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
        partial: Models whose route is not all there, because it was read back from a map without
            trials.
    """

    routes: dict[ModelName, Route] = field(default_factory=dict)
    overrides: dict[ModelName, Override] = field(default_factory=dict)
    watches: dict[ExperimentName, Watch] = field(default_factory=dict)
    partial: frozenset[ModelName] = frozenset()

    @property
    def on_trial(self) -> tuple[Route, ...]:
        """The routes that an experiment has put a trial into."""
        return tuple(route for route in self.routes.values() if route.trials)

    def is_news(self, route: Route) -> bool:
        """Whether `route` is later than what is known, or completes it. No epoch goes backwards."""
        current = self.routes.get(route.model)
        if current is not None and route.model in self.partial:
            return route.epoch >= current.epoch
        return current is None or route.epoch > current.epoch

    def with_route(self, route: Route) -> "Known":
        """Obey `route`; an override of the model has then been taken over."""
        overrides = {name: it for name, it in self.overrides.items() if name != route.model}
        watches = dict(self.watches)
        for trial in route.trials:
            before = watches.pop(trial.experiment, NOTHING_MORE)
            # A trial that was read back from the map has lost its watch.
            watch = trial.watch
            watches[trial.experiment] = before if watch == NOTHING_MORE else watch
        kept = dict(list(watches.items())[-WATCHES_KEPT:])
        partial = self.partial - {route.model}
        return Known({**self.routes, route.model: route}, overrides, kept, partial)

    def without(self, model: ModelName) -> "Known":
        """Have no route of `model` any more, nor a rollback of it to hold on to."""
        routes = {name: it for name, it in self.routes.items() if name != model}
        overrides = {name: it for name, it in self.overrides.items() if name != model}
        return replace(self, routes=routes, overrides=overrides, partial=self.partial - {model})

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
        is_blank: Nothing was ever known here, not even that there is nothing to know.
        is_whole: Nothing that was known here before can be missing.
        is_fenced: No challenger may meet anybody here, so HAProxy is told of no trial.
    """

    def __init__(self, folder: Path) -> None:
        self._document = folder / "routes.json"
        self._map = folder / "routes.map"
        self._unsettled: set[Path] = set()
        self._is_written = False
        self.known = Known()
        self.is_blank = True
        self.is_whole = False
        self.is_fenced = False

    @property
    def map_values(self) -> Mapping[ModelName, str]:
        """What HAProxy's map has to hold."""
        return {route.model: map_value(route) for route in self._obeyed()}

    @property
    def why_blank(self) -> str:
        """Why the files do not tell what to obey."""
        there = self._map.exists()
        return "The map file here cannot be read" if there else "There is no map file here"

    @property
    def is_written(self) -> bool:
        """Whether both files are there and say what is known."""
        return self._is_written and self._document.exists() and self._map.exists()

    def load(self, now: datetime) -> None:
        """Read back what was known before; an edge without files knows nothing yet.

        Files from which nothing can be read say nothing, not even that there is nothing to know:
        they stay as they are.
        """
        found = self._read_document()
        lines = self._read_map()
        routes = list(_parsed(lines, now))
        # Of a map that was cut off behind a line nobody can tell.
        self.is_whole = found is not None
        if found is None and not routes:
            return
        known = found or Known()
        for route in routes:
            if known.is_news(route):
                known = known.with_route(route)
                if PARTIAL in lines:
                    known = replace(known, partial=known.partial | {route.model})
        self.record(known)

    def record(self, known: Known) -> None:
        """Know `known` from now on, and write the files that do not say so yet.

        Raises:
            OSError: a file cannot be written. It is known all the same.
        """
        self.known = known
        self.is_blank = self._is_written = False
        self._write(self._document, encode(Known, known))
        self._write(self._map, render(self._obeyed(), partial=self.is_fenced))
        self._is_written = True

    def fence(self, is_fenced: bool) -> None:
        """Tell HAProxy of no trial from the next `record` on, or of all."""
        self._is_written = self._is_written and is_fenced == self.is_fenced
        self.is_fenced = is_fenced

    def _obeyed(self) -> Iterable[Route]:
        routes = self.known.routes.values()
        return map(control_only, routes) if self.is_fenced else routes

    def make_durable(self) -> None:
        """Let what was written survive a loss of power. Waits for the disk."""
        while self._unsettled:
            make_durable(self._unsettled.pop())

    def _write(self, path: Path, body: bytes) -> None:
        if not path.exists() or path.read_bytes() != body:
            replace_file(path, body)
            self._unsettled.add(path)

    def _read_document(self) -> Known | None:
        try:
            document = self._document.read_bytes()
            known = decode(Known, document)
            if "routes" not in json.loads(document):
                raise UnreadableDocument
            return known
        except FileNotFoundError:
            return None
        except (ValidationError, UnreadableDocument):
            _log.exception("%s cannot be read; the map and the store must do", self._document)
            return None

    def _read_map(self) -> list[str]:
        """Return the lines of the map; what no line end follows was cut off, and says nothing."""
        if not self._map.exists():
            return []
        *lines, torn = self._map.read_text("utf-8", "replace").split("\n")
        if torn:
            _log.error("%s was cut off in its last line", self._map)
        return lines


def _parsed(lines: Iterable[str], now: datetime) -> Iterator[Route]:
    for line in lines:
        try:
            if line != PARTIAL:
                yield parse_line(line, now)
        except UnreadableMapLine:
            _log.exception("the map file has a line that cannot be read")
