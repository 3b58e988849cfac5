"""Every story once as it is, and once for each moment at which control can die in it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TypeAlias

from experiments.lifecycle import State
from experiments.receipts import ByHand, Receipt, replay
from experiments.store import Kind
from registry import Aliases
from serving.hosts import statuses
from tests.story.outside import DIGITS, Crashed
from tests.story.users import Users
from tests.story.world import World

Story: TypeAlias = Callable[[World], Awaitable[None]]
"""Told again after a crash, it goes on from where the world is, as a person would."""

MOST_STEPS = 60
SETTLED = 4
"""Seconds after which whatever was begun is done."""


@dataclass(frozen=True)
class Ending:
    """What a story comes to; the same wherever control dies in it.

    Args:
        experiments: State and shares by name.
        hosts: State by version.
        history: The champions, oldest first.
        acts: What the chain of receipts says, oldest first; what was asked for twice, once.
    """

    champion: int
    previous: int | None
    trials: tuple[str, ...]
    experiments: dict[str, tuple[str, list[int]]]
    hosts: dict[str, str]
    aliases: Aliases
    history: list[int]
    acts: list[str]


async def ending(world: World) -> Ending:
    """Return what `digits` has come to, having checked that it hangs together."""
    route = await world.route()
    assert route.unrecorded == ()
    assert await world.records.overrides() == {}
    history = await world.catalog.history(DIGITS)
    champions = [change.after for change in history]
    assert [change.before for change in history] == [None, *champions[:-1]]
    assert [change.epoch for change in history] == sorted({change.epoch for change in history})
    receipts = await world.records.receipts(DIGITS)
    stored = world.store._living(Kind.RECEIPT)
    for name, _ in receipts:
        replay(name, stored[name].body)
    whole = not receipts or receipts[-1][1].previous is None
    assert whole or world.store.has_lost_receipts, "the chain of receipts is complete"
    return Ending(
        champion=route.champion,
        previous=route.previous,
        trials=tuple(trial.experiment for trial in route.trials),
        experiments={
            held.value.declaration.name: (
                held.value.state,
                [stage.share for stage in held.value.stages],
            )
            for held in await world.records.experiments()
        },
        hosts={str(r): status.state for r, status in (await statuses(world.store)).items()},
        aliases=await world.catalog.aliases(DIGITS),
        history=champions,
        acts=[act for act, _ in groupby(_act(receipt) for _, receipt in reversed(receipts))],
    )


def _act(receipt: Receipt) -> str:
    return receipt.act.action if isinstance(receipt.act, ByHand) else receipt.act.kind


async def with_crashes(
    folder: Path,
    story: Story,
    *,
    prepared: Callable[[Path], Awaitable[World]] = World.standing,
    repair: int = 2,
) -> Ending:
    """Tell a story, then again with control killed after its first, second, ... change.

    Users are watched at every moment. After each crash another control takes over, and the story
    is told on; it has to end as it did without a crash.

    Args:
        repair: Seconds that control has to itself before the story goes on.
    """
    meant = await _told(folder / "whole", story, prepared, None, repair)
    assert meant is not None
    for steps in range(1, MOST_STEPS):
        found = await _told(folder / f"crash-{steps}", story, prepared, steps, repair)
        if found is None:
            return meant
        assert found == meant, f"after a crash at step {steps}"
    raise AssertionError("the story is too long, or never ends")


async def _told(
    folder: Path,
    story: Story,
    prepared: Callable[[Path], Awaitable[World]],
    steps: int | None,
    repair: int,
) -> Ending | None:
    """Return how the story ended; None if it was over before so many steps."""
    folder.mkdir()  # noqa: ASYNC240  memory is all that is waited for
    world = await prepared(folder)
    users = Users.of(world)
    if steps is not None:
        world.crash_after(steps)
    try:
        await story(world)
        await world.live(SETTLED)
    except Crashed:
        await world.restart_control()
        await world.live(repair)
        await story(world)
        await world.live(SETTLED)
    else:
        if steps is not None:
            return None
    users.assert_at_rest()
    return await ending(world)


GOOD = {"goal": (0.5, 0.9)}
"""Traffic with a challenger that is clearly better."""

BAD = {"goal": (0.9, 0.3)}
"""Traffic with a challenger that is clearly worse at its goal."""


ADOPTED = ["adopt"]
STARTED = [*ADOPTED, "start"]
"""What the chain of receipts says once there is a champion, and once an experiment runs."""


def assert_taken_out(end: Ending, shares: list[int], *acts: str) -> None:
    """Check that the challenger was, by the last of `acts`, and all is as before it came."""
    assert end.experiments == {"digits-v2": (State.ROLLED_BACK, shares)}
    assert (end.champion, end.previous, end.trials) == (1, None, ())
    assert (end.aliases.champion, end.history) == (1, [1])
    assert end.acts == [*STARTED, *acts]
    assert end.hosts == {"digits/1": "hot"}


async def started(folder: Path) -> World:
    """Return a world whose experiment is in its first stage."""
    world = await World.standing(folder)
    await world.start()
    return world


async def at_second_stage(folder: Path) -> World:
    """Return a world whose experiment is in its last stage, and has shown nothing yet there."""
    world = await started(folder)
    await world.evidence.traffic(2000, **GOOD)
    await world.live(6)
    assert (await world.experiment()).stage.number == 1
    return world


async def promoted(folder: Path) -> World:
    """Return a world in which the challenger has become the champion."""
    world = await at_second_stage(folder)
    await world.evidence.traffic(2000, **GOOD)
    await world.live(8)
    assert (await world.route()).champion == 2
    return world
