"""What Tiltyard writes beside a model in somebody else's registry, as tags of text."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter

from registry import ChampionChange, Signature

DIGEST = "tiltyard.digest"
SIGNATURE = "tiltyard.signature"
CHAMPION = "tiltyard.champion."
HOLDOUT = "tiltyard.holdout"

_LONGEST_TEXT = 1000
"""Some registries keep no more than 5,000 bytes of a tag."""


def describe(digest: str, signature: Signature | None) -> dict[str, str]:
    """Return the tags of a version."""
    return {DIGEST: digest, SIGNATURE: _dump(Signature | None, signature)}


def description(tags: Mapping[str, str]) -> tuple[str, Signature | None] | None:
    """Return digest and signature from the tags of a version, None if it has not both."""
    if DIGEST not in tags or SIGNATURE not in tags:
        return None
    return tags[DIGEST], TypeAdapter(Signature | None).validate_json(tags[SIGNATURE])


def change(change: ChampionChange) -> tuple[str, str]:
    """Return name and value of the tag that keeps `change`; very long texts are cut."""
    short = replace(change, by=change.by[:_LONGEST_TEXT], why=change.why[:_LONGEST_TEXT])
    return f"{CHAMPION}{change.epoch:012d}", _dump(ChampionChange, short)


def changes(tags: Mapping[str, str]) -> tuple[ChampionChange, ...]:
    """Return the changes among the tags of a model, oldest first."""
    read = TypeAdapter(ChampionChange).validate_json
    return tuple(read(tags[key]) for key in sorted(tags) if key.startswith(CHAMPION))


def holdout(tags: Mapping[str, str]) -> int:
    """Return the share among the tags of a model, in basis points; 0 if it has none."""
    return int(tags.get(HOLDOUT, "0"))


def _dump(kind: Any, value: object) -> str:  # noqa: ANN401  any annotation is a kind
    return TypeAdapter(kind).dump_json(value).decode()
