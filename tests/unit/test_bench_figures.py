import numpy as np

from bench.figures import RIVALS, Figures, Spread
from bench.load import Load
from bench.questions import Dialect, body, expected, large_rows
from bench.rounds import CONNECTIONS, Sample
from registry.tensors import NUMPY_TYPES
from serving.hosts.protocol import read_request


def load(per_second: float, p50_ms: float = 1.0, failures: int = 0) -> Load:
    good = round(per_second * 10)
    return Load(10.0, good + failures, good, p50_ms, 2.0, 0, 0, {"200": good}, {})


def sample(
    round_: int, target: str, per_second: float, connections: int = 8, **more: float
) -> Sample:
    return Sample(round_, target, "small", connections, load(per_second, **more))


def test_a_ratio_is_of_rounds_so_that_a_slow_minute_hits_both_sides() -> None:
    found = Figures(
        [
            *(sample(n, "edge", rate) for n, rate in enumerate([900, 90, 800])),
            *(sample(n, "bare", rate) for n, rate in enumerate([1_000, 100, 1_000])),
        ]
    )
    assert found.ratio(("bare",), "small", 8) == 0.9


def test_of_several_forms_of_a_rival_the_faster_counts() -> None:
    found = Figures(
        [sample(1, "edge", 300), sample(1, "mlserver_1", 100), sample(1, "mlserver_2", 200)]
    )
    assert found.ratio(RIVALS["edge_over_mlserver"], "small", 8) == 1.5


def test_what_was_not_measured_is_no_ratio() -> None:
    found = Figures([sample(1, "edge", 300), sample(2, "bare", 300)])
    assert found.ratio(("bare",), "small", 8) is None
    assert found.ratio(("handles",), "small", 8) is None
    assert found.ratio(("bare",), "small", 32) is None
    assert found.added_p50_ms() is None


def test_a_rival_without_a_right_answer_is_no_ratio() -> None:
    found = Figures([sample(1, "edge", 300), sample(1, "bare", 0)])
    assert found.ratio(("bare",), "small", 8) is None


def test_every_ratio_has_every_number_of_connections() -> None:
    ratios = Figures([]).ratios("small")
    assert set(ratios) == set(RIVALS)
    assert all(set(found) == {str(each) for each in CONNECTIONS} for found in ratios.values())


def test_added_latency_is_the_median_difference_at_one_connection() -> None:
    rows = [(1.3, 1.0), (9.0, 1.0), (1.4, 1.0)]
    found = Figures(
        [
            *(sample(n, "edge", 1, 1, p50_ms=edge) for n, (edge, _) in enumerate(rows)),
            *(sample(n, "bare", 1, 1, p50_ms=bare) for n, (_, bare) in enumerate(rows)),
        ]
    )
    assert found.added_p50_ms() == 0.4


def test_a_generator_that_is_hardly_faster_than_what_it_loads_is_noticed() -> None:
    found = Figures([sample(1, "edge", 51), sample(1, "bare", 49), sample(1, "handles", 99, 1)])
    assert found.near({"8": 100.0}) == ["edge on 8"]
    assert found.near({}) == []


def test_the_table_holds_medians_spread_and_failures() -> None:
    found = Figures(
        [sample(1, "edge", 10, failures=1), sample(2, "edge", 30), sample(3, "edge", 20)]
    )
    cell = found.table()["edge"]["small"]["8"]
    assert cell["per_second"] == {"median": 20, "min": 10, "max": 30}
    assert cell["failures"] == 1
    assert cell["answers"] == 601
    assert Spread.of([1.0]) == Spread(1.0, 1.0, 1.0)


IMAGES = np.random.default_rng(1).integers(17, size=(400, 64)).astype(float)


def test_both_dialects_ask_the_same() -> None:
    rows = IMAGES[:2]
    request = read_request(body(Dialect.OPEN_INFERENCE, rows))
    assert (request.inputs["input-0"] == rows).all()
    assert request.inputs["input-0"].dtype == NUMPY_TYPES["FP64"]
    assert body(Dialect.ROWS, rows).startswith(b'{"rows":[[')


def test_a_large_body_is_a_megabyte_and_hardly_more() -> None:
    rows = large_rows(IMAGES)
    assert 1_000_000 <= len(body(Dialect.OPEN_INFERENCE, rows)) < 1_010_000
    assert (rows[: len(IMAGES)] == IMAGES).all()


def test_the_expected_text_is_the_whole_prediction() -> None:
    assert expected([3]) == "[3]"
    assert expected([3, 1]) == "[3,1]"
