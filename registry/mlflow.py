"""The catalog, kept in MLflow; and loading and saving models in MLflow's format.

MLflow takes seconds to import and reads its configuration from the environment as it is
imported, so every function here imports it when called, after `configure_process` (`quietly`).
"""

import asyncio
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, closing, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

from registry import Aliases, ChampionChange, ModelVersion, Signature, tags
from registry.artifacts import copy_folder, locked, verified_copy
from registry.digest import digest_of
from registry.errors import (
    CatalogUnavailable,
    CorruptArtifact,
    TiltyardError,
    UnknownModel,
    UnknownVersion,
    UnreadableModel,
)
from registry.loaded import LoadedModel, loaded_pyfunc
from registry.mlflow_process import quietly
from registry.mlmodel import describe
from registry.pickling import Predictor, Rows, by_value, python_model
from registry.refs import ModelName, Version, VersionRef, is_users_model_name, users_model_name

T = TypeVar("T")

EXPERIMENT = "tiltyard"
"""MLflow experiment whose runs hold the artifacts that Tiltyard registered."""

_ARTIFACT_PATH = "model"
# In the order of writing: after a crash between two, the way back stands already.
_ALIASES = ("previous", "champion", "challenger")

_SQLITE = "sqlite:///"
_NOT_THERE = "RESOURCE_DOES_NOT_EXIST"
_THERE_ALREADY = "RESOURCE_ALREADY_EXISTS"


