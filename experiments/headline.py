"""Which of a decision's reasons a person is to read first."""

from collections.abc import Iterator

from experiments.assessment import Assessment, InShadow
from experiments.decision import Continue, Decision, strength
from experiments.reasons import (
    NOT_HOT,
    missing_agreement_sentence,
    missing_goal_sentence,
    missing_margin_sentence,
    suspicion_sentence,
)


def by_importance(decision: Decision, found: Assessment) -> tuple[str, ...]:
    """Return a decision's reasons, what matters most first.

    Whatever changes something has its cause first already. Where an experiment just goes on, most
    is waiting that ends by itself; what the experiment hangs on comes before that: suspected harm,
    then a champion that could not be gone back to, then what is not shown of the best challenger.
    """
    reasons = decision.reasons
    if not isinstance(decision, Continue) or len(reasons) < 2:
        return reasons
    # With several challengers a reason begins with the version that it is about.
    pressing = (r for said in _pressing(found) for r in reasons if r.endswith(said))
    first = next(pressing, reasons[0])
    return (first, *(reason for reason in reasons if reason != first))


def _pressing(found: Assessment) -> Iterator[str]:
    for verdicts in sorted(found.challengers, key=lambda each: -each.any_harm.log_e):
        yield suspicion_sentence(verdicts.any_harm)
    yield NOT_HOT
    for verdicts in found.challengers:
        if verdicts.in_shadow is not None:
            yield from _pressing_in_shadow(verdicts.in_shadow)
    for verdicts in sorted(found.challengers, key=strength, reverse=True):
        if verdicts.superior is not None and not verdicts.superior.reached:
            yield missing_goal_sentence(verdicts.superior)
        for finding in verdicts.not_inferior:
            if not finding.reached:
                yield missing_margin_sentence(finding)


def _pressing_in_shadow(found: InShadow) -> Iterator[str]:
    if found.agreement is not None and not found.agreement.reached:
        yield missing_agreement_sentence(found.agreement)
    for finding in found.not_inferior:
        if not finding.reached:
            yield missing_margin_sentence(finding)
