"""What the command line shows of a challenger that nobody meets, before and after that."""

import asyncio
from pathlib import Path

import pytest

from experiments.lifecycle import State, is_final
from serving.cli.experiments import OVER
from tests.story.pairs import ALONE, BEFORE_THE_RAMP, pairs
from tests.story.terminal import Terminal
from tests.story.world import World

SEVERAL = BEFORE_THE_RAMP.replace("challenger: 2", "challengers: [2, 3]")


@pytest.fixture
def tiltyard(tmp_path, monkeypatch) -> Terminal:
    """Three hot versions of `digits`, version 1 the champion, and a shell 100 columns wide."""
    monkeypatch.setenv("TILTYARD_STATE_DIR", str(tmp_path))
    world = asyncio.run(World.standing(tmp_path, versions=3))
    return Terminal(world, tmp_path, width=100)


def run(tiltyard: Terminal, file: str, **shown: object) -> str:
    """Start an experiment, have pairs be seen, and return what `show` prints."""
    asyncio.run(tiltyard.world.start(file))
    asyncio.run(pairs(tiltyard.world, **shown))
    asyncio.run(tiltyard.world.live(4))
    return show(tiltyard)


def show(tiltyard: Terminal) -> str:
    result = tiltyard("experiment", "show", "digits-v2")
    assert result.exit_code == 0, result.stderr
    assert max(map(len, result.stdout.splitlines())) <= tiltyard.width
    return " ".join(result.stdout.split())


def test_it_says_that_nobody_meets_the_challenger(tiltyard):
    text = run(tiltyard, BEFORE_THE_RAMP, units=100)
    assert "In the shadow: requests of 20 % of units are repeated to the challenger" in text
    assert "100 of 500 units have had a request answered by both." in text
    assert "shadow 20 %" in tiltyard("experiment", "list").stdout
    assert "By stage" not in text, "no stage has users"
    assert "Sample ratio" not in text
    assert "shrunk" not in text


def test_it_has_pairs_agreement_differences_and_drops(tiltyard):
    text = run(tiltyard, BEFORE_THE_RAMP, units=400, errors=(4, 1, 2), differ=12, dropped=30)
    assert "error_rate 0.75 % 1.5 % 1 and 4 2 +0.8 (-1.2 to +3.2) points" in text
    assert "Agreement: 97 % (388 of 400), 92.7 % to 99.2 %; 95 % are declared" in text
    assert "Outputs lie apart by 0.001 on average" in text
    assert "The challenger takes longer by +2.5 ms on average (+1.995 to +3.005)" in text
    assert "it was slower in 100 % (200 of 200)" in text
    assert "Not compared: 30 of 430 repeated requests (6.98 %)." in text
    assert "agrees: agreement, shadow" in text


def test_what_is_missing_is_said_where_it_is(tiltyard):
    text = run(tiltyard, BEFORE_THE_RAMP, units=0)
    assert "Agreement: nothing yet; 95 % are declared" in text
    assert "it was slower in nothing yet" not in text


def test_a_program_gets_every_number(tiltyard):
    run(tiltyard, BEFORE_THE_RAMP, units=400, errors=(4, 1, 2), differ=12, dropped=30)
    found = tiltyard.json("experiment", "show", "digits-v2")
    (challenger,) = found["report"]["challengers"]
    shadow = challenger["shadow"]
    assert (shadow["units"], shadow["needed"], shadow["dropped"]) == (400, 500, 30)
    assert shadow["agreement"]["value"] == 0.97
    assert shadow["metrics"][0]["challenger_alone"] == 4
    assert found["rung"] == -1
    assert found["declaration"]["shadow"]["agreement"] == "95%"


def test_once_users_meet_it_the_shadow_is_still_shown(tiltyard):
    text = run(tiltyard, BEFORE_THE_RAMP)
    assert "Ramping: 5 % of units meet the challenger, stage 1 of 2." in text
    assert "Version 2 in the shadow, against 1" in text
    assert "Version 2 against 1; intervals hold at every look" in text
    assert "1: 5 %" in text, "the stages that users are in are counted from 1"


def test_alone_it_passes_and_says_why(tiltyard):
    run(tiltyard, ALONE)
    asyncio.run(tiltyard.world.live(8))
    text = show(tiltyard)
    assert "Passed: all that was to be shown without users is shown" in text
    assert "Agreement is 100 % (800 of 800) where 95 % are declared" in text


def test_harm_in_the_shadow_says_which_and_how_much(tiltyard):
    text = run(tiltyard, ALONE, errors=(80, 0, 0))
    assert "Rolled back: everybody meets version 1." in text
    assert "error_rate in the shadow is 10 % (80 of 800) with the challenger" in text


def test_of_several_challengers_each_has_a_table_of_its_own(tiltyard):
    text = run(tiltyard, SEVERAL, units=100)
    assert "Version 2 in the shadow" in text
    assert "Version 3 in the shadow" in text
    assert "Version 3: 100 of 500 units have had a request answered by both." in text


def test_paused_it_says_so(tiltyard):
    run(tiltyard, BEFORE_THE_RAMP, units=100)
    tiltyard("experiment", "pause", "digits-v2")
    assert "Paused in the shadow: requests are repeated, harm is watched" in show(tiltyard)


@pytest.mark.parametrize("file", [BEFORE_THE_RAMP, ALONE, SEVERAL])
def test_it_is_drawn_over_time(tiltyard, file, tmp_path):
    run(tiltyard, file, units=100)
    picture = Path(tmp_path) / "shadow.png"
    result = tiltyard("experiment", "show", "digits-v2", "--plot", picture)
    assert result.exit_code == 0, result.stderr
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_whoever_watches_is_told_when_it_has_passed(tiltyard):
    asyncio.run(tiltyard.world.start(ALONE))
    asyncio.run(pairs(tiltyard.world))
    asyncio.run(tiltyard.world.live(12))
    result = tiltyard("experiment", "watch", "digits-v2")
    assert result.exit_code == 0
    assert "Passed: all that was to be shown" in result.stdout


def test_of_those_that_can_end_none_is_watched_for_ever():
    assert {state for state in State if is_final(state)} <= set(OVER)