class MlflowCatalog:
    """Versions, aliases and history in an MLflow registry; digests and signatures as tags.

    Registered models whose names are not Tiltyard's (`registry.refs`) are left alone. A change
    of aliases writes only what differs, and may be repeated after a crash.
    """

    def __init__(self, client: Any, tracking_uri: str, artifact_root: str | None) -> None:  # noqa: ANN401
        self._client = client
        self._tracking_uri = tracking_uri
        self._artifact_root = artifact_root

    @classmethod
    @asynccontextmanager
    async def open(cls, tracking_uri: str, artifact_dir: Path) -> AsyncIterator[Self]:
        """Use the MLflow at `tracking_uri`.

        A tracking server is not contacted yet. The database of an embedded MLflow is created
        if it is not there (seconds, the first time), by one process at a time.

        Args:
            tracking_uri: `sqlite:///...` or the `http(s)://...` of a tracking server.
            artifact_dir: Where an embedded MLflow puts artifacts; a server knows its own place.

        Raises:
            CatalogUnavailable: the embedded database cannot be opened.
        """
        yield cls(*await asyncio.to_thread(_connect, tracking_uri, artifact_dir))

    async def register(self, model: ModelName, artifact: Path) -> ModelVersion:
        """Store the MLflow model folder `artifact` as the next version of `model`."""
        return await self._call(self._register, model, artifact)

    async def version(self, ref: VersionRef) -> ModelVersion:
        """Return what is known of `ref`; a version without a digest is given one now.

        Raises:
            UnreadableModel: registered by other means, and its files are no servable model.
        """
        return await self._call(lambda: self._described(self._find(ref)))

    async def models(self) -> tuple[ModelName, ...]:
        """Return every registered model with a name of Tiltyard's, sorted."""
        return await self._call(self._models)

    async def versions(self, model: ModelName) -> tuple[ModelVersion, ...]:
        """Return every version of `model`, oldest first; without those that `version` refuses."""
        return await self._call(self._versions, model)

    async def aliases(self, model: ModelName) -> Aliases:
        """Return what champion, challenger and previous stand for."""
        return await self._call(self._aliases, model)

    async def set_aliases(self, model: ModelName, aliases: Aliases) -> None:
        """Make the three names stand for these versions; what stands already is not written."""
        await self._call(self._set_aliases, model, aliases)

    async def record(self, change: ChampionChange) -> None:
        """Keep `change` as a tag of the model, unless its epoch is already there."""
        key, value = tags.change(change)
        await self._call(lambda: self._tag(change.model, key, value, once=True))

    async def history(self, model: ModelName) -> tuple[ChampionChange, ...]:
        """Return every recorded change of champion, oldest first."""
        return await self._call(lambda: tags.changes(self._model(model).tags))

    async def set_holdout(self, model: ModelName, points: int) -> None:
        """Keep the share as a tag of the model."""
        await self._call(lambda: self._tag(model, tags.HOLDOUT, str(points)))

    async def holdout(self, model: ModelName) -> int:
        """Return the share that was kept last."""
        return await self._call(lambda: tags.holdout(self._model(model).tags))

    async def _call(self, work: Callable[..., T], *arguments: object) -> T:
        def guarded() -> T:
            with _translated_errors():
                return work(*arguments)

        return await asyncio.to_thread(guarded)

    def _register(self, model: ModelName, artifact: Path) -> ModelVersion:
        users_model_name(model)
        signature = describe(artifact).signature
        digest = digest_of(artifact)
        with _answering(_THERE_ALREADY):
            self._client.create_registered_model(model)
        run = self._client.create_run(self._experiment(), run_name=f"register {model}")
        run_id = run.info.run_id
        try:
            self._client.log_artifacts(run_id, str(artifact), _ARTIFACT_PATH)
            registered = self._client.create_model_version(
                model,
                source=f"{run.info.artifact_uri}/{_ARTIFACT_PATH}",
                run_id=run_id,
                tags=tags.describe(digest, signature),
            )
        except BaseException:
            self._client.set_terminated(run_id, "FAILED")
            raise
        self._client.set_terminated(run_id)
        return self._described(registered)

    def _experiment(self) -> str:
        found = self._client.get_experiment_by_name(EXPERIMENT)
        if found is None:
            with _answering(_THERE_ALREADY):
                self._client.create_experiment(EXPERIMENT, self._artifact_root)
            found = self._client.get_experiment_by_name(EXPERIMENT)
        return str(found.experiment_id)

    def _model(self, model: ModelName) -> Any:  # noqa: ANN401  MLflow's RegisteredModel
        with _answering(_NOT_THERE, UnknownModel(f"no model is called {model!r}")):
            return self._client.get_registered_model(model)

    def _find(self, ref: VersionRef) -> Any:  # noqa: ANN401  MLflow's ModelVersion
        try:
            with _answering(
                _NOT_THERE, UnknownVersion(f"{ref.model} has no version {ref.version}")
            ):
                return self._client.get_model_version(ref.model, str(ref.version))
        except UnknownVersion:
            self._model(ref.model)
            raise

    def _models(self) -> tuple[ModelName, ...]:
        pages = _pages(lambda token: self._client.search_registered_models(page_token=token))
        return tuple(sorted(ModelName(f.name) for f in pages if is_users_model_name(f.name)))

    def _versions(self, model: ModelName) -> tuple[ModelVersion, ...]:
        self._model(model)
        query = f"name = '{model}'"
        pages = _pages(lambda token: self._client.search_model_versions(query, page_token=token))
        described = []
        for found in sorted(pages, key=lambda found: int(found.version)):
            try:
                described.append(self._described(found))
            except (UnreadableModel, CorruptArtifact):
                continue  # Somebody else's; asked for by number, it says what is wrong.
        return tuple(described)

    def _described(self, found: Any) -> ModelVersion:  # noqa: ANN401  MLflow's ModelVersion
        artifact = self._location(found)
        digest, signature = tags.description(found.tags) or self._tagged(found, artifact)
        return ModelVersion(
            ref=VersionRef(ModelName(found.name), Version(int(found.version))),
            artifact=artifact,
            digest=digest,
            signature=signature,
            registered_at=datetime.fromtimestamp(found.creation_timestamp / 1000, UTC),
        )

    def _tagged(self, found: Any, artifact: str) -> tuple[str, Signature | None]:  # noqa: ANN401
        """Describe a version that was registered by other means, now and for later."""
        with tempfile.TemporaryDirectory(prefix="tiltyard-") as temporary:
            folder = _fetch(artifact, Path(temporary) / _ARTIFACT_PATH)
            signature = describe(folder).signature
            described = digest_of(folder), signature
        for key, value in tags.describe(*described).items():
            self._client.set_model_version_tag(found.name, found.version, key, value)
        return described

    def _location(self, found: Any) -> str:  # noqa: ANN401  MLflow's ModelVersion
        source = str(found.source)
        if urlsplit(source).scheme in ("models", "runs"):
            source = str(self._client.get_model_version_download_uri(found.name, found.version))
        if urlsplit(source).scheme == "mlflow-artifacts":
            # A host does not know which tracking server this catalog speaks to.
            from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository

            source = str(MlflowArtifactsRepository.resolve_uri(source, self._tracking_uri))
        return source

    def _aliases(self, model: ModelName) -> Aliases:
        stands = self._model(model).aliases
        return Aliases(**{name: Version(int(stands[name])) for name in _ALIASES if name in stands})

    def _set_aliases(self, model: ModelName, wanted: Aliases) -> None:
        found = self._aliases(model)
        changes = [
            (name, getattr(wanted, name))
            for name in _ALIASES
            if getattr(wanted, name) != getattr(found, name)
        ]
        for _, version in changes:
            if version is not None:
                self._find(VersionRef(model, version))
        for name, version in changes:
            if version is None:
                self._client.delete_registered_model_alias(model, name)
            else:
                self._client.set_registered_model_alias(model, name, str(version))

    def _tag(self, model: ModelName, key: str, value: str, *, once: bool = False) -> None:
        if not (key in self._model(model).tags and once):
            self._client.set_registered_model_tag(model, key, value)


def _fetch(artifact: str, target: Path) -> Path:
    """Copy the files at the URI `artifact` to `target`, and return the folder they are in.

    Raises:
        CorruptArtifact: nothing is there.
    """
    parts = urlsplit(artifact)
    if parts.scheme in ("", "file"):
        return copy_folder(Path(url2pathname(parts.path)), target)
    import mlflow.artifacts

    target.mkdir()
    gone = CorruptArtifact(f"the files of the model are gone from {artifact}")
    with _answering(_NOT_THERE, gone):
        fetched = mlflow.artifacts.download_artifacts(artifact_uri=artifact, dst_path=str(target))
    return Path(fetched)


