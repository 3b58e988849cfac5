"""WHICH versions exist and what each name stands for.

`Catalog` is the port; `registry.mlflow` and `registry.memory` are its adapters.
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from registry.refs import ModelName, Version, VersionRef


@dataclass(frozen=True, slots=True)
class Tensor:
    """One named input or output, in the words of the Open Inference Protocol.

    Args:
        datatype: An Open Inference Protocol v2 datatype, such as `FP64` or `BYTES`.
        shape: Extent per dimension; -1 where it varies (the first is the batch).
    """

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Signature:
    """What a version takes and gives. Two versions compare only if these are equal."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A registered version, as the catalog knows it.

    Args:
        artifact: Where the files are, as a URI that a host can download.
        digest: `sha256:...` over the files at registration.
        signature: None if the model was logged without one.
    """

    ref: VersionRef
    artifact: str
    digest: str
    signature: Signature | None
    registered_at: datetime


@dataclass(frozen=True, slots=True)
class Aliases:
    """What the names of a model stand for; None where a name stands for nothing."""

    champion: Version | None = None
    challenger: Version | None = None
    previous: Version | None = None


@dataclass(frozen=True, slots=True)
class ChampionChange:
    """One line of a model's history: who made which version the champion, when and why.

    Args:
        epoch: The route that made the change; a change is known by (model, epoch).
        before: The champion until then; None for a model's first.
    """

    model: ModelName
    epoch: int
    before: Version | None
    after: Version
    by: str
    why: str
    at: datetime


class Catalog(Protocol):
    """The registry of versions. Every method may raise `CatalogUnavailable`."""

    async def register(self, model: ModelName, artifact: Path) -> ModelVersion:
        """Store the MLflow model folder `artifact` as the next version of `model`.

        Raises:
            UnreadableModel: the folder holds no MLflow model.
        """

    async def version(self, ref: VersionRef) -> ModelVersion:
        """Return what is known of `ref`.

        A version that was registered by other means, so without a digest, is given one now.

        Raises:
            UnknownModel: nothing is registered under the name.
            UnknownVersion: the model has no such version.
        """

    async def models(self) -> tuple[ModelName, ...]:
        """Return every registered model, sorted."""

    async def versions(self, model: ModelName) -> tuple[ModelVersion, ...]:
        """Return every version of `model`, oldest first.

        Raises:
            UnknownModel: nothing is registered under the name.
        """

    async def aliases(self, model: ModelName) -> Aliases:
        """Return what champion, challenger and previous stand for.

        Raises:
            UnknownModel: nothing is registered under the name.
        """

    async def set_aliases(self, model: ModelName, aliases: Aliases) -> None:
        """Make the three names stand for these versions; None removes a name. Idempotent.

        Raises:
            UnknownModel: nothing is registered under the name.
            UnknownVersion: an alias names a version that does not exist; nothing is changed.
        """

    async def record(self, change: ChampionChange) -> None:
        """Keep `change` in the model's history; the same (model, epoch) again is ignored.

        Raises:
            UnknownModel: nothing is registered under the name.
        """

    async def history(self, model: ModelName) -> tuple[ChampionChange, ...]:
        """Return every recorded change of champion, oldest first.

        Raises:
            UnknownModel: nothing is registered under the name.
        """

    async def set_holdout(self, model: ModelName, points: int) -> None:
        """Keep how much of the model's units never meets a challenger, in basis points.

        Raises:
            UnknownModel: nothing is registered under the name.
        """

    async def holdout(self, model: ModelName) -> int:
        """Return the share that was kept last, in basis points; 0 if none ever was.

        Raises:
            UnknownModel: nothing is registered under the name.
        """
