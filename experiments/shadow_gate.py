"""What stands between a challenger in the shadow and its first user, or its pass."""

from datetime import datetime
from typing import Protocol

from experiments.assessment import Verdicts
from experiments.evidence import Evidence
from experiments.model import Stage
from experiments.reasons import (
    NOT_HOT,
    Agreed,
    agreement_sentence,
    dropped_sentence,
    kept_margin_sentence,
    missing_agreement_sentence,
    missing_margin_sentence,
    missing_pairs_sentence,
    suspicion_sentence,
    waiting_sentence,
)
from experiments.shadow import MOST_DROPPED


class InShadow(Agreed, Protocol):
    """What the gate needs of a plan."""

    @property
    def stage(self) -> Stage: ...


def not_passed(
    plan: InShadow, evidence: Evidence, found: Verdicts, now: datetime
) -> tuple[str, ...]:
    """Return why a challenger has not passed in the shadow yet; empty if it has.

    Where users are to meet it next, it is enough that answers agree as declared and that nothing
    suggests harm: harm to users is looked for from the first of them on. Where nobody is ever to
    meet it, every guardrail that pairs tell of has to be shown to be kept.
    """
    declaration = plan.declaration
    shadow, tests, seen = declaration.shadow, found.in_shadow, evidence.paired(found.version)
    assert shadow is not None
    assert tests is not None
    least = declaration.limits.min_runtime / declaration.gates
    ran = now - plan.stage.opened_at
    missing = []
    if ran < least:
        missing.append(waiting_sentence("time in the shadow", ran, least))
    if seen.units < shadow.pairs:
        missing.append(missing_pairs_sentence(seen, shadow.pairs))
    if seen.dropped_share > MOST_DROPPED:
        missing.append(dropped_sentence(seen))
    if tests.agreement is not None and not tests.agreement.reached:
        missing.append(missing_agreement_sentence(tests.agreement))
    if found.any_harm.log_e >= found.any_harm.needed / 2:
        missing.append(suspicion_sentence(found.any_harm))
    if not declaration.shadow_only:
        return (*missing, *([] if evidence.rollback_target_hot else [NOT_HOT]))
    margins = (each for each in tests.not_inferior if not each.reached)
    return (*missing, *map(missing_margin_sentence, margins))


def passed_because(plan: InShadow, evidence: Evidence, found: Verdicts) -> tuple[str, ...]:
    """Return what a challenger has shown in the shadow."""
    tests, seen = found.in_shadow, evidence.paired(found.version)
    assert tests is not None
    agreed = () if tests.agreement is None else (tests.agreement,)
    return (
        *(agreement_sentence(plan.declaration, seen, each) for each in agreed),
        *map(kept_margin_sentence, tests.not_inferior),
    )
