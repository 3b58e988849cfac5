"""A load generator for machines without wrk: as many processes as cores, raw HTTP on sockets.

`python -m bench.generator CONNECTIONS SECONDS URL BODY TYPE EXPECTED PATH...` prints one line of
JSON, as wrk.lua does.
"""

import asyncio
import json
import multiprocessing
import os
import secrets
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from urllib.parse import urlsplit

from bench.load import PATIENCE


@dataclass
class Seen:
    """What one process has seen."""

    milliseconds: list[float] = field(default_factory=list)
    good: int = 0
    broken: int = 0
    timeouts: int = 0
    rescued: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    variants: Counter[str] = field(default_factory=Counter)
    stray: str = ""

    def merge(self, other: "Seen") -> None:
        """Add what another process has seen."""
        self.milliseconds += other.milliseconds
        self.good += other.good
        self.broken += other.broken
        self.timeouts += other.timeouts
        self.rescued += other.rescued
        self.statuses += other.statuses
        self.variants += other.variants
        self.stray = self.stray or other.stray

    def written(self, seconds: float) -> str:
        """Return the line of JSON."""
        times = sorted(self.milliseconds) or [0.0]
        return json.dumps(
            {
                "seconds": seconds,
                "answers": len(self.milliseconds),
                "good": self.good,
                "p50_ms": times[len(times) // 2],
                "p99_ms": times[len(times) * 99 // 100],
                "broken": self.broken,
                "timeouts": self.timeouts,
                "statuses": self.statuses,
                "variants": self.variants,
                "rescued": self.rescued,
                "stray": self.stray,
            }
        )


async def ask_on(
    seen: Seen, url: str, until: float, body: bytes, kind: str, expected: bytes, paths: list[str]
) -> None:
    """Ask on one connection until the time has come; open another where one breaks."""
    place = urlsplit(url)
    unit, number = secrets.token_hex(6), 0
    turn = cycle(paths)
    while time.monotonic() < until:
        writer = None
        try:
            reader, writer = await asyncio.open_connection(place.hostname, place.port)
            while time.monotonic() < until:
                number += 1
                head = (
                    f"POST {next(turn)} HTTP/1.1\r\nHost: {place.netloc}\r\n"
                    f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
                    f"X-Unit-Id: {unit}-{number}\r\n\r\n"
                )
                began = time.monotonic()
                writer.write(head.encode() + body)
                async with asyncio.timeout(PATIENCE):
                    status, headers, answer = await _answer(reader)
                seen.milliseconds.append((time.monotonic() - began) * 1000)
                _look(seen, status, headers, answer, expected)
        except TimeoutError:
            seen.timeouts += 1
        except (OSError, asyncio.IncompleteReadError, ValueError):
            seen.broken += 1
            await asyncio.sleep(0.01)
        finally:
            if writer is not None:
                writer.close()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
    pairs = (line.partition(":") for line in lines)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    if "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
    else:
        body = b""
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
    return int(first.split(" ")[1]), headers, body


def _look(seen: Seen, status: int, headers: dict[str, str], body: bytes, expected: bytes) -> None:
    seen.statuses[str(status)] += 1
    seen.rescued += "x-failover" in headers
    if "x-variant" in headers:
        seen.variants[headers["x-variant"]] += 1
    # Some write a space after a comma.
    if status == 200 and (expected in body or expected in body.replace(b", ", b",")):
        seen.good += 1
    elif not seen.stray:
        seen.stray = f"{status} {body[:200].decode(errors='replace')}"


def one(connections: int, seconds: float, url: str, sent: list[str]) -> Seen:
    """Load with so many connections from this process."""
    path, kind, expected, *paths = sent
    seen, body = Seen(), Path(path).read_bytes()

    async def all_of_them() -> None:
        until = time.monotonic() + seconds
        asking = (
            ask_on(seen, url, until, body, kind, expected.encode(), paths)
            for _ in range(connections)
        )
        await asyncio.gather(*asking)

    asyncio.run(all_of_them())
    return seen


def main() -> None:
    """Divide the connections among processes."""
    connections, seconds, url, *sent = sys.argv[1:]
    processes = min(int(connections), os.cpu_count() or 1)
    shares = [len(range(each, int(connections), processes)) for each in range(processes)]
    began = time.monotonic()
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        found = pool.starmap(one, [(share, float(seconds), url, sent) for share in shares])
    total = Seen()
    for seen in found:
        total.merge(seen)
    sys.stdout.write(total.written(min(time.monotonic() - began, float(seconds) + PATIENCE)) + "\n")


if __name__ == "__main__":
    main()
