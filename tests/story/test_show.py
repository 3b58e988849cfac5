"""`tiltyard experiment show` and `watch`: for people, for programs, and as a picture."""

import asyncio
import re
from pathlib import Path
from struct import unpack

import pytest

from tests.story.terminal import Terminal
from tests.story.world import FILE, World

PICTURE = b"\x89PNG\r\n\x1a\n"
SEVERAL = FILE.replace("challenger: 2", "challengers: [2, 3]")
UNHURRIED = FILE.replace("min_units: 200", "min_units: 20000")
SEGMENTED = UNHURRIED + "segments: {header: x-country, values: [de, fr]}\n"
WINDOWED = UNHURRIED.replace("min_effect: 1%", "min_effect: 1%, window: 1h")
BOUNDED = UNHURRIED + "horizon: {units: 50000}\n"
HELD_BACK = FILE + "holdback: {share: 10%, for: 60s}\n"


@pytest.fixture
def tiltyard(tmp_path, monkeypatch) -> Terminal:
    """Three hot versions of `digits`, version 1 the champion, and a shell 80 columns wide."""
    monkeypatch.setenv("TILTYARD_STATE_DIR", str(tmp_path))
    world = asyncio.run(World.standing(tmp_path, versions=3))
    return Terminal(world, tmp_path, width=80)


def run(tiltyard: Terminal, file: str, *traffic: dict[str, object]) -> None:
    """Start an experiment, and let it live through some traffic."""
    asyncio.run(tiltyard.world.start(file))
    for units in traffic:
        asyncio.run(tiltyard.world.evidence.traffic(**units))
        asyncio.run(tiltyard.world.live(6))


def shown(tiltyard: Terminal) -> str:
    """Return what `show` prints, having checked that it fits."""
    result = tiltyard("experiment", "show", "digits-v2")
    assert result.exit_code == 0, result.stderr
    assert max(map(len, result.stdout.splitlines())) <= tiltyard.width
    return result.stdout


def flat(text: str) -> str:
    return " ".join(text.split())


SOME = {"units": 2000, "goal": (0.8, 0.85), "errors": (0.02, 0.02)}
GOOD = {"units": 4000, "goal": (0.8, 0.9)}


# For people


def test_the_reason_comes_before_the_numbers_and_these_before_what_they_are_made_of(tiltyard):
    run(tiltyard, FILE, SOME)
    text = shown(tiltyard)
    order = ("Ramping: ", "Now: go on.", "Version 2 against 1", "Tests", "By stage", "shrunk: ")
    places = [text.index(words) for words in order]
    assert places == sorted(places)
    after_verdict = text[places[1] :].splitlines()[1].strip()
    assert after_verdict == tiltyard.json("experiment", "show", "digits-v2")["reason"]


def test_a_metric_has_its_levels_its_interval_and_its_shrunk_estimate(tiltyard):
    run(tiltyard, FILE, SOME)
    (line,) = re.findall(r"^correct .*points.*$", shown(tiltyard), re.MULTILINE)
    assert re.fullmatch(r"correct +80 % +85 % +\+5 \(-\d+ to \+\d+\) points +\+\d\.?\d* *", line), (
        line
    )


def test_a_test_has_its_e_value_what_is_needed_and_an_always_valid_p_value(tiltyard):
    run(tiltyard, FILE, {"units": 40_000, "goal": (0.8, 0.85)})
    (line,) = re.findall(r"^superior: correct .*$", shown(tiltyard), re.MULTILINE)
    assert re.fullmatch(r"superior: correct +[━─]{10} +[\d.e+]+ +40 +\d[\d.e-]* +(yes|no) *", line)


def test_stages_are_shown_each_by_itself_with_those_who_came_back_apart(tiltyard):
    run(tiltyard, FILE, SOME | {"units": 4000}, SOME)
    text = shown(tiltyard)
    assert re.search(r"1: 5 % +units +3,800 +200", text)
    assert re.search(r"2: 50 % +units +1,053 +947", text)


def test_several_challengers_have_their_own_tables_and_a_dropped_one_is_said_to_be(tiltyard):
    run(tiltyard, SEVERAL.replace("200", "20000"), {"units": 4000, "goal": (0.6, 0.3, 0.9)})
    text = shown(tiltyard)
    assert "versions 2 (dropped), 3 against champion 1" in flat(text)
    assert "Version 2 was dropped: its receipt (tiltyard history) has what was seen of it." in flat(
        text
    )
    assert "Version 2 against 1" not in text
    assert "Version 3 against 1; intervals hold at every look" in text
    assert "Tests of version 3" in text
    assert "97.5 %" in text


