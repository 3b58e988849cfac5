"""Lanes: routes of Tiltyard's own, on which it tries itself out where no user is.

A lane is a model like any other to edges, hosts and experiments, and none to the registry. All its
hosts load the files of one users' version; what differs is the fault that is planted in each. A
lane lives as long as somebody says so every minute.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final

from registry.refs import RESERVED, ModelName, Version, VersionRef, model_name
from serving.hosts.faults import Fault

LEASE: Final = timedelta(seconds=60)
"""How long a lane stays after its holder was last heard of."""

CERTIFY: Final = "certify"
DRILL: Final = "drill"
"""What a lane may be for. One for drills has no hosts: nobody asks it anything."""

_LONGEST = 63
_DIGEST = 8

STAND_IN: Final = Version(1)
"""The lane's champion: the users' version without any fault."""

CHALLENGERS: Final = {fault: Version(2 + place) for place, fault in enumerate(Fault)}
"""The lane's version in which each fault is planted; that of `Fault.NONE` is for an A/A."""


@dataclass(frozen=True, slots=True)
class Lane:
    """Who uses a lane, and what its hosts load.

    Args:
        model: The lane's own name.
        of: The users' version: the champion when the lane was opened.
        holder: Told apart from everybody else who would like to use it.
        by: A person's name for the holder.
    """

    model: ModelName
    of: VersionRef
    holder: str
    by: str
    since: datetime


def lane_of(model: ModelName, purpose: str) -> ModelName:
    """Return the name of a model's lane.

    Examples:
        >>> lane_of(ModelName("digits"), CERTIFY)
        'tiltyard-certify-digits'
    """
    name = f"{RESERVED}{purpose}-{model}"
    if len(name) > _LONGEST:
        digest = sha256(model.encode()).hexdigest()[:_DIGEST]
        name = f"{name[: _LONGEST - _DIGEST - 1]}-{digest}"
    return model_name(name)


def has_hosts(model: str) -> bool:
    """Tell whether anybody would answer for a model: for all of them, but lanes of drills."""
    return not model.startswith(f"{RESERVED}{DRILL}-")


def is_lane(model: str) -> bool:
    """Tell whether a model is one of Tiltyard's own, which no user meets."""
    return model.startswith(RESERVED)
