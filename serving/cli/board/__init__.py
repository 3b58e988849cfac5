"""An experiment at a glance: why it stands so, how the versions differ, how sure that is."""

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from serving.cli.board import shadow, tables
from serving.cli.show import Answer, challengers, in_shadow, state, when

STATE_WORDS = {
    "ramping": "ramping: {share} meet {whom}, stage {stage} of {stages}.",
    "paused": "paused at {share}: harm is watched, the ramp rests, nothing is promoted.",
    "halted": "halted: the data cannot be trusted, so everybody meets the champion.",
    "holding_back": "promoted, all but for {rest} that stay with version {champion} to compare.",
    "promoting": "being promoted: the edges are told.",
    "rolling_back": "being rolled back: the edges are told.",
    "stopping": "being stopped: the edges are told.",
    "passing": "passed in the shadow: the edges are told.",
    "concluding": "over without a verdict: the edges are told.",
    "promoted": "promoted: version {winner} is the champion.",
    "passed": "passed: all that was to be shown without users is shown, and nobody has met it.",
    "rolled_back": "rolled back: everybody meets version {champion}.",
    "stopped": "stopped, without a verdict.",
    "inconclusive": "inconclusive: time was up, and nothing was shown.",
}

SHADOW_WORDS = {
    "ramping": "in the shadow: requests of {share} are repeated to {whom}, whom nobody meets.",
    "paused": "paused in the shadow: requests are repeated, harm is watched, nothing else happens.",
}
"""While nobody meets a challenger."""

DECISION_WORDS = {
    "continue": "Now: go on.",
    "drop": "Now: go on without some of the challengers.",
    "promote": "Now: promote.",
    "pass": "Now: pass.",
    "roll_back": "Now: roll back.",
    "halt": "Now: halt.",
    "inconclusive": "Now: end without a verdict.",
}


SHRUNK = (
    "shrunk: the estimate corrected for having been looked at until it was large (winner's curse). "
)
BELIEVED = "Now that it is over, believe this one."
E_VALUE = "e: what a bet against chance has multiplied its stake by."


def state_words(found: Answer) -> str:
    """Say in a sentence where the experiment stands."""
    words = STATE_WORDS | (SHADOW_WORDS if in_shadow(found) else {})
    return words[found["state"]].format(
        share=f"{100 * found['share']:g} % of units",
        rest=f"{100 * (1 - found['share']):.4g} % of units",
        whom="the challenger" if len(found["challengers"]) == 1 else "the challengers",
        stage=found["rung"] + 1,
        stages=len(found["declaration"].get("share", ())),
        champion=found["champion"],
        winner=found["winner"],
    )


def board(found: Answer) -> RenderableType:
    """Draw everything about one experiment."""
    shown = found["report"]["challengers"]
    parts: list[RenderableType] = [
        # A small terminal crops the end: what it means comes before what it is made of.
        _head(found),
        *_verdict(found),
        *_gaps(found),
    ]
    for challenger in shown:
        parts += shadow.shadow(found, challenger)
    with_users = shown if found["evidence"]["stages"] else []
    for challenger in with_users:
        parts += [Text(), tables.differences(found, challenger), *tables.maturity(challenger)]
    if not with_users:
        legend = E_VALUE
    elif found["ended_at"] or found["winner"]:
        parts.append(Text(SHRUNK + BELIEVED, style="dim"))
        legend = E_VALUE
    else:
        legend = SHRUNK + E_VALUE
    for challenger in shown:
        parts += [Text(), tables.tests(found, challenger)]
    if with_users:
        parts += [tables.trust(found), *tables.segments(found)]
    parts += [
        Text(f"Version {gone} was dropped: its receipt (tiltyard history) has what was seen of it.")
        for gone in found["dropped"]
    ]
    for challenger in with_users:
        parts += [Text(), tables.stages(found, challenger)]
    return Group(*parts, Text(), Text(legend, style="dim"))


def _head(found: Answer) -> RenderableType:
    head = Text(found["name"], style="bold")
    head.append(f"  {found['model']}: ", style="dim")
    versions = "version" if len(found["challengers"]) == 1 else "versions"
    head.append(f"{versions} {challengers(found)} against champion {found['champion']}  ")
    head.append_text(state(found["state"]))
    since = f"Started {when(found['started_at'])}"
    until = f", ended {when(found['ended_at'])}" if found["ended_at"] else ""
    words = state_words(found)
    sentence = Text(words[0].upper() + words[1:])
    return Group(head, sentence, *_reach(found), Text(since + until, style="dim"))


def _reach(found: Answer) -> Iterable[RenderableType]:
    """Say of whom all shares are, where it is not everybody."""
    layer = found["declaration"].get("layer")
    said = [] if layer is None else [f"{' to '.join(layer['part'])} of the layer {layer['name']}"]
    said += map(_condition, found["declaration"].get("audience", ()))
    if said:
        yield Text(f"In it are only: {'; '.join(said)}.", style="cyan")


def _condition(said: Answer) -> str:
    """Write a condition of an audience, `x-country in de, at`."""
    words = dict(said)
    header = words.pop("header")
    ((word, operand),) = words.items()
    if isinstance(operand, list):
        operand = ", ".join(each or "nothing" for each in operand)
    return f"{header} {word.replace('_', ' ')} {operand}"


def _verdict(found: Answer) -> Iterable[RenderableType]:
    decision = found["decision"]
    yield Text()
    if decision is None:
        yield Text("Why it ended so" if found["ended_at"] else "Why", style="bold")
    else:
        yield Text(DECISION_WORDS[decision["kind"]], style="bold")
    said = [Text(found["reason"] or "Nobody has said.")]
    said += [Text(reason, style="dim") for reason in found["also"]]
    if found["receipt"]:
        said.append(Text(f"Receipt {found['receipt'][:12]}", style="dim"))
    for sentence in said:
        yield Padding(sentence, (0, 0, 0, 2))


def _gaps(found: Answer) -> Iterable[RenderableType]:
    evidence = found["evidence"]
    if found.get("unseen"):
        yield Text(f"{found['unseen']} What stands here is what was last seen.", style="bold red")
    for sentence in found["incomplete"]:
        loud = sentence.startswith("Incomplete")
        yield Text(sentence, style="bold red" if loud else "red")
    if evidence["late"]:
        late = f"{evidence['late']:,} outcomes came after the attribution window; not counted."
        yield Text(late, style="yellow")
    if not evidence["rollback_target_hot"] and found["decision"] is not None:
        yield Text("The champion is not hot: nothing is promoted, no share grows.", style="yellow")
