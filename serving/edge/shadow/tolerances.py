"""What the worker has to know of experiments, as the agent has written it down."""

import logging
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from experiments.codec import decode
from experiments.model import ExperimentName
from serving.edge.routebook import Known
from serving.routes import Watch

_log = logging.getLogger(__name__)


class Tolerances:
    """Reads the agent's `routes.json`, again whenever it has been replaced."""

    def __init__(self, document: Path) -> None:
        self._document = document
        self._read: tuple[int, int] | None = None
        self._watches: Mapping[ExperimentName, Watch] = {}

    def __call__(self, experiment: ExperimentName) -> float | None:
        """Return the tolerance of an experiment, None if the agent does not know it."""
        self._refresh()
        watch = self._watches.get(experiment)
        return None if watch is None else watch.tolerance

    def _refresh(self) -> None:
        try:
            found = self._document.stat()
        except FileNotFoundError:
            return
        version = found.st_ino, found.st_mtime_ns
        if version == self._read:
            return
        self._read = version
        try:
            self._watches = decode(Known, self._document.read_bytes()).watches
        except (OSError, ValidationError):
            _log.exception("%s cannot be read; what was known stays", self._document)
