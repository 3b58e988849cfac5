"""How what an experiment shows has moved over time: a bounded series of points, for pictures.

Nothing is ever decided from it, so it is kept as well as can be had without delaying anybody: a
trail that is lost begins anew.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Self

MOST_POINTS = 300
"""Points that a trail has at most: more than a picture can show."""

FIRST_INTERVAL = timedelta(seconds=2)
"""Between two points at first; doubled each time that the trail is full."""


@dataclass(frozen=True, slots=True)
class TrailPoint:
    """What was shown at one moment.

    Args:
        values: Numbers by what they are about; None where nothing could be said.
    """

    at: datetime
    values: Mapping[str, tuple[float | None, ...]]


@dataclass(frozen=True, slots=True)
class Trail:
    """Points from the experiment's start to now, about equally far apart.

    Args:
        interval: How far, at least.
    """

    points: tuple[TrailPoint, ...] = ()
    interval: timedelta = FIRST_INTERVAL

    def is_due(self, now: datetime) -> bool:
        """Return whether a point at `now` would be far enough from the last."""
        return not self.points or now - self.points[-1].at >= self.interval

    def with_point(self, point: TrailPoint) -> Self:
        """Return the trail with a point added, or as it is if the last is too near.

        A full trail gives up every second point, and from then on takes half as many.

        Examples:
            >>> from datetime import UTC
            >>> began, trail = datetime(2026, 1, 1, tzinfo=UTC), Trail()
            >>> for seconds in range(0, 2 * 301, 2):
            ...     trail = trail.with_point(TrailPoint(began + timedelta(seconds=seconds), {}))
            >>> len(trail.points), trail.interval, trail.points[1].at - trail.points[0].at
            (151, datetime.timedelta(seconds=4), datetime.timedelta(seconds=4))
        """
        if not self.is_due(point.at):
            return self
        if len(self.points) < MOST_POINTS:
            return replace(self, points=(*self.points, point))
        kept = self.points[::2]
        return replace(self, points=(*kept, point), interval=2 * self.interval)
