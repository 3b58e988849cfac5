"""The store's documents as values: routes, experiments, receipts, and what the edges report."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from types import MappingProxyType
from typing import Final, Generic, TypeVar

from experiments.codec import decode, encode
from experiments.errors import UnknownExperiment, UnknownReceipt
from experiments.experiment import Experiment, read_all
from experiments.model import ExperimentName
from experiments.receipts import ByHand, Receipt, content_of, receipt_id
from experiments.spec import spec_hash
from experiments.store import ANY, Fence, Kind, Store, Write
from experiments.trail import Trail
from registry.errors import UnknownModel
from registry.refs import ModelName
from serving.edge.report import EdgeReport
from serving.routes import Route

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Held(Generic[T]):
    """A value and the revision at which it was read, to change it only if nobody else has."""

    value: T
    revision: int


NO_DRAFTS: Final[Mapping[str, Receipt]] = MappingProxyType({})


def route_write(route: Route, *, expected: int) -> Write:
    """Return what publishes a route."""
    return Write(Kind.ROUTE, route.model, encode(Route, route), expected)


def experiment_write(experiment: Experiment, *, expected: int) -> Write:
    """Return what keeps an experiment."""
    name = experiment.declaration.name
    return Write(Kind.EXPERIMENT, name, encode(Experiment, experiment), expected)


def receipt_write(receipt: Receipt) -> Write:
    """Return what keeps a receipt, under its id. Keeping it twice is keeping it once."""
    content = content_of(receipt)
    return Write(Kind.RECEIPT, receipt_id(content), content, ANY)


class Records:
    """Reads and writes typed documents. Every method may raise `StoreUnavailable`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def routes(self) -> Mapping[ModelName, Held[Route]]:
        """Return the route of every model that has one."""
        found = await self._store.read_all(Kind.ROUTE)
        return {
            ModelName(name): Held(decode(Route, stored.body), stored.revision)
            for name, stored in found.items()
        }

    async def route(self, model: ModelName) -> Held[Route]:
        """Return a model's route.

        Raises:
            UnknownModel: the model has no route: nothing of it was ever deployed and hot.
        """
        held = await self.route_if_any(model)
        if held is None:
            raise UnknownModel(
                f"No version of {model!r} serves traffic.",
                next_step="Deploy a version: `tiltyard deploy MODEL VERSION`.",
            )
        return held

    async def route_if_any(self, model: ModelName) -> Held[Route] | None:
        """Return a model's route; None if nothing of it serves traffic."""
        stored = await self._store.read(Kind.ROUTE, model)
        return Held(decode(Route, stored.body), stored.revision) if stored else None

    async def write_route(self, route: Route, *, expected: int, fence: Fence | None = None) -> int:
        """Publish a route.

        Raises:
            StaleRevision: the route was changed since it was read.
            LeaseLost: `fence` is no longer the leader's.
        """
        (revision,) = await self._store.write_all(
            [route_write(route, expected=expected)], fence=fence
        )
        return revision

    async def experiments(self) -> list[Held[Experiment]]:
        """Return every experiment, in the order in which they were started."""
        documents = await self._store.read_all(Kind.EXPERIMENT)
        return [Held(experiment, revision) for experiment, revision in read_all(documents)]

    async def experiment(self, name: ExperimentName) -> Held[Experiment]:
        """Return one experiment.

        Raises:
            UnknownExperiment: there is none of that name.
        """
        stored = await self._store.read(Kind.EXPERIMENT, name)
        if stored is None:
            raise UnknownExperiment(f"There is no experiment {name!r}.")
        return Held(decode(Experiment, stored.body), stored.revision)

    async def running(self, model: ModelName) -> list[Held[Experiment]]:
        """Return the experiments of `model` that are not over, in the order of their start."""
        return [
            held
            for held in await self.experiments()
            if held.value.declaration.model == model and not held.value.is_final
        ]

    async def write_experiment(
        self, experiment: Experiment, *, expected: int, fence: Fence | None = None
    ) -> Held[Experiment]:
        """Keep an experiment.

        Raises:
            StaleRevision: it was changed since it was read.
            LeaseLost: `fence` is no longer the leader's.
        """
        (revision,) = await self._store.write_all(
            [experiment_write(experiment, expected=expected)], fence=fence
        )
        return Held(experiment, revision)

    async def keep_receipt(self, receipt: Receipt) -> str:
        """Keep a receipt and return its id."""
        write = receipt_write(receipt)
        await self._store.write_all([write])
        return write.name

    async def keep_act(
        self,
        action: str,
        reasons: tuple[str, ...],
        *,
        model: ModelName,
        by: str,
        at: datetime,
        route: Route | None,
        experiment: Experiment | None = None,
    ) -> str:
        """Keep a receipt of something that no decision led to, and return its id.

        Args:
            route: The model's, until then.
            experiment: That the act is about.
        """
        latest = route.receipt if route else None
        return await self.keep_receipt(
            await self.draft_act(
                action, reasons, model=model, by=by, at=at, latest=latest, experiment=experiment
            )
        )

    async def draft_act(
        self,
        action: str,
        reasons: tuple[str, ...],
        *,
        model: ModelName,
        by: str,
        at: datetime,
        latest: str | None,
        experiment: Experiment | None = None,
        drafts: Mapping[str, Receipt] = NO_DRAFTS,
    ) -> Receipt:
        """Return the receipt of such an act, to be kept with what it is about.

        Args:
            latest: The model's receipt until then.
            drafts: As for `receipt_before`.
        """
        return Receipt(
            model=model,
            at=at,
            by=by,
            act=ByHand(action, reasons),
            plan=experiment.plan if experiment else None,
            evidence=None,
            previous=await self.receipt_before(latest, experiment, drafts=drafts),
            spec_hash=spec_hash(experiment.declaration) if experiment else None,
        )

    async def receipt_before(
        self,
        latest: str | None,
        experiment: Experiment | None,
        *,
        drafts: Mapping[str, Receipt] = NO_DRAFTS,
    ) -> str | None:
        """Return the receipt that the next one of an experiment follows.

        It is the latest of the model, for experiments may run beside each other. A crash can have
        kept the route from learning of the experiment's last: then it is that one.

        Args:
            drafts: Receipts that are still to be kept, by id; `latest` may be one of them.
        """
        own = experiment.receipt if experiment else None
        if own not in (None, latest) and latest is not None:
            async for name, _ in self._chain(latest, drafts):
                if name == own:
                    return latest
        return own or latest

    async def receipt(self, prefix: str) -> tuple[str, bytes]:
        """Return a receipt's full id and content; `prefix` is its id or a unique beginning of it.

        Raises:
            UnknownReceipt: no receipt, or more than one, begins like this.
        """
        exact = await self._store.read(Kind.RECEIPT, prefix)
        if exact is not None:
            return prefix, exact.body
        everything = await self._store.read_all(Kind.RECEIPT)
        found = [name for name in everything if name.startswith(prefix)] if prefix else []
        if len(found) != 1:
            raise UnknownReceipt(f"{len(found)} receipts begin with {prefix!r}; one is needed.")
        return found[0], everything[found[0]].body

    async def receipts(self, model: ModelName) -> list[tuple[str, Receipt]]:
        """Return the receipts that led to the model's present route, newest first.

        And those of its experiments that have not changed the route, such as of a pause.
        """
        stored = await self._store.read(Kind.ROUTE, model)
        ends = [decode(Route, stored.body).receipt] if stored else []
        ends += [
            held.value.receipt
            for held in await self.experiments()
            if held.value.declaration.model == model
        ]
        chains: dict[str, list[tuple[str, Receipt]]] = {}
        for end in ends:
            if end is not None and end not in chains:
                chains[end] = [each async for each in self._chain(end)]
        # Of two from the same moment, the one that follows the other is further from the beginning.
        placed = {
            name: (receipt.at, len(chain) - steps, name, receipt)
            for chain in chains.values()
            for steps, (name, receipt) in enumerate(chain)
        }
        newest_first = sorted(placed.values(), key=itemgetter(0, 1, 2), reverse=True)
        return [(name, receipt) for _, _, name, receipt in newest_first]

    async def _chain(
        self, end: str, drafts: Mapping[str, Receipt] = NO_DRAFTS
    ) -> AsyncIterator[tuple[str, Receipt]]:
        """Give a receipt and all that it follows, as far back as they are kept."""
        name: str | None = end
        while name is not None:
            receipt = drafts.get(name)
            if receipt is None:
                found = await self._store.read(Kind.RECEIPT, name)
                if found is None:
                    return
                receipt = decode(Receipt, found.body)
            yield name, receipt
            name = receipt.previous

    async def trail(self, name: ExperimentName) -> Trail:
        """Return how what an experiment shows has moved; empty if that was lost, or never kept."""
        stored = await self._store.read(Kind.TRAIL, name)
        return decode(Trail, stored.body) if stored else Trail()

    async def write_trail(self, name: ExperimentName, trail: Trail, *, fence: Fence) -> None:
        """Keep a trail.

        Raises:
            LeaseLost: `fence` is no longer the leader's.
        """
        await self._store.write(Kind.TRAIL, name, encode(Trail, trail), expected=ANY, fence=fence)

    async def edges(self) -> list[EdgeReport]:
        """Return the latest report of every edge that is alive."""
        found = await self._store.read_all(Kind.EDGE)
        return [decode(EdgeReport, stored.body) for _, stored in sorted(found.items())]

    async def enrolled(self) -> Mapping[str, datetime]:
        """Return every edge that has not ended in order, and about when it was last heard of."""
        found = await self._store.read_all(Kind.MEMBER)
        return {
            name: datetime.fromisoformat(stored.body.decode())
            for name, stored in sorted(found.items())
        }

    async def overrides(self) -> Mapping[str, Route]:
        """Return the routes that edges were given by hand while the store was away."""
        found = await self._store.read_all(Kind.OVERRIDE)
        return {name: decode(Route, stored.body) for name, stored in found.items()}

    async def forget_override(self, name: str) -> None:
        """Tell the edge that its override has been taken over."""
        await self._store.delete(Kind.OVERRIDE, name)