def load(artifact: str, digest: str, workdir: Path) -> LoadedModel:
    """Load the model whose files are at the URI `artifact`, after verifying them.

    The files are copied once a machine, into a folder of `workdir` that is named after the
    digest, and verified at every load. Loading runs the model's code: it may take long, and it
    may do anything.

    Raises:
        CorruptArtifact: the files are not there, or not those of `digest`.
        UnreadableModel: they are no model that loads here.
        CatalogUnavailable: they cannot be fetched now.
    """
    with quietly():
        import mlflow.pyfunc
        from mlflow.models import validate_schema
        from mlflow.pyfunc import scoring_server
    with _translated_errors():
        folder = verified_copy(digest, workdir, fetch=partial(_fetch, artifact))
    description = describe(folder)
    try:
        # Requirements were fixed when this environment was built; do not compare them again.
        model = mlflow.pyfunc.load_model(str(folder), suppress_warnings=True)
    except Exception as error:
        # Unpickling and a model's own code may raise anything at all.
        why = f"{type(error).__name__}: {error}"
        raise UnreadableModel(f"the model does not load: {why}") from error
    return loaded_pyfunc(description, model, scoring_server, validate_schema)


def save_sklearn(model: Predictor, folder: Path, *, example: Rows) -> Path:
    """Save a fitted scikit-learn estimator as an MLflow model with signature and example.

    Args:
        folder: Must not exist yet.
        example: Some rows of input; an array gives tensors, a data frame gives columns.
    """
    with quietly():
        import mlflow.sklearn
        from mlflow.models import infer_signature

        mlflow.sklearn.save_model(
            model,
            folder,
            signature=infer_signature(example, model.predict(example)),
            input_example=example,
            pip_requirements=["scikit-learn"],
            # Loads without importing skops, which takes seconds.
            serialization_format=mlflow.sklearn.SERIALIZATION_FORMAT_CLOUDPICKLE,
        )
    return folder


def save_python_model(
    model: Predictor, folder: Path, *, example: Rows, params: Mapping[str, Any] | None = None
) -> Path:
    """Save any object with `predict(inputs)` as an MLflow model with signature and example.

    The code of the object's own module travels with it, so another process can load it without
    having the module; what that module imports must be installed there. A `predict_stream`
    that the object has comes along.

    Args:
        folder: Must not exist yet.
        example: Some rows of input that `predict` answers.
        params: What it takes beside the inputs, as `params`, with the values that hold if a
            request says nothing; None if it takes nothing.
    """
    with quietly(), by_value(type(model).__module__):
        import mlflow.pyfunc
        from mlflow.models import infer_signature

        said = {} if params is None else {"params": dict(params)}
        mlflow.pyfunc.save_model(
            folder,
            python_model=python_model(mlflow.pyfunc.PythonModel, model, takes_params=bool(said)),
            signature=infer_signature(example, model.predict(example, **said), **said),
            input_example=example,
            pip_requirements=["numpy"],
        )
    return folder


def _connect(tracking_uri: str, artifact_dir: Path) -> tuple[Any, str, str | None]:
    with quietly():
        from mlflow import MlflowClient

        if not tracking_uri.startswith(_SQLITE):
            return MlflowClient(tracking_uri, tracking_uri), tracking_uri, None
        from sqlalchemy.exc import SQLAlchemyError

        database = Path(tracking_uri.removeprefix(_SQLITE))
        # MLflow itself lets two processes create the tables at once, and both may fail; and it
        # tries for minutes to open a file that is no database.
        with _translated_errors(sqlite3.Error, SQLAlchemyError):
            database.parent.mkdir(parents=True, exist_ok=True)
            with locked(database.with_name(f"{database.name}.lock")):
                with closing(sqlite3.connect(database)) as connection:
                    connection.execute("PRAGMA schema_version")
                client = MlflowClient(tracking_uri, tracking_uri)
                client.search_registered_models(max_results=1)
    return client, tracking_uri, artifact_dir.absolute().as_uri()


@contextmanager
def _translated_errors(*others: type[Exception]) -> Iterator[None]:
    """Say that MLflow is away, also where one of the `others` says so (sqlalchemy's, say)."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, OSError, *others) as error:
        raise CatalogUnavailable(f"MLflow: {error}") from error


@contextmanager
def _answering(code: str, error: TiltyardError | None = None) -> Iterator[None]:
    """Where MLflow answers with `code`, raise `error` instead, or go on without one."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as answer:
        if answer.error_code != code:
            raise
        if error is not None:
            raise error from None


def _pages(search: Callable[[str | None], Any]) -> list[Any]:
    page = search(None)
    found = list(page)
    while page.token:
        page = search(page.token)
        found.extend(page)
    return found
