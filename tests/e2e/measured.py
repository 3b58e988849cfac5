"""What clients report of every kind of metric, and what must then be known of each arm.

Nothing here is computed with the product's own code, but for who is a unit: which slot is one's.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import floor, fsum, isclose
from typing import Any

from experiments.assignment import assign, segment, slot
from experiments.model import Variant
from experiments.outcomes import MOST_OUTCOMES
from serving.client import ControlClient
from tests.e2e.client import Answer, Outcome, Reported, Traffic
from tests.e2e.system_fixture import System

CAP = (0.0, 50.0)
SCORES = (1.0, 5.0, 0.5)
GROUPS = 100

TOLERANCE = 1e-9
"""Of moments: they are merged one by one there, and summed at once here."""

ONCE_A_REQUEST = ("tokens",)

Arm = tuple[int, str, int | None, str | None]
"""Stage, variant, challenger (None for the others), segment (None for everybody)."""

Pairs = list[tuple[float, float]]


def everything(answer: Answer) -> Sequence[Outcome]:
    """Report an outcome of each kind, as it follows from the row and from the answer."""
    row = answer.row
    revenue: dict[str, object] = {"metric": "revenue", "value": 70 * row.difficulty - 5}
    if row.label:
        revenue["covariate"] = 10 * row.difficulty + row.label
    answers = 1 + row.label % 3
    return [
        revenue,
        {"metric": "tokens", "value": 7.5 * row.label + 3, "denominator": answers},
        {"metric": "rating", "value": 1 + 4 * row.difficulty},
        {"metric": "complaints", "value": 2 if row.difficulty > 0.9 else 0},
        {"metric": "correct", "value": int(answer.right)},
    ]


async def report(
    control: ControlClient, outcomes: Sequence[tuple[Answer, Outcome]]
) -> list[Reported]:
    """Report outcomes that no client has reported by itself."""
    sent = [{"prediction_id": answer.token, **each} for answer, each in outcomes]
    results = []
    for start in range(0, len(sent), MOST_OUTCOMES):
        results += (await control.outcomes(sent[start : start + MOST_OUTCOMES]))["results"]
    return [
        Reported(answer, outcome, each.get("code", each["status"]))
        for (answer, outcome), each in zip(outcomes, results, strict=True)
    ]


@dataclass(slots=True)
class Known:
    """What is known of an arm, by metric and index: counts, or pairs of which moments are kept."""

    plain: Counter[str] = field(default_factory=Counter)
    counts: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    pairs: dict[str, dict[int, Pairs]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )


@dataclass(slots=True)
class Measures:
    """What the answers to clients, and the outcomes that they reported, amount to.

    Args:
        segments: Header values that are told apart.
    """

    experiment: str
    segments: Sequence[str] = ()
    arms: dict[Arm, Known] = field(default_factory=lambda: defaultdict(Known))
    late: set[str] = field(default_factory=set)
    surprising: list[Reported] = field(default_factory=list)
    _met: set[tuple[str, int, int]] = field(default_factory=set)
    _observed: dict[tuple[str, int], int] = field(default_factory=dict)

    def see(self, answers: Iterable[Answer], reported: Iterable[Reported]) -> None:
        """Take everything in, in the order in which it happened."""
        for answer in answers:
            if answer.prediction is not None and answer.prediction.experiment == self.experiment:
                self._see(answer)
        for each in reported:
            assert each.answer.prediction is not None
            if each.answer.prediction.experiment == self.experiment:
                self._hear(each)

    def _see(self, answer: Answer) -> None:
        stage, place = _stage_and_slot(answer)
        for known in self._of(answer):
            known.plain["requests"] += 1
            known.plain["failovers"] += answer.failover
        for name, happened in (("units", True), ("error_rate", answer.failover)):
            if happened and (name, stage, place) not in self._met:
                self._met.add((name, stage, place))
                for known in self._of(answer):
                    if name == "units":
                        known.plain["units"] += 1
                    else:
                        known.counts[name][1] += 1

    def _hear(self, each: Reported) -> None:
        answer, outcome, name = each.answer, each.outcome, str(each.outcome["metric"])
        stage, place = _stage_and_slot(answer)
        if each.said == "late_outcome":
            self.late.add(answer.token)
            return
        if name == "complaints" and not outcome["value"]:
            self._check(each, "counted")
            return
        if name not in ONCE_A_REQUEST:
            if self._observed.get((name, place), -1) >= stage:
                self._check(each, "repeated_unit")
                return
            self._observed[name, place] = stage
        self._check(each, "counted")
        for known in self._of(answer):
            _note(known, name, outcome, place % GROUPS)

    def _check(self, each: Reported, expected: str) -> None:
        # Sent twice if the first answer was lost: it is a duplicate then.
        if each.said not in (expected, "duplicate_outcome"):
            self.surprising.append(each)

    def _of(self, answer: Answer) -> list[Known]:
        assert answer.prediction is not None
        found = answer.prediction
        assert found.stage is not None
        assert found.variant is not None
        version = found.version if found.variant is Variant.CHALLENGER else None
        where = [None, answer.row.country] if answer.row.country in self.segments else [None]
        return [self.arms[found.stage, found.variant, version, place] for place in where]

    def differences(self, view: Mapping[str, Any]) -> list[str]:
        """Return in what an experiment as control shows it differs from this; empty if in nothing.

        The histogram of latencies is the edge's own: clients only know how many units it is of.
        """
        shown = dict(_arms(view["evidence"]["stages"], None))
        for place, stages in view["evidence"]["segments"].items():
            shown |= dict(_arms(stages, place))
        found = []
        for arm in {*shown, *self.arms}:
            known, tally = self.arms.get(arm, Known()), shown.get(arm, _NOTHING)
            found += [f"{arm}: {each}" for each in _unlike(known, tally)]
        if view["evidence"]["late"] != len(self.late):
            found.append(f"late: {view['evidence']['late']} instead of {len(self.late)}")
        return found


_NOTHING: Mapping[str, Any] = {"requests": 0, "failovers": 0, "units": 0, "samples": {}}


def _stage_and_slot(answer: Answer) -> tuple[int, int]:
    assert answer.prediction is not None
    assert answer.prediction.stage is not None
    assert answer.prediction.slot is not None
    return answer.prediction.stage, answer.prediction.slot


def _note(known: Known, name: str, outcome: Mapping[str, Any], group: int) -> None:
    value = outcome["value"]
    match name:
        case "revenue":
            capped, covariate = min(max(value, CAP[0]), CAP[1]), outcome.get("covariate")
            known.pairs[name][int(covariate is not None)].append((capped, covariate or 0.0))
        case "tokens":
            known.pairs[name][group].append((value, float(outcome["denominator"])))
        case "rating":
            low, _, step = SCORES
            known.counts[name][floor((value - low) / step + 0.5)] += 1
        case "complaints":
            known.counts[name][1] += 1
        case "correct":
            known.counts[name][value] += 1


def _arms(
    stages: Iterable[Mapping[str, Any]], place: str | None
) -> Iterable[tuple[Arm, Mapping[str, Any]]]:
    for stage in stages:
        number = stage["stage"]
        yield (number, Variant.CHAMPION, None, place), stage["champion"]
        yield (number, Variant.VETERAN, None, place), stage["veterans"]
        for version, tally in stage["challengers"].items():
            yield (number, Variant.CHALLENGER, int(version), place), tally


def _unlike(known: Known, tally: Mapping[str, Any]) -> Iterable[str]:
    for name in ("requests", "failovers", "units"):
        if tally[name] != known.plain[name]:
            yield f"{name} {tally[name]} instead of {known.plain[name]}"
    samples = tally["samples"]
    for key in {*samples, *known.counts, *known.pairs}:
        sample = samples.get(key, {"counts": {}, "moments": {}})
        counts = {int(index): count for index, count in sample["counts"].items()}
        if key.startswith("latency_ms@"):
            if sum(counts.values()) != known.plain["units"]:
                yield f"{key} is of {sum(counts.values())} units of {known.plain['units']}"
            continue
        if counts != dict(known.counts.get(key, {})):
            yield f"{key} {counts} instead of {dict(known.counts.get(key, {}))}"
        pairs = known.pairs.get(key, {})
        if {int(index) for index in sample["moments"]} != set(pairs):
            yield f"{key} has {sorted(sample['moments'])} instead of {sorted(pairs)}"
        for index, moments in sample["moments"].items():
            if not _is_close(moments, _moments(pairs.get(int(index), []))):
                yield f"{key}:{index} {moments} instead of {_moments(pairs.get(int(index), []))}"


def _moments(pairs: Pairs) -> dict[str, float]:
    n = len(pairs) or 1
    mean, mean_x = fsum(y for y, _ in pairs) / n, fsum(x for _, x in pairs) / n
    return {
        "n": len(pairs),
        "mean": mean,
        "m2": fsum((y - mean) ** 2 for y, _ in pairs),
        "mean_x": mean_x,
        "m2_x": fsum((x - mean_x) ** 2 for _, x in pairs),
        "co": fsum((y - mean) * (x - mean_x) for y, x in pairs),
    }


def _is_close(shown: Mapping[str, float], known: Mapping[str, float]) -> bool:
    return shown["n"] == known["n"] and all(
        isclose(shown[name], known[name], rel_tol=TOLERANCE, abs_tol=TOLERANCE) for name in known
    )


def misassigned(answers: Iterable[Answer], view: Mapping[str, Any]) -> list[str]:
    """Return what does not agree with the reference of who meets what, and in which segment.

    A challenger that was dropped is met until some epoch, and by nobody from the next one on.
    """
    stages = {stage["number"]: stage for stage in view["stages"]}
    declared = view["declaration"].get("segments") or {"values": []}
    of, wrong = [a for a in answers if a.prediction and a.prediction.experiment == view["name"]], []
    last = {
        gone: max((a.epoch for a in of if a.version == gone and not a.failover), default=0)
        for gone in view["dropped"]
    }
    for answer in of:
        stage, found = stages[answer.prediction.stage], answer.prediction
        meets = assign(
            answer.row.unit.encode(),
            salt=view["name"],
            challengers=stage["challengers"],
            control=view["champion"],
            cut=stage["share"],
            floor=stage["floor"],
            dropped=[gone for gone, epoch in last.items() if answer.epoch > epoch],
        )
        place = segment(answer.row.country, declared["values"])
        if (found.variant, found.version, found.segment) != (meets.variant, meets.version, place):
            wrong.append(f"{answer} instead of {meets} in segment {place}")
        side = Variant.CHAMPION if meets.version == view["champion"] else Variant.CHALLENGER
        if answer.met != side:
            wrong.append(f"{answer} was told that it met {answer.met}")
        if found.slot != slot(answer.row.unit.encode(), salt=view["name"]):
            wrong.append(f"{answer} in another slot")
    return wrong


async def books_agree(
    system: System,
    control: ControlClient,
    measures: Measures,
    *traffic: Traffic,
) -> dict[str, Any]:
    """Return an experiment once all that it shows is what clients saw and reported."""
    for each in traffic:
        measures.see(each.answers, each.reported)
    view: dict[str, Any] = {}

    def agrees(found: Mapping[str, Any]) -> bool:
        view.update(found)
        return not measures.differences(found)

    try:
        found = await system.settled(control, measures.experiment, agrees)
    except AssertionError as error:
        said = "\n".join(measures.differences(view))
        raise AssertionError(f"{error}\n{said}") from None
    assert not measures.surprising, measures.surprising[:5]
    assert found["evidence"]["lost_bytes"] == 0
    lies = [lie for each in traffic for lie in misassigned(each.answers, found)]
    flaws = [answer.flaw for each in traffic for answer in each.failed]
    assert not lies, lies[:5]
    assert not flaws, flaws[:5]
    return found
