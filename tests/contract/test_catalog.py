"""The same cases on every catalog; then what only MLflow has to get right."""

import asyncio
import json
import multiprocessing
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from registry import Aliases, Catalog, ChampionChange, Signature, Tensor
from registry.digest import digest_of
from registry.errors import (
    CatalogUnavailable,
    CorruptArtifact,
    InvalidName,
    UnknownModel,
    UnknownVersion,
    UnreadableModel,
)
from registry.memory import MemoryCatalog
from registry.mlflow import MlflowCatalog
from registry.refs import ModelName, Version, VersionRef

DIGITS = ModelName("digits")
FRAUD = ModelName("fraud")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)

TENSORS = {
    "inputs": json.dumps([{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1]}}]),
    "outputs": json.dumps([{"type": "tensor", "tensor-spec": {"dtype": "int64", "shape": [-1]}}]),
}


def model_folder(
    folder: Path, weights: str = "1", signature: dict[str, str] | None = TENSORS
) -> Path:
    """Write what a model saved with MLflow looks like from outside."""
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "weights").write_text(weights)
    described = {"flavors": {"python_function": {"loader_module": "nowhere"}}}
    (folder / "MLmodel").write_text(yaml.safe_dump(described | {"signature": signature}))
    return folder


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database without rows; to create one takes seconds, to copy it does not."""
    folder = tmp_path_factory.mktemp("mlflow")

    async def create() -> None:
        async with MlflowCatalog.open(f"sqlite:///{folder}/mlflow.db", folder):
            pass

    asyncio.run(create())
    return folder / "mlflow.db"


@pytest.fixture
def tracking_uri(tmp_path: Path, empty_database: Path) -> str:
    return f"sqlite:///{shutil.copy(empty_database, tmp_path)}"


@pytest.fixture
async def mlflow(tracking_uri: str, tmp_path: Path) -> AsyncIterator[MlflowCatalog]:
    async with MlflowCatalog.open(tracking_uri, tmp_path / "artifacts") as catalog:
        yield catalog


@pytest.fixture(params=["memory", "mlflow"])
def catalog(request: pytest.FixtureRequest) -> Catalog:
    return MemoryCatalog() if request.param == "memory" else request.getfixturevalue("mlflow")


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return model_folder(tmp_path / "saved")


def change(epoch: int, after: int, **details: object) -> ChampionChange:
    made = ChampionChange(DIGITS, epoch, None, Version(after), by="ann", why="it won", at=NOON)
    return replace(made, **details)


async def test_versions_of_a_model_count_from_one(catalog: Catalog, artifact: Path) -> None:
    refs = [(await catalog.register(DIGITS, artifact)).ref for _ in range(3)]
    assert [str(ref) for ref in refs] == ["digits/1", "digits/2", "digits/3"]
    assert str((await catalog.register(FRAUD, artifact)).ref) == "fraud/1"


async def test_what_was_registered_can_be_asked_for(catalog: Catalog, artifact: Path) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    registered = await catalog.register(DIGITS, artifact)
    assert await catalog.version(registered.ref) == registered
    assert await catalog.versions(DIGITS) == (registered,)
    assert before < registered.registered_at <= datetime.now(UTC)
    assert registered.signature == Signature(
        inputs=(Tensor("input-0", "FP64", (-1,)),), outputs=(Tensor("output-0", "INT64", (-1,)),)
    )


async def test_equal_files_have_equal_digests_and_others_have_others(
    catalog: Catalog, tmp_path: Path
) -> None:
    folders = [model_folder(tmp_path / name, weights=name[0]) for name in ("a1", "a2", "b1")]
    first, second, third = [(await catalog.register(DIGITS, folder)).digest for folder in folders]
    assert first == second
    assert first != third


async def test_a_model_without_a_signature_is_registered_without_one(
    catalog: Catalog, tmp_path: Path
) -> None:
    folder = model_folder(tmp_path / "saved", signature=None)
    registered = await catalog.register(DIGITS, folder)
    assert registered.signature is None
    assert (await catalog.version(registered.ref)).signature is None


async def test_versions_come_oldest_first_beyond_the_ninth(
    catalog: Catalog, artifact: Path
) -> None:
    for _ in range(11):
        await catalog.register(DIGITS, artifact)
    assert [found.ref.version for found in await catalog.versions(DIGITS)] == [*range(1, 12)]


async def test_models_are_sorted(catalog: Catalog, artifact: Path) -> None:
    assert await catalog.models() == ()
    for name in (FRAUD, DIGITS):
        await catalog.register(name, artifact)
    assert await catalog.models() == (DIGITS, FRAUD)


async def test_what_is_no_model_is_refused_and_leaves_nothing(
    catalog: Catalog, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    strange = model_folder(tmp_path / "strange")
    (strange / "MLmodel").write_text("flavors: [")
    for folder in (tmp_path / "nowhere", tmp_path / "empty", strange):
        with pytest.raises(UnreadableModel):
            await catalog.register(DIGITS, folder)
    assert await catalog.models() == ()


async def test_a_name_that_cannot_travel_is_refused(catalog: Catalog, artifact: Path) -> None:
    with pytest.raises(InvalidName):
        await catalog.register(ModelName("No Name"), artifact)
    assert await catalog.models() == ()


async def test_an_unknown_model_is_said_to_be_unknown(catalog: Catalog) -> None:
    for asked in (
        catalog.version(VersionRef(DIGITS, Version(1))),
        catalog.versions(DIGITS),
        catalog.aliases(DIGITS),
        catalog.set_aliases(DIGITS, Aliases()),
        catalog.record(change(1, after=1)),
        catalog.history(DIGITS),
        catalog.holdout(DIGITS),
        catalog.set_holdout(DIGITS, 500),
    ):
        with pytest.raises(UnknownModel, match="digits"):
            await asked


async def test_an_unknown_version_is_said_to_be_unknown(catalog: Catalog, artifact: Path) -> None:
    await catalog.register(DIGITS, artifact)
    with pytest.raises(UnknownVersion, match="digits has no version 2"):
        await catalog.version(VersionRef(DIGITS, Version(2)))


async def test_a_holdout_is_kept_until_there_is_another(catalog: Catalog, artifact: Path) -> None:
    await catalog.register(DIGITS, artifact)
    assert await catalog.holdout(DIGITS) == 0
    for points in (500, 0, 9_999, 9_999):
        await catalog.set_holdout(DIGITS, points)
        assert await catalog.holdout(DIGITS) == points
    assert await catalog.history(DIGITS) == ()


async def test_a_new_model_has_no_aliases_and_no_history(catalog: Catalog, artifact: Path) -> None:
    await catalog.register(DIGITS, artifact)
    assert await catalog.aliases(DIGITS) == Aliases()
    assert await catalog.history(DIGITS) == ()


async def test_aliases_stand_for_what_they_were_set_to(catalog: Catalog, artifact: Path) -> None:
    for _ in range(3):
        await catalog.register(DIGITS, artifact)
    steps = [
        Aliases(champion=Version(1)),
        Aliases(champion=Version(1), challenger=Version(2)),
        Aliases(champion=Version(2), previous=Version(1)),
        Aliases(champion=Version(2), previous=Version(1)),
        Aliases(champion=Version(1), challenger=Version(3), previous=Version(2)),
        Aliases(),
    ]
    for wanted in steps:
        await catalog.set_aliases(DIGITS, wanted)
        assert await catalog.aliases(DIGITS) == wanted


async def test_an_alias_of_an_unknown_version_changes_nothing(
    catalog: Catalog, artifact: Path
) -> None:
    for _ in range(2):
        await catalog.register(DIGITS, artifact)
    before = Aliases(champion=Version(1))
    await catalog.set_aliases(DIGITS, before)
    with pytest.raises(UnknownVersion, match="digits has no version 3"):
        await catalog.set_aliases(DIGITS, Aliases(Version(2), Version(3), Version(1)))
    assert await catalog.aliases(DIGITS) == before


async def test_history_is_told_in_the_order_of_epochs(catalog: Catalog, artifact: Path) -> None:
    await catalog.register(DIGITS, artifact)
    changes = [change(epoch, after=epoch) for epoch in (10, 9, 100)]
    for made in changes:
        await catalog.record(made)
    assert [made.epoch for made in await catalog.history(DIGITS)] == [9, 10, 100]
    assert set(await catalog.history(DIGITS)) == set(changes)


async def test_a_change_is_recorded_once(catalog: Catalog, artifact: Path) -> None:
    await catalog.register(DIGITS, artifact)
    first = change(7, after=2, before=Version(1), why='she said "now" – très vite')
    await catalog.record(first)
    await catalog.record(first)
    await catalog.record(change(7, after=3))
    assert await catalog.history(DIGITS) == (first,)


async def test_histories_of_models_are_apart(catalog: Catalog, artifact: Path) -> None:
    for name in (DIGITS, FRAUD):
        await catalog.register(name, artifact)
    await catalog.record(change(1, after=1))
    assert await catalog.history(FRAUD) == ()


async def test_another_process_sees_what_was_written(
    mlflow: MlflowCatalog, tracking_uri: str, artifact: Path, tmp_path: Path
) -> None:
    registered = await mlflow.register(DIGITS, artifact)
    await mlflow.set_aliases(DIGITS, Aliases(champion=Version(1)))
    await mlflow.record(change(1, after=1))
    async with MlflowCatalog.open(tracking_uri, tmp_path / "artifacts") as other:
        assert await other.versions(DIGITS) == (registered,)
        assert await other.aliases(DIGITS) == Aliases(champion=Version(1))
        assert await other.history(DIGITS) == (change(1, after=1),)


async def test_aliases_that_stand_already_are_not_written(
    mlflow: MlflowCatalog, artifact: Path, tmp_path: Path
) -> None:
    await mlflow.register(DIGITS, artifact)
    await mlflow.set_aliases(DIGITS, Aliases(champion=Version(1)))
    await mlflow.record(change(1, after=1))
    before = (tmp_path / "mlflow.db").read_bytes()
    await mlflow.set_aliases(DIGITS, Aliases(champion=Version(1)))
    await mlflow.record(change(1, after=1))
    assert (tmp_path / "mlflow.db").read_bytes() == before


async def test_the_stored_files_are_not_the_ones_that_were_handed_in(
    mlflow: MlflowCatalog, artifact: Path, tmp_path: Path
) -> None:
    registered = await mlflow.register(DIGITS, artifact)
    shutil.rmtree(artifact)
    assert registered.artifact.startswith((tmp_path / "artifacts").as_uri())
    assert digest_of(Path(registered.artifact.removeprefix("file://"))) == registered.digest


async def test_a_very_long_reason_is_kept_in_part(mlflow: MlflowCatalog, artifact: Path) -> None:
    await mlflow.register(DIGITS, artifact)
    await mlflow.record(change(1, after=1, why="w" * 100_000))
    (kept,) = await mlflow.history(DIGITS)
    assert len(kept.why) == 1000


def _client(tracking_uri: str):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri, tracking_uri)


async def test_a_version_registered_by_other_means_is_given_a_digest_at_first_sight(
    mlflow: MlflowCatalog, tracking_uri: str, artifact: Path
) -> None:
    client = _client(tracking_uri)
    client.create_registered_model(DIGITS)
    client.create_model_version(DIGITS, source=artifact.as_uri())
    ours = await mlflow.register(DIGITS, artifact)
    first_sight = await mlflow.version(VersionRef(DIGITS, Version(1)))
    assert (first_sight.digest, first_sight.signature) == (ours.digest, ours.signature)
    (artifact / "data" / "weights").write_text("2")
    assert await mlflow.version(first_sight.ref) == first_sight


async def test_a_version_of_others_without_files_is_refused_but_hides_no_other(
    mlflow: MlflowCatalog, tracking_uri: str, artifact: Path, tmp_path: Path
) -> None:
    ours = await mlflow.register(DIGITS, artifact)
    empty = tmp_path / "empty"
    empty.mkdir()
    client = _client(tracking_uri)
    client.create_model_version(DIGITS, source=(tmp_path / "gone").as_uri())
    client.create_model_version(DIGITS, source=empty.as_uri())
    with pytest.raises(CorruptArtifact, match="gone"):
        await mlflow.version(VersionRef(DIGITS, Version(2)))
    with pytest.raises(UnreadableModel, match="MLmodel"):
        await mlflow.version(VersionRef(DIGITS, Version(3)))
    assert await mlflow.versions(DIGITS) == (ours,)


async def test_models_of_others_with_other_names_are_left_alone(
    mlflow: MlflowCatalog, tracking_uri: str, artifact: Path
) -> None:
    _client(tracking_uri).create_registered_model("Sales Forecast")
    await mlflow.register(DIGITS, artifact)
    assert await mlflow.models() == (DIGITS,)


@pytest.mark.timeout(60)  # Left to itself, MLflow tries for minutes.
async def test_a_server_that_is_away_is_said_to_be_away(tmp_path: Path, artifact: Path) -> None:
    with closing(socket.socket()) as unused:
        unused.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{unused.getsockname()[1]}"
        async with MlflowCatalog.open(uri, tmp_path) as catalog:
            for asked in (catalog.models(), catalog.aliases(DIGITS)):
                with pytest.raises(CatalogUnavailable):
                    await asked
            with pytest.raises(CatalogUnavailable):
                await catalog.register(DIGITS, artifact)


async def test_a_file_that_is_no_database_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("this is no database, and was never meant to be one")
    with pytest.raises(CatalogUnavailable, match="not a database"):
        async with MlflowCatalog.open(f"sqlite:///{tmp_path}/mlflow.db", tmp_path):
            pass


def _open_and_register(database: str, artifact: str, results: "multiprocessing.Queue[str]") -> None:
    async def run() -> str:
        folder = Path(database).parent
        async with MlflowCatalog.open(f"sqlite:///{database}", folder / "artifacts") as catalog:
            return str((await catalog.register(DIGITS, Path(artifact))).ref)

    results.put(asyncio.run(run()))


def test_processes_that_open_a_fresh_database_together_do_not_collide(
    tmp_path: Path, artifact: Path
) -> None:
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[str] = context.Queue()
    arguments = (str(tmp_path / "fresh.db"), str(artifact), results)
    workers = [context.Process(target=_open_and_register, args=arguments) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert {results.get(timeout=10) for _ in workers} == {"digits/1", "digits/2"}