def test_segments_say_at_which_rate_they_are_marked(tiltyard):
    run(tiltyard, SEGMENTED, SOME)
    text = flat(shown(tiltyard))
    assert "By segment" in text
    assert "5 % at most are expected to be wrong (e-BH over all 6)" in text


def test_it_says_who_can_be_in_it_where_not_everybody_can(tiltyard):
    some = (
        "layer: {name: checkout, part: [0%, 50%]}\n"
        "audience:\n"
        "  - {header: x-plan, not in: [free, '']}\n"
        "  - {header: x-age, at_least: 18}\n"
    )
    run(tiltyard, FILE + some)
    said = "In it are only: 0% to 50% of the layer checkout; x-plan not in free, nothing; x-age at"
    assert said in flat(shown(tiltyard))


def test_two_experiments_of_a_model_are_each_shown_and_listed(tiltyard):
    layer = "layer: {{name: checkout, part: [{}]}}\n"
    run(tiltyard, FILE + layer.format("0%, 50%"), SOME)
    other = FILE.replace("digits-v2", "digits-v3").replace("challenger: 2", "challenger: 3")
    run(tiltyard, other + layer.format("50%, 100%"))
    listed = tiltyard("experiment", "list").stdout
    assert "digits-v2" in listed
    assert "digits-v3" in listed
    status = flat(tiltyard("status").stdout)
    assert "in the experiments digits-v2, digits-v3" in status
    assert "version 3 against champion 1" in flat(
        tiltyard("experiment", "show", "digits-v3").stdout
    )


def test_a_metric_with_a_window_says_what_share_has_matured(tiltyard):
    run(tiltyard, WINDOWED, SOME)
    assert "correct: 100 % of units are old enough (2,000 of 2,000)." in flat(shown(tiltyard))


def test_a_horizon_says_how_much_is_seen_and_how_often_it_was_looked_at(tiltyard):
    run(tiltyard, BOUNDED, SOME)
    text = shown(tiltyard)
    assert "Horizon: 4 % of 50,000 units seen, 1 look was taken." in text
    (line,) = re.findall(r"^superior: correct .*$", text, re.MULTILINE)
    assert re.fullmatch(r"superior: correct +[━─]+ +z [\d.]+ +z [\d.]+ +- +no *", line)


def test_after_a_stop_it_says_which_estimate_to_believe(tiltyard):
    run(tiltyard, HELD_BACK, GOOD, GOOD, GOOD)
    text = flat(shown(tiltyard))
    assert "stay with version 1 to compare" in text
    assert "Now that it is over, believe this one." in text


@pytest.mark.parametrize("width", [60, 80, 140])
@pytest.mark.parametrize("file", [FILE, SEGMENTED, BOUNDED, SEVERAL])
def test_it_fits_every_terminal_before_anything_was_seen(tiltyard, width, file):
    tiltyard.width = width
    run(tiltyard, file)
    assert "unknown: no" in flat(shown(tiltyard))


# On a small terminal


def test_watch_never_draws_more_than_the_terminal_has(tiltyard):
    run(tiltyard, FILE, SOME)
    tiltyard.height, tiltyard.is_tty = 24, True

    async def pause(seconds: float) -> None:
        await tiltyard.world.evidence.traffic(4000, goal=(0.8, 0.9))
        await Terminal._pause(tiltyard, 10 + seconds)

    tiltyard._pause = pause
    result = tiltyard("experiment", "watch", "digits-v2")
    assert result.exit_code == 0
    frames = re.split(r"\r(?:\x1b\[2K\x1b\[1A|\x1b\[1A\x1b\[2K|\x1b\[2K)+", result.stdout)
    assert len(frames) > 2
    assert all(frame.count("\n") < 24 for frame in frames[:-1])
    assert "Promoted: version 2 is the champion." in frames[-1]
    assert "By stage" in frames[-1]


# For programs


