"""The demo from its first process to its last: system, users and story together."""

import asyncio
import traceback
from pathlib import Path

from registry.errors import TiltyardError
from serving.client import ControlClient
from serving.demo.models import halves
from serving.demo.narrator import Narrator
from serving.demo.outcomes import Outcomes
from serving.demo.promises import BrokenPromise, Seen, broken
from serving.demo.scoreboard import Scoreboard
from serving.demo.stage import interruptible, own_settings, system
from serving.demo.story import Story
from serving.demo.traffic import Traffic

LIMIT = 220.0
"""Seconds that the story may take with its set-up; ending everything fits into four minutes."""

INTERRUPTED = 130


async def told(state_dir: Path, seen: Seen, narrator: Narrator) -> int:
    """Tell the story, filling in `seen`, and return the exit status that it deserves.

    Whatever happens, nothing that was started is left running.
    """
    wrong: list[str] = []
    with interruptible():
        try:
            await _tell(state_dir, seen, narrator)
            wrong += broken(seen)
        except asyncio.CancelledError:
            narrator.wrong("Interrupted.")
            return INTERRUPTED
        except TimeoutError:
            wrong.append(f"The story has taken more than {LIMIT:.0f} s.")
        except Exception as error:
            wrong += _explained(error)
    if wrong:
        narrator.say(f"The story ends here: {narrator.chapter}")
    for words in wrong:
        narrator.wrong(words)
    return 1 if wrong else 0


async def _tell(state_dir: Path, seen: Seen, narrator: Narrator) -> None:
    deadline = asyncio.get_running_loop().time() + LIMIT
    scoreboard = Scoreboard(narrator)
    watching = asyncio.create_task(scoreboard.run())
    narrator.act("Set-up: Redis, Ray, edge and control start, and four versions are trained.")
    try:
        training, live = halves()
        settings = own_settings(state_dir)
        async with (
            system(settings, training, narrator, scoreboard, deadline=deadline),
            ControlClient.open(settings.control_url) as control,
            asyncio.timeout_at(deadline),
        ):
            outcomes = Outcomes(control)
            traffic = Traffic(settings.edge_url, live, outcomes)
            scoreboard.control = control
            story = Story(control, traffic, narrator, scoreboard, seen)
            try:
                await _with_users(story, traffic, outcomes, scoreboard)
            finally:
                seen.requests, seen.failed_requests = traffic.requests, traffic.failed
                scoreboard.control = scoreboard.traffic = None
            _sum_up(seen, traffic, outcomes, narrator, scoreboard)
    finally:
        watching.cancel()
        await asyncio.wait({watching})


async def _with_users(
    story: Story, traffic: Traffic, outcomes: Outcomes, scoreboard: Scoreboard
) -> None:
    await story.first_champion()
    scoreboard.traffic = traffic
    async with asyncio.TaskGroup() as users:
        asking = users.create_task(traffic.run())
        users.create_task(outcomes.run())
        await story.promotion()
        await story.harm()
        await story.fault()
        await story.by_hand()
        await story.receipts()
        traffic.stop()
        await asking
        outcomes.stop()


def _sum_up(
    seen: Seen, traffic: Traffic, outcomes: Outcomes, narrator: Narrator, scoreboard: Scoreboard
) -> None:
    for failure, times in traffic.failures.most_common(5):
        narrator.wrong(f"{times} times: {failure}")
    if outcomes.refused:
        raise BrokenPromise(f"Outcomes were refused: {dict(outcomes.refused)}")
    narrator.summary(
        f"What {scoreboard.seconds:.0f} seconds have shown",
        [
            ("client requests, failed", f"{seen.requests:,}, {seen.failed_requests}"),
            ("answered by another version in time", f"{traffic.rescued:,}"),
            ("version 2 promoted", f"{seen.promote_seconds} s, {seen.promote_units:,} users"),
            ("version 3 rolled back, outcomes", f"{seen.harm_seconds} s"),
            ("version 4 rolled back, guardrail", f"{seen.fault_seconds} s"),
            ("rollback by hand, 2 to 1", f"{seen.rollback_ms} ms"),
            ("decisions made again from receipts", f"{seen.receipts}"),
        ],
    )


def _explained(error: Exception) -> list[str]:
    """Return what went wrong; what nobody foresaw is shown with its traceback."""
    if isinstance(error, ExceptionGroup):
        return [words for each in error.exceptions for words in _explained(each)]
    match error:
        case BrokenPromise():
            return [str(error)]
        case TiltyardError():
            return [f"{error.message} {error.hint}".strip()]
    traceback.print_exception(error)
    return [f"{type(error).__name__}: {error}"]
