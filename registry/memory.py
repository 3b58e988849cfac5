"""The catalog, kept in this process. Artifacts stay in the folders they were registered from."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from registry import Aliases, ChampionChange, ModelVersion, Signature
from registry.digest import digest_of
from registry.errors import UnknownModel, UnknownVersion
from registry.mlmodel import describe
from registry.refs import ModelName, Version, VersionRef, users_model_name


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _read(artifact: Path) -> tuple[str, str, Signature | None]:
    signature = describe(artifact).signature
    return artifact.absolute().as_uri(), digest_of(artifact), signature


@dataclass(slots=True)
class _Registered:
    versions: list[ModelVersion] = field(default_factory=list)
    aliases: Aliases = field(default_factory=Aliases)
    changes: dict[int, ChampionChange] = field(default_factory=dict)
    holdout: int = 0


class MemoryCatalog:
    """Forgets everything with the process; for trying things out and for tests.

    Args:
        now: The clock that stamps registrations.
    """

    def __init__(self, *, now: Callable[[], datetime] = _utc_now) -> None:
        self._now = now
        self._models: dict[ModelName, _Registered] = {}

    async def register(self, model: ModelName, artifact: Path) -> ModelVersion:
        """Take the MLflow model folder `artifact`, where it is, as the next version of `model`."""
        users_model_name(model)
        location, digest, signature = await asyncio.to_thread(_read, artifact)
        known = self._models.get(model, _Registered())
        registered = ModelVersion(
            ref=VersionRef(model, Version(len(known.versions) + 1)),
            artifact=location,
            digest=digest,
            signature=signature,
            registered_at=self._now(),
        )
        known.versions.append(registered)
        self._models[model] = known
        return registered

    async def version(self, ref: VersionRef) -> ModelVersion:
        """Return what is known of `ref`."""
        return self._version(ref)

    async def models(self) -> tuple[ModelName, ...]:
        """Return every registered model, sorted."""
        return tuple(sorted(self._models))

    async def versions(self, model: ModelName) -> tuple[ModelVersion, ...]:
        """Return every version of `model`, oldest first."""
        return tuple(self._model(model).versions)

    async def aliases(self, model: ModelName) -> Aliases:
        """Return what champion, challenger and previous stand for."""
        return self._model(model).aliases

    async def set_aliases(self, model: ModelName, aliases: Aliases) -> None:
        """Make the three names stand for these versions."""
        known = self._model(model)
        for version in (aliases.champion, aliases.challenger, aliases.previous):
            if version is not None:
                self._version(VersionRef(model, version))
        known.aliases = aliases

    async def record(self, change: ChampionChange) -> None:
        """Keep `change` unless its epoch is already there."""
        self._model(change.model).changes.setdefault(change.epoch, change)

    async def history(self, model: ModelName) -> tuple[ChampionChange, ...]:
        """Return every recorded change of champion, oldest first."""
        return tuple(change for _, change in sorted(self._model(model).changes.items()))

    async def set_holdout(self, model: ModelName, points: int) -> None:
        """Keep how much of the model's units never meets a challenger."""
        self._model(model).holdout = points

    async def holdout(self, model: ModelName) -> int:
        """Return the share that was kept last."""
        return self._model(model).holdout

    def _model(self, model: ModelName) -> _Registered:
        try:
            return self._models[model]
        except KeyError:
            raise UnknownModel(f"no model is called {model!r}") from None

    def _version(self, ref: VersionRef) -> ModelVersion:
        versions = self._model(ref.model).versions
        if ref.version > len(versions):
            raise UnknownVersion(f"{ref.model} has no version {ref.version}")
        return versions[ref.version - 1]
