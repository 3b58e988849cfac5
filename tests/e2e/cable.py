"""A way to Redis that can be cut."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

from serving.settings import Settings
from tests.e2e.edge_fixture import free_port


class Cable:
    """A way to Redis that can be cut: what is sent then arrives nowhere, and nobody says so.

    Attributes:
        is_cut: May be changed at any time.
    """

    def __init__(self, settings: Settings) -> None:
        self.port = free_port()
        self.is_cut = False
        self._to = urlsplit(settings.redis_url).port
        self._loop = asyncio.new_event_loop()
        self._laying = self._loop.create_task(self._lie())
        self._carrying: set[asyncio.Task[None]] = set()

    def behind(self, settings: Settings) -> Settings:
        """Return what is the same, but reaches Redis by this way alone."""
        return settings.model_copy(update={"redis_url": f"redis://127.0.0.1:{self.port}/0"})

    @contextmanager
    def laid(self) -> Iterator[None]:
        """Carry, in a thread."""
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self._loop.call_soon_threadsafe(self._laying.cancel)
            thread.join()

    def _run(self) -> None:
        with suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._laying)
        self._loop.close()

    async def _lie(self) -> None:
        server = await asyncio.start_server(self._carry, "127.0.0.1", self.port)
        try:
            await server.serve_forever()
        finally:
            for task in self._carrying:
                task.cancel()
            await asyncio.gather(*self._carrying, return_exceptions=True)
            await asyncio.sleep(0)  # What was aborted is closed by now.

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._carrying.add(task)
        ends = [writer]
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._to)
            ends.append(back)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass(reader, back))
                both.create_task(self._pass(there, writer))
        except* OSError:
            pass
        finally:
            self._carrying.discard(task)
            for end in ends:
                end.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65536):
            if not self.is_cut:
                writer.write(piece)
                await writer.drain()
        raise ConnectionResetError("one side has hung up: so does the other")
