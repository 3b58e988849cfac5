"""Names of models and versions: the words every other package uses."""

import re
from dataclasses import dataclass
from typing import NewType, Self

from registry.errors import InvalidName

ModelName = NewType("ModelName", str)
Version = NewType("Version", int)

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")

RESERVED = "tiltyard-"
"""How the names of Tiltyard's own models begin: lanes, which no user meets. None is registered."""


def model_name(text: str) -> ModelName:
    """Return `text` as a model name.

    Names travel in URL paths, map files and signed tokens, so they are kept to lower-case
    letters, digits, `-` and `_`, at most 63 characters.

    Raises:
        InvalidName: `text` is no such name.

    Examples:
        >>> model_name("digits")
        'digits'
    """
    if not _NAME.fullmatch(text):
        raise InvalidName(f"{text!r} is not a name")
    return ModelName(text)


def users_model_name(text: str) -> ModelName:
    """Return `text` as the name of a model that people may register, deploy and declare.

    Raises:
        InvalidName: `text` is no model name, or one that Tiltyard keeps for itself.

    Examples:
        >>> users_model_name("digits")
        'digits'
    """
    if text.startswith(RESERVED):
        raise InvalidName(
            f"{text!r} is a name that Tiltyard keeps for itself",
            next_step=f"Use a name that does not begin with {RESERVED!r}.",
        )
    return model_name(text)


def is_model_name(text: str) -> bool:
    """Say whether `model_name` takes `text`."""
    return _NAME.fullmatch(text) is not None


def is_users_model_name(text: str) -> bool:
    """Say whether `users_model_name` takes `text`."""
    return is_model_name(text) and not text.startswith(RESERVED)


@dataclass(frozen=True, slots=True, order=True)
class VersionRef:
    """One immutable version of one model, written `digits/2`."""

    model: ModelName
    version: Version

    def __post_init__(self) -> None:
        model_name(self.model)
        if self.version < 1:
            raise InvalidName(f"{self.version!r} is not a version: versions count from 1")

    def __str__(self) -> str:
        return f"{self.model}/{self.version}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` wrote.

        Raises:
            InvalidName: `text` is not of the form `model/version`.
        """
        model, _, version = text.partition("/")
        if not re.fullmatch(r"[1-9][0-9]{0,8}", version):
            raise InvalidName(f"{text!r} is not of the form model/version")
        return cls(model_name(model), Version(int(version)))
