"""A receipt is believed only if it is whole and its decision can be made again."""

from dataclasses import replace
from datetime import timedelta, timezone

import pytest

from experiments.decision import METHODS, Continue, Halt, Inconclusive, Promote, RollBack, decide
from experiments.errors import ReceiptMismatch
from experiments.evidence import Evidence
from experiments.receipts import ByHand, Receipt, content_of, receipt_id, replay
from registry.refs import ModelName, Version
from tests.unit.samples import LIMITS, SECOND, START, evidence_of, plan_at, tally

NOW = START + 120 * SECOND
GOOD = tally(500, successes=400, failures=100), tally(1000, successes=600, failures=400)
EARLY = tally(100, successes=60, failures=40), tally(1900, successes=1140, failures=760)
MIDDLE = tally(420), tally(1580)
PROMOTION = evidence_of(EARLY, MIDDLE, GOOD)

CASES = {
    Promote: (plan_at(2), PROMOTION, NOW),
    RollBack: (plan_at(0), evidence_of((tally(100, errors=60), tally(1900, errors=9))), NOW),
    Halt: (plan_at(0), evidence_of((tally(900), tally(1900))), NOW),
    Inconclusive: (plan_at(0), evidence_of(EARLY), START + LIMITS.max_runtime),
    Continue: (plan_at(0), evidence_of(EARLY), NOW),
}


def receipt_of(kind, **changes):
    plan, evidence, at = CASES[kind]
    act = decide(plan, evidence, at)
    assert isinstance(act, kind)
    whole = Receipt(ModelName("digits"), at, "controller", act, plan, evidence, "f" * 64, "e" * 64)
    return replace(whole, **changes)


def replayed(receipt):
    content = content_of(receipt)
    return replay(receipt_id(content), content)


@pytest.mark.parametrize("kind", CASES)
def test_every_kind_of_decision_is_made_again_from_its_receipt_alone(kind) -> None:
    assert replayed(receipt_of(kind)) == receipt_of(kind)


def test_where_the_clocks_hang_does_not_matter() -> None:
    elsewhere = NOW.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert replayed(receipt_of(Promote, at=elsewhere)).act == receipt_of(Promote).act


def test_the_id_is_the_digest_of_the_content_and_written_once_for_all() -> None:
    """Recorded once: another way to write receipts would orphan every one there is."""
    by_hand = Receipt(ModelName("digits"), START, "me", ByHand("stop", ("why",)), None, None, None)
    assert content_of(by_hand) == (
        b'{"model":"digits","at":"2026-03-01T12:00:00Z","by":"me","act":{"action":"stop",'
        b'"reasons":["why"],"kind":"by_hand"},"plan":null,"evidence":null,"previous":null,'
        b'"spec_hash":null,"methods":"tiltyard-evaluator/3"}'
    )
    assert len({receipt_id(content_of(receipt_of(kind))) for kind in CASES}) == len(CASES)


def test_every_alteration_of_one_byte_is_found() -> None:
    content = content_of(receipt_of(Promote))
    name = receipt_id(content)
    for at in range(len(content)):
        altered = bytearray(content)
        altered[at] ^= 1 << at % 8
        with pytest.raises(ReceiptMismatch, match="altered"):
            replay(name, bytes(altered))
    for cut in (content[:-1], content + b" ", b""):
        with pytest.raises(ReceiptMismatch, match="altered"):
            replay(name, cut)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (Promote, {"act": Continue(("Nothing to see.",))}),
        (Continue, {"act": Promote(("Believe me.",), Version(2))}),
        (RollBack, {"act": replace(receipt_of(RollBack).act, culprits=("correct",))}),
        (RollBack, {"act": replace(receipt_of(RollBack).act, reasons=("No reason.",))}),
        (Promote, {"evidence": evidence_of(EARLY, MIDDLE, (GOOD[1], GOOD[0]))}),
        (Promote, {"evidence": replace(PROMOTION, rollback_target_hot=False)}),
        (Promote, {"plan": plan_at(2, limits=replace(LIMITS, min_units=10**6))}),
        (Promote, {"at": START + SECOND}),
    ],
)
def test_what_was_forged_with_a_digest_of_its_own_gives_another_decision(kind, changes) -> None:
    with pytest.raises(ReceiptMismatch, match="recomputes to"):
        replayed(receipt_of(kind, **changes))


@pytest.mark.parametrize("missing", [{"plan": None}, {"evidence": None}])
def test_a_decision_without_what_it_was_made_from_is_not_believed(missing) -> None:
    with pytest.raises(ReceiptMismatch, match="without"):
        replayed(receipt_of(Promote, **missing))


@pytest.mark.parametrize(
    "nonsense",
    [
        evidence_of((tally(-5), tally(100))),
        replace(PROMOTION, stages=(replace(PROMOTION.stages[0], odds=(1, 1)),)),
        replace(PROMOTION, stages=(replace(PROMOTION.stages[0], odds=(0, 0)),)),
    ],
)
def test_what_no_formula_takes_is_a_mismatch_like_any_other(nonsense: Evidence) -> None:
    with pytest.raises(ReceiptMismatch, match="cannot be recomputed"):
        replayed(receipt_of(Promote, evidence=nonsense))


def test_a_receipt_of_other_formulas_is_not_recomputed_by_these() -> None:
    with pytest.raises(ReceiptMismatch, match="made by tiltyard-evaluator/0"):
        replayed(receipt_of(Promote, methods="tiltyard-evaluator/0"))


@pytest.mark.parametrize("methods", [METHODS, "tiltyard-evaluator/0"])
@pytest.mark.parametrize("plan", [None, plan_at(1)])
def test_what_was_done_by_hand_is_only_checked_to_be_whole(methods, plan) -> None:
    by_hand = receipt_of(
        Promote,
        act=ByHand("rollback", ("I saw smoke.",)),
        plan=plan,
        evidence=None,
        methods=methods,
    )
    assert replayed(by_hand) == by_hand
    content = content_of(by_hand)
    with pytest.raises(ReceiptMismatch, match="altered"):
        replay(receipt_id(content), content.replace(b"smoke", b"smoky"))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[]",
        b'{"model":"digits"}',
        content_of(receipt_of(Promote)).replace(b'"promote"', b'"demote"'),
        content_of(receipt_of(Promote)).replace(b'"x-unit-id"', b'"X Unit"'),
    ],
)
def test_what_is_no_receipt_is_refused_even_under_its_own_digest(content) -> None:
    with pytest.raises(ReceiptMismatch, match="cannot be read"):
        replay(receipt_id(content), content)


def test_to_alter_one_receipt_is_to_break_the_chain_after_it() -> None:
    first = receipt_of(Continue, previous=None)
    second = receipt_of(Promote, previous=receipt_id(content_of(first)))
    rewritten = replace(first, by="somebody else")
    assert replayed(rewritten) == rewritten
    assert replayed(second).previous == receipt_id(content_of(first))
    assert replayed(second).previous != receipt_id(content_of(rewritten))
