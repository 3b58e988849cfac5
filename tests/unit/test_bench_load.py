import json
from pathlib import Path

import pytest

from bench import load as load_module
from bench.generator import Seen
from bench.load import Load, UnreadableLoad, parse

MEASURED = {
    "seconds": 2.0,
    "answers": 100,
    "good": 90,
    "p50_ms": 1.5,
    "p99_ms": 9.0,
    "broken": 2,
    "timeouts": 1,
    "statuses": {"200": 95, "503": 5},
    "variants": {"champion": 48, "challenger": 47},
    "rescued": 3,
    "stray": "503 no",
}

# What wrk prints of its own, before the script's line.
PREFACE = """\
Running 2s test @ http://127.0.0.1:8080
  1 threads and 8 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     6.20ms    2.43ms  39.56ms   85.19%
Requests/sec:   1301.14
"""


def test_the_measurement_is_the_last_line_that_wrk_prints() -> None:
    assert parse(PREFACE + json.dumps(MEASURED) + "\n") == Load(**MEASURED)


@pytest.mark.parametrize(
    "output",
    [
        "",
        PREFACE,
        PREFACE + "unable to connect to 127.0.0.1:8080 Connection refused\n",
        json.dumps(MEASURED)[:-9],
        json.dumps({**MEASURED, "surprise": 1}),
        json.dumps({k: v for k, v in MEASURED.items() if k != "good"}),
        json.dumps({**MEASURED, "seconds": 0}),
        json.dumps({**MEASURED, "good": 101}),
        "[]",
    ],
)
def test_what_is_no_measurement_is_refused(output: str) -> None:
    with pytest.raises(UnreadableLoad):
        parse(output)


def test_a_quick_error_counts_as_a_failure_and_never_as_throughput() -> None:
    load = Load(**MEASURED)
    assert load.per_second == 45
    assert load.failures == 10 + 2 + 1


def test_processes_of_our_own_generator_add_up_to_one_measurement() -> None:
    total = Seen(milliseconds=[3.0, 1.0], good=1, broken=1)
    total.statuses["200"] += 2
    other = Seen(milliseconds=[2.0], good=1, timeouts=1, stray="500 no", rescued=1)
    other.statuses.update({"500": 1})
    total.merge(other)
    load = parse(total.written(2.0))
    assert (load.answers, load.good, load.broken, load.timeouts, load.rescued) == (3, 2, 1, 1, 1)
    assert load.p50_ms == 2.0
    assert load.statuses == {"200": 2, "500": 1}
    assert load.stray == "500 no"


def test_our_own_generator_can_say_that_nothing_was_answered() -> None:
    load = parse(Seen(broken=4).written(1.0))
    assert (load.answers, load.failures, load.per_second) == (0, 4, 0)


def test_the_script_of_wrk_says_everything_that_is_read() -> None:
    script = Path(load_module.__file__).with_name("wrk.lua").read_text()
    for name in MEASURED:
        assert f'"{name}":' in script
