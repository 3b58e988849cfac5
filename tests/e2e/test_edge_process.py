"""Routes that change under load, and an edge that is started, killed and started again."""

import asyncio
import threading
import time
from collections import Counter

import pytest

from serving.edge.config import write
from serving.errors import EdgeStopped, UnusableEdgeFolder
from serving.routes import map_value
from tests.e2e.edge_checks import EVERYBODY, UNIT, assert_problem
from tests.e2e.edge_fixture import (
    CHALLENGER,
    CHAMPION,
    KEY,
    MODEL,
    PATIENCE_SECONDS,
    Answer,
    Client,
    Edge,
    await_listener,
    edge,
    make_route,
    running,
    running_edge,
    start,
)
from tests.e2e.ingress import Mood

__all__ = ["edge", "running"]


# ---- routes that change


def test_flipping_routes_under_load_loses_no_request(edge: Edge) -> None:
    """Nor does a request that starts after a change has returned obey the route before."""
    edge.route(champion=CHAMPION)
    first = edge.epoch
    stop = threading.Event()
    seen: list[tuple[float, Answer]] = []

    def ask(client: Client) -> None:
        while not stop.is_set():
            started = time.monotonic()
            seen.append((started, client.infer()))

    threads = [threading.Thread(target=ask, args=(edge.client(),)) for _ in range(8)]
    flips: list[tuple[float, int]] = []
    for thread in threads:
        thread.start()
    try:
        for flip in range(100):
            edge.route(champion=(CHALLENGER, CHAMPION)[flip % 2])
            flips.append((time.monotonic(), edge.epoch))
            while len(seen) < 10 * len(flips):
                time.sleep(0.001)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert Counter(answer.status for _, answer in seen) == {200: len(seen)}
    for started, answer in seen:
        epoch = int(answer.headers["x-route-epoch"])
        assert answer.version == (CHAMPION, CHALLENGER)[(epoch - first) % 2]
        assert epoch >= max((at for when, at in flips if when < started), default=first)
    lines = edge.logged(len(seen))
    assert Counter(line.epoch for line in lines) == Counter(
        int(answer.headers["x-route-epoch"]) for _, answer in seen
    )


def test_routes_can_be_read_back_and_removed(edge: Edge) -> None:
    route = edge.route(cut=500, unit=UNIT, salt="with blank; | and \\ é")

    async def story() -> None:
        assert (await edge.runtime.routes())[MODEL] == map_value(route)
        await edge.runtime.delete_route(MODEL)
        await edge.runtime.delete_route(MODEL)
        assert MODEL not in await edge.runtime.routes()

    asyncio.run(story())
    assert_problem(edge.client().infer(), 404, "unknown_model")


def test_counters_count_inferences_apart_from_the_rest(edge: Edge) -> None:
    edge.route(cut=EVERYBODY)
    before = asyncio.run(edge.runtime.counters())
    client = edge.client()
    client.infer()
    edge.behave(challenger=Mood.ERROR_500)
    client.infer()
    client.request("GET", "/v2")
    edge.logged(2)
    after = asyncio.run(edge.runtime.counters())
    assert after.requests - before.requests == 3
    assert after.routed - before.routed == 2
    assert after.failovers - before.failovers == 1
    assert after.lines - before.lines == after.routed - before.routed


# ---- the process


def test_an_edge_starts_with_the_routes_in_its_file_and_logs_requests_only() -> None:
    with running_edge() as edge:
        edge.files.routes.write_text(f"{MODEL} {map_value(make_route(7, cut=0))}\n")
        edge.client().request("GET", "/v2")
        edge.process.terminate()
        edge.process.wait()
        with pytest.raises(EdgeStopped):
            asyncio.run(edge.runtime.routes())
        edge.process = start(edge.settings)
        await_listener(edge.settings.edge_port, edge.process)
        assert edge.client().infer().headers["x-route-epoch"] == "7"
        [line] = edge.logged(1)
        assert line.epoch == 7
        edge.process.terminate()
        assert edge.log_text().count("\n") == 1


def test_an_edge_that_is_started_again_keeps_what_the_last_one_logged() -> None:
    with running_edge() as edge:
        for _ in range(3):
            edge.route()
            assert edge.client().infer().status == 200
            edge.logged(1)
            edge.process.kill()
            edge.process.wait()
            edge.process = start(edge.settings)
            await_listener(edge.settings.edge_port, edge.process)
        assert edge.log_text().count("\n") == 3


def test_two_edges_cannot_share_a_port() -> None:
    with running_edge() as edge:
        second = start(edge.settings)
        try:
            assert second.wait(PATIENCE_SECONDS) != 0
        finally:
            second.kill()
        assert b"in use" in (edge.settings.edge_dir / "haproxy.err").read_bytes()


def test_the_key_is_in_no_file_of_the_edge_and_its_files_are_the_owners(edge: Edge) -> None:
    for file in (edge.files.config, edge.files.lua, edge.files.log):
        text = file.read_bytes()
        assert KEY not in text
        assert b"AAECAwQF" not in text
    assert edge.files.folder.stat().st_mode & 0o077 == 0
    assert edge.files.admin_socket.stat().st_mode & 0o077 == 0
    assert edge.files.log.stat().st_mode & 0o077 == 0


def test_a_folder_too_deep_for_sockets_is_refused(edge: Edge) -> None:
    deep = edge.settings.state_dir / ("x" * 90)
    with pytest.raises(UnusableEdgeFolder, match="too long"):
        write(edge.settings.model_copy(update={"state_dir": deep}))
    assert not deep.exists()
