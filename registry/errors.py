"""What can go wrong with names, versions and artifacts.

TiltyardError                every error that Tiltyard raises on purpose
├── InvalidName              not a model name or version
├── UnknownModel             no such registered model
├── UnknownVersion           the model has no such version
├── CorruptArtifact          the artifact is not the one that was registered
├── UnreadableModel          the artifact is no model that can be loaded and described
├── InvalidInput             tensors that the model does not take
└── CatalogUnavailable       the registry cannot be reached

`experiments.errors` and `serving.errors` hang their own branches on the same root.
"""

from typing import ClassVar


class TiltyardError(Exception):
    """Says what happened, and what to do next; `code` is stable and for programs."""

    code: ClassVar[str] = "error"
    next_step: ClassVar[str] = ""

    def __init__(self, message: str, *, next_step: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = self.next_step if next_step is None else next_step


class InvalidName(TiltyardError):
    code = "invalid_name"
    next_step = "Use lower-case letters, digits, '-' and '_', and versions that count from 1."


class UnknownModel(TiltyardError):
    code = "unknown_model"
    next_step = "`tiltyard status` lists the models that are known."


class UnknownVersion(TiltyardError):
    code = "unknown_version"
    next_step = "`tiltyard status` lists the versions that are known."


class CorruptArtifact(TiltyardError):
    code = "corrupt_artifact"
    next_step = "Register the model again; do not repair the stored files by hand."


class UnreadableModel(TiltyardError):
    code = "unreadable_model"
    next_step = "Log the model with MLflow, with a signature and an input example."


class InvalidInput(TiltyardError):
    code = "invalid_input"
    next_step = "Send the names, datatypes and shapes that the model's metadata lists."


class CatalogUnavailable(TiltyardError):
    code = "catalog_unavailable"
    next_step = "Traffic is served as before and rollback works; try again when MLflow is back."
