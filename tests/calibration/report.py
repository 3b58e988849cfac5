"""Everything that was found, and whether it is good enough."""

from dataclasses import dataclass

from tests.calibration.canary import Canaries
from tests.calibration.case import Case
from tests.calibration.judged import HALTED, Rate
from tests.calibration.race import OURS, OURS_BOUNDED, Racer
from tests.calibration.shadow import Gates
from tests.calibration.traps import Trap

MOST_OPEN_ENDED, MOST_BOUNDED, MOST_CANARY = 1.15, 0.80, 400


@dataclass(frozen=True, slots=True)
class Bar:
    """Something promised, and what was measured."""

    what: str
    asked: str
    measured: str
    met: bool


@dataclass(frozen=True, slots=True)
class Report:
    """All results of one calibration."""

    seed: int
    part: float
    cases: tuple[Case, ...]
    rates: dict[str, dict[str, Rate]]
    racers: tuple[Racer, ...]
    canaries: Canaries
    gates: Gates
    traps: tuple[Trap, ...]

    @property
    def judged(self) -> list[tuple[str, str, Rate]]:
        """Every rate of false verdicts, but those of the sample ratio, which are added up."""
        return [
            (name, verdict, rate)
            for name, rates in self.rates.items()
            for verdict, rate in rates.items()
            if verdict != HALTED
        ]

    @property
    def halted(self) -> Rate:
        """False alarms of the sample ratio in all cases together."""
        first, *others = (rates[HALTED] for rates in self.rates.values() if HALTED in rates)
        for other in others:
            first += other
        return first

    def racer(self, name: str) -> Racer:
        return next(racer for racer in self.racers if racer.name == name)

    @property
    def bars(self) -> tuple[Bar, ...]:
        """What must hold."""
        judged = [rate for _, _, rate in self.judged]
        judged += [self.halted, self.canaries.false, self.gates.false]
        judged += [self.racer(name).wrong for name in (OURS, OURS_BOUNDED)]
        judged += [trap.ours for trap in self.traps]
        too_many = [rate for rate in judged if not rate.kept]
        free, ended = self.racer(OURS), self.racer(OURS_BOUNDED)
        naive = self.racer("z-test at every look").wrong
        fooled = [trap for trap in self.traps if trap.naive.interval[0] > trap.naive.alpha]
        return (
            Bar(
                "False verdicts",
                f"none of {len(judged)} rates above its alpha",
                f"{len(too_many)} above",
                not too_many,
            ),
            Bar(
                "Mean sample, open-ended",
                f"at most {MOST_OPEN_ENDED:.2f} N",
                f"{free.mean:.3f} N",
                free.mean <= MOST_OPEN_ENDED,
            ),
            Bar(
                "Mean sample, bounded",
                f"at most {MOST_BOUNDED:.2f} N at 80 % power",
                f"{ended.mean:.3f} N at {100 * ended.power.share:.1f} %",
                ended.mean <= MOST_BOUNDED and ended.power.interval[1] >= 0.8,
            ),
            Bar(
                "A drop from 2 % to 0 at a 5 % canary",
                f"found within a median of {MOST_CANARY} canary requests",
                f"{self.canaries.median:.0f}",
                self.canaries.median <= MOST_CANARY,
            ),
            Bar(
                "A z-test at every look",
                "seen to be wrong",
                f"{100 * naive.share:.1f} % false",
                naive.interval[0] > naive.alpha,
            ),
            Bar(
                "Each trap",
                "seen to catch the naive method",
                f"{len(fooled)} of {len(self.traps)}",
                len(fooled) == len(self.traps),
            ),
        )

    @property
    def met(self) -> bool:
        return all(bar.met for bar in self.bars)
