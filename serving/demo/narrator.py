"""Tells the story: a table that moves where there is a terminal, and plain lines elsewhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

SPARSELY = 2.0
"""Seconds between two plain lines."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """How far a running experiment is: e-values, and what they have to reach."""

    name: str
    share: float
    better: str
    better_needed: str
    harm: str
    harm_needed: str


@dataclass(frozen=True, slots=True)
class Glance:
    """How things are at this moment.

    Args:
        rate: Answers a second, lately.
        versions: Which version gave which part of them.
        rescued: Requests so far that another version answered in place of the one that failed.
        under_way: What is being waited for, and for how many seconds.
    """

    seconds: float
    requests: int = 0
    failed: int = 0
    rescued: int = 0
    rate: float = 0.0
    versions: Mapping[int, float] | None = None
    evidence: Evidence | None = None
    under_way: Mapping[str, float] | None = None


class Narrator:
    """Prints to `console`; a context, while which the table moves if there is a terminal.

    Attributes:
        chapter: Title of the part of the story that is being told.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = (
            Live(console=console, auto_refresh=False, transient=True)
            if console.is_terminal
            else None
        )
        self._last_line = -SPARSELY
        self.chapter = ""

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def act(self, title: str) -> None:
        """Open a chapter."""
        self.chapter = title
        self._print(Text())
        self._print(Text(title, style="bold cyan"))

    def say(self, words: str) -> None:
        """Say what happens now."""
        self._print(Text(words))

    def done(self, words: str) -> None:
        """Say what has been reached."""
        self._print(Text(f"✓ {words}", style="green"))

    def wrong(self, words: str) -> None:
        """Say what was promised and did not hold."""
        self._print(Text(f"✗ {words}", style="bold red"))

    def quote(self, lines: Sequence[str]) -> None:
        """Repeat, word for word, what Tiltyard says or is told."""
        for line in lines:
            if self._console.is_terminal:
                self._print(Padding(Text(line, style="italic"), (0, 0, 0, 4)))
            else:
                self._print(Text(f"    {line}"))

    def glance(self, now: Glance) -> None:
        """Show how things are; without a terminal, every other second at most."""
        if self._live is not None:
            self._live.update(_table(now), refresh=True)
        elif now.seconds - self._last_line >= SPARSELY:
            self._last_line = now.seconds
            self._print(Text(_line(now), style="dim"))

    def summary(self, title: str, rows: Sequence[tuple[str, str]]) -> None:
        """Close with a table of what was seen."""
        table = Table(title=title, show_header=False, title_justify="left")
        for name, value in rows:
            table.add_row(name, value)
        self._print(Text())
        self._print(table)

    def _print(self, what: Text | Table | Padding) -> None:
        # Without a terminal nobody knows how wide a line may be, so none is broken.
        self._console.print(what, soft_wrap=not self._console.is_terminal and type(what) is Text)


def _table(now: Glance) -> Table:
    table = Table(expand=False, padding=(0, 1))
    for name, _ in _cells(now):
        table.add_column(name)
    table.add_row(*(value for _, value in _cells(now)))
    return table


def _line(now: Glance) -> str:
    return " │ ".join(f"{name} {value}" for name, value in _cells(now))


def _cells(now: Glance) -> list[tuple[str, str]]:
    cells = [("time", f"{now.seconds:.0f} s")]
    if now.versions is not None:
        cells += [
            ("requests/s", f"{now.rate:.0f}"),
            ("requests", f"{now.requests:,}"),
            ("failed", f"{now.failed}"),
            ("rescued", f"{now.rescued}"),
            ("answered by", _shares(now.versions)),
        ]
    if now.evidence is not None:
        found = now.evidence
        cells += [
            (f"{found.name} share", f"{found.share:.0%}"),
            ("e better", f"{found.better} of {found.better_needed}"),
            ("e harm", f"{found.harm} of {found.harm_needed}"),
        ]
    if now.under_way:
        tasks = (f"{name} ({seconds:.0f} s)" for name, seconds in now.under_way.items())
        cells.append(("under way", ", ".join(tasks)))
    return cells


def _shares(versions: Mapping[int, float]) -> str:
    shares = (f"v{version} {share:.0%}" for version, share in sorted(versions.items()))
    return ", ".join(shares) or "nobody yet"