def test_a_program_gets_the_same_numbers(tiltyard):
    run(tiltyard, SEGMENTED, SOME)
    found = tiltyard.json("experiment", "show", "digits-v2")
    assert found["reason"]
    (challenger,) = found["report"]["challengers"]
    goal, failing, slow = challenger["metrics"]
    assert goal["champion"] == {"value": 0.8, "words": "80 % (1,520 of 1,900)"}
    assert set(goal["effects"][0]["interval"]) == {"low", "high", "estimate"}
    assert goal["effects"][0]["level"] == pytest.approx(0.95)
    assert goal["tests"][0]["question"] == "superior"
    assert failing["margins"] == [{"scale": "ratio", "value": 2.0, "worse": "higher"}]
    assert slow["effects"][0]["interval"] == {"reason": "no unit with an event in either arm"}
    assert slow["shrunk"] == {"reason": "no unit with an event in either arm"}
    assert {each["segment"] for each in challenger["segments"]} == {"de", "fr"}
    assert found["stages"][0]["share"] == 500


def test_what_is_not_there_is_null_and_what_cannot_be_said_has_a_reason(tiltyard):
    run(tiltyard, FILE, {"units": 2000, "errors": (0, 0.1)})
    found = tiltyard.json("experiment", "show", "digits-v2")
    goal, failing, _ = found["report"]["challengers"][0]["metrics"]
    assert set(goal["champion"]) == {"reason"}
    assert failing["effects"][0]["interval"]["high"] is None
    assert failing["effects"][0]["interval"]["low"] > 1


def test_a_list_leaves_the_reports_out(tiltyard):
    run(tiltyard, FILE, SOME)
    (listed,) = tiltyard.json("experiment", "list")
    assert listed["report"] is None
    assert listed["reason"]


# As a picture


def size_of(path: Path) -> tuple[int, int]:
    content = path.read_bytes()
    assert content.startswith(PICTURE)
    return unpack(">II", content[16:24])


@pytest.mark.parametrize(
    ("file", "traffic"),
    [
        (UNHURRIED, [SOME, SOME]),
        (SEVERAL.replace("200", "20000"), [{"units": 4000, "goal": (0.6, 0.3, 0.9)}, SOME]),
        (FILE, [{"units": 2000}, {"units": 2000, "goal": (0.8, 0.8), "errors": (0, 0.3)}]),
        (FILE, [{"units": 0}]),
        (HELD_BACK, [GOOD, GOOD, GOOD]),
    ],
    ids=["running", "several, one dropped", "rolled back", "nothing seen", "held back"],
)
def test_a_picture_of_the_intervals_over_time_is_drawn(tiltyard, file, traffic):
    run(tiltyard, file, *traffic)
    path = tiltyard.folder / "out.png"
    result = tiltyard("experiment", "show", "digits-v2", "--plot", path)
    assert result.exit_code == 0, result.stderr
    assert f"{path} shows the intervals over time." in flat(result.stderr)
    width, height = size_of(path)
    assert width > 1000
    assert height > 600


def test_a_picture_and_a_document_come_together(tiltyard):
    run(tiltyard, UNHURRIED, SOME)
    path = tiltyard.folder / "out.png"
    assert tiltyard.json("experiment", "show", "digits-v2", "--plot", path)["name"] == "digits-v2"
    assert size_of(path)


def test_without_a_trail_there_is_nothing_to_draw(tiltyard):
    asyncio.run(tiltyard.world.start())
    path = tiltyard.folder / "out.png"
    result = tiltyard("experiment", "show", "digits-v2", "--plot", path)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Code: nothing_to_draw" in result.stderr
    assert "Next: Wait some seconds" in result.stderr
    assert not path.exists()


def test_what_ended_at_once_is_not_waited_for(tiltyard):
    run(tiltyard, FILE, {"units": 2000, "goal": (0.8, 0.8), "errors": (0, 0.3)})
    result = tiltyard("experiment", "show", "digits-v2", "--plot", tiltyard.folder / "out.png")
    assert result.exit_code == 1
    assert "Next: `tiltyard experiment show digits-v2` has its numbers." in result.stderr


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("nowhere/out.png", "there is no folder"),
        ("out.jpg", "ends in .png"),
        ("folder.png", "is a folder"),
        ("experiment.yaml/out.png", "there is no folder"),
        ("x" * 300 + ".png", "cannot be written"),
    ],
)
def test_a_picture_that_cannot_be_kept_is_wrong_usage(tiltyard, place, why):
    run(tiltyard, UNHURRIED, SOME)
    tiltyard.file()
    (tiltyard.folder / "folder.png").mkdir()
    result = tiltyard("experiment", "show", "digits-v2", "--plot", tiltyard.folder / place)
    assert (result.exit_code, result.stdout) == (2, "")
    assert why in flat(result.stderr.replace("│", " "))
