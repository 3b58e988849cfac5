"""What edges know better than the store: routes that it has lost, rollbacks that it has missed.

Users are served by what edges obey. Whatever the store has forgotten, it learns from them, and
nothing here sends users to a version that no edge sends them to already.
"""

from dataclasses import replace

from experiments.experiment import Experiment
from experiments.lifecycle import serves_challenger
from experiments.store import Fence
from registry.refs import ModelName
from serving.clock import Clock
from serving.intent import CONTROLLER, giving_way, is_tried
from serving.lanes import is_lane
from serving.records import Held, Records
from serving.rollback import ended
from serving.routes import Route
from serving.switch import Move, Switch

REPAIR = "repair"
"""What a receipt calls a trial that was taken out of a route because nothing is known of it."""


class Recovery:
    """Brings the store up to what the edges know, one tick at a time."""

    def __init__(self, records: Records, switch: Switch, clock: Clock) -> None:
        self._records = records
        self._switch = switch
        self._clock = clock

    async def rebuild_routes(self, fence: Fence) -> list[str]:
        """Give models whose route was lost, or is older than the edges', the one they obey."""
        # Edges first: what they obeyed then, the store has had before.
        obeyed = await self._obeyed()
        known = await self._records.routes()
        acted = []
        for model, route in obeyed.items():
            if is_lane(model) and model not in known:
                continue  # It is over, and the edge is about to forget it.
            if model not in known:
                await self._records.write_route(route, expected=0, fence=fence)
                acted.append(f"{model}: route rebuilt from the edges at epoch {route.epoch}")
            elif route.epoch > known[model].value.epoch:
                await self._catch_up(route, known[model], fence)
                acted.append(f"{model}: the edges' route of epoch {route.epoch} had been lost")
        return acted

    async def take_over_overrides(self, fence: Fence) -> list[str]:
        """Make what an edge was told by hand, while the store was away, true everywhere."""
        acted = []
        for name, override in (await self._records.overrides()).items():
            held = (await self._records.routes()).get(override.model)
            if held is None or not _is_taken_over(override, held.value):
                await self._take_over(override, fence)
            await self._records.forget_override(name)
            acted.append(f"{override.model}: rollback made at an edge taken over ({name})")
        return acted

    async def withdraw_unwatched(self, fence: Fence) -> list[str]:
        """Take trials out of routes whose experiment was lost, so that nobody looks for harm."""
        # Routes first: an experiment is written before its trial.
        routes = await self._records.routes()
        watched = {
            held.value.declaration.name
            for held in await self._records.experiments()
            if not held.value.is_final
        }
        acted = []
        for model, held in routes.items():
            lost = [each for each in held.value.trials if each.experiment not in watched]
            if not lost:
                continue
            names = " and ".join(each.experiment for each in lost)
            why = f"Nobody watches {names} any more."
            now = self._clock()
            receipt = await self._records.keep_act(
                REPAIR, (why,), model=model, by=CONTROLLER, at=now, route=held.value
            )
            alone = replace(
                held.value,
                epoch=held.value.epoch + 1,
                trials=tuple(each for each in held.value.trials if each not in lost),
                by=CONTROLLER,
                why=why,
                at=now,
                receipt=receipt,
            )
            await self._records.write_route(alone, expected=held.revision, fence=fence)
            acted.append(f"{model}: trial withdrawn. {why}")
        return acted

    async def give_way(
        self, held: Held[Experiment], route: Route, why: str, fence: Fence
    ) -> Held[Experiment]:
        """Begin to end an experiment that has no part in the model's route any more.

        What the route says stands, and so does the chain of receipts that led to it.
        """
        now, event = self._clock(), giving_way(held.value, route)
        receipt = await self._records.keep_act(
            event,
            (why,),
            model=route.model,
            by=CONTROLLER,
            at=now,
            route=route,
            experiment=replace(held.value, receipt=None),
        )
        ended = held.value.after(event, now, reasons=(why,), receipt=receipt)
        return await self._records.write_experiment(ended, expected=held.revision, fence=fence)

    async def _obeyed(self) -> dict[ModelName, Route]:
        """Return the latest route of each model that an edge obeys and was not told by hand."""
        obeyed: dict[ModelName, Route] = {}
        for report in await self._records.edges():
            for model, route in report.routes.items():
                by_hand = model in report.break_glass
                if not by_hand and (model not in obeyed or route.epoch > obeyed[model].epoch):
                    obeyed[model] = route
        return obeyed

    async def _catch_up(self, route: Route, known: Held[Route], fence: Fence) -> None:
        """Take the edges' word for what the store has forgotten.

        An experiment that they had ended by then is not begun again.
        """
        for running in await self._records.running(route.model):
            if serves_challenger(running.value.state) and not is_tried(running.value, route):
                why = "The store has lost how it ended; the edges have withdrawn it."
                await self.give_way(running, route, why, fence)
        raised = replace(route, epoch=route.epoch + 1)
        await self._records.write_route(raised, expected=known.revision, fence=fence)

    async def _take_over(self, override: Route, fence: Fence) -> None:
        model = override.model

        async def plan() -> Move:
            held = await self._records.route_if_any(model)
            receipt, beside = await ended(
                self._records,
                model,
                await self._records.running(model),
                held.value.receipt if held else None,
                by=override.by,
                why=f"At an edge: {override.why}",
                at=override.at,
                now=self._clock(),
                # Over since the edge was told, however long it took to get about.
                ended_at=override.at,
            )
            epoch = max(override.epoch, held.value.epoch if held else 0) + 1
            return Move(held, replace(override, epoch=epoch, receipt=receipt), beside)

        await self._switch.carry_out(plan, fence=fence)


def _is_taken_over(override: Route, route: Route) -> bool:
    """Whether a crash came after the route was written, and before the override was removed."""
    told = (override.by, override.why, override.at, override.champion)
    return told == (route.by, route.why, route.at, route.champion) and not route.trials
