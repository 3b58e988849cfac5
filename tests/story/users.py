"""What must hold for users at every moment of every story, whatever dies in between."""

from dataclasses import dataclass, field
from itertools import combinations

from experiments.codec import decode
from experiments.experiment import Experiment
from experiments.lifecycle import serves_challenger
from experiments.model import ExperimentName
from experiments.store import Kind
from registry.refs import ModelName, VersionRef
from serving.edge.mapfile import parse_line
from serving.lanes import has_hosts
from serving.routes import Route
from tests.story.outside import Edge
from tests.story.world import World


@dataclass
class Users:
    """Watches the maps that requests obey, after every change of anything.

    Attributes:
        forced: Versions that a person insisted on, hot or not.
    """

    world: World
    forced: set[VersionRef] = field(default_factory=set)
    met: dict[tuple[str, ModelName], Route] = field(default_factory=dict)
    gone: set[tuple[str, ExperimentName]] = field(default_factory=set)

    @classmethod
    def of(cls, world: World) -> "Users":
        """Begin to watch."""
        users = cls(world)
        users.look()
        world.fuse.witnesses.append(users.look)
        return users

    def look(self) -> None:
        """Fail if any user could be harmed now."""
        for name, edge in self.world.edges.items():
            for model in edge.runtime.map:
                self._judge(name, self.obeyed(edge, model))
        self._agree()

    def obeyed(self, edge: Edge, model: ModelName) -> Route:
        """Return the route that requests at `edge` obey, as far as the map has it."""
        return parse_line(f"{model} {edge.runtime.map[model]}", self.world.clock())

    def _judge(self, edge: str, route: Route) -> None:
        before = self.met.get((edge, route.model))
        self.met[edge, route.model] = route
        if before is not None:
            assert route.epoch >= before.epoch, "epochs never go backwards"
        # Nobody asks a lane of drills anything.
        served = _served(route) if has_hosts(route.model) else frozenset()
        new = served - (_served(before) if before else set())
        for ref in served - self.forced:
            assert self.world.serve.is_loaded(ref), f"users are sent to {ref}, which is unloaded"
        for ref in new - self.forced:
            assert self.world.serve.is_hot(ref), f"users are sent to {ref}, which is not hot"
        now = {trial.experiment for trial in route.trials}
        back = now & {over for at, over in self.gone if at == edge}
        assert not back, f"the trials of {back} were withdrawn, and are back"
        earlier = {trial.experiment for trial in before.trials} if before else set()
        self.gone |= {(edge, over) for over in earlier - now}
        assert route.control not in route.active, "a version is compared with itself"
        pairs = combinations(route.trials, 2)
        assert all(a.is_apart_from(b) for a, b in pairs), "a unit may be in two experiments"

    def _agree(self) -> None:
        """Edges that obey the same epoch obey the same route, unless told otherwise by hand."""
        told: dict[tuple[ModelName, int], str] = {}
        for edge in self.world.edges.values():
            for model, value in edge.runtime.map.items():
                if model not in edge.agent.known.overrides:
                    epoch = self.obeyed(edge, model).epoch
                    assert told.setdefault((model, epoch), value) == value, "two routes, one epoch"

    def assert_at_rest(self) -> None:
        """Fail unless every edge that hears obeys what the store says, and nothing is half done."""
        for stored in self.world.store._living(Kind.EXPERIMENT).values():
            experiment = decode(Experiment, stored.body)
            for edge in self.world.edges.values():
                if edge.alive and not edge.deaf:
                    route = self.obeyed(edge, experiment.declaration.model)
                    meets = route.trial_of(experiment.declaration.name) is not None
                    assert meets == serves_challenger(experiment.state)
        for stored in self.world.store._living(Kind.ROUTE).values():
            route = decode(Route, stored.body)
            for edge in self.world.edges.values():
                if edge.alive and not edge.deaf:
                    assert edge.route(route.model).epoch == route.epoch
                    assert _served(self.obeyed(edge, route.model)) == _served(route)


def _served(route: Route) -> set[VersionRef]:
    return {VersionRef(route.model, version) for version in route.served}
