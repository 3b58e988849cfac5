"""Routes and requests of every kind, for the edge and its reference to agree about."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random

from experiments.audience import Among, Audience, Compared, Condition, Order
from experiments.identity import JSON_LENGTH, Asked
from experiments.model import BasisPoints, ExperimentName, Layer, Segments
from experiments.unit import CookieUnit, HeaderUnit, JsonUnit, QueryUnit, RequestUnit, Unit
from registry.refs import Version
from serving.routes import Route, Trial
from tests.e2e.edge_fixture import CHALLENGER, CHAMPION, MODEL, PREVIOUS, Answer, Client
from tests.unit.asking import a_document, a_text, damaged, in_query, padded, written

LANES = (CHALLENGER, Version(7), Version(8))
OTHERS = (Version(11), Version(12))
PLANS = Segments("x-plan", ("free", "pro", "a.b-c_D"))
STEPS = ("user", 1, "id")
UNITS: tuple[Unit, ...] = (
    RequestUnit(),
    HeaderUnit("x-unit-id"),
    CookieUnit("sid"),
    QueryUnit("user"),
    JsonUnit("$.user[1].id"),
)
COUNTRIES = ("de", "at", "", "a,b;c:d|e", "Zürich 😀", "%41")
BOUNDS = (12.0, -0.5, 1e12, 0.1, 1e-7)
SALTS = ("trial", "a b\\ ;#|é", "<<", "digits-v2", "%41|,", "x" * 63)

NUMBERS = ("12", "12.0", "11.999999999", "-3", "-0.5", "0.1", " 15 ", "9" * 15, "0." + "1" * 15)
NO_NUMBERS = ("", "0x10", "1e3", "inf", "nan", "1_000", "12.", "+12", ".5", "1.2.3", "٣", "9" * 16)


# ---- routes


def a_share(chance: Random) -> BasisPoints:
    return BasisPoints(chance.choice([0, 10_000, *(chance.randint(0, 10_000) for _ in range(8))]))


def a_route(chance: Random, unit: Unit) -> Route:
    """A route of some experiments in one layer, of one without, or of a holdback."""
    champion, previous = CHAMPION, chance.choice([None, PREVIOUS])
    if chance.random() < 0.2:
        # Promoted, and some are held back from it.
        champion, previous = CHALLENGER, CHAMPION
        layer = chance.choice([None, Layer("checkout", BasisPoints(0), BasisPoints(5_000))])
        trials = [a_trial(chance, unit, layer, (CHALLENGER,), shadow=False, dropped=())]
    else:
        lanes = [LANES[: chance.randint(1, 3)], OTHERS[:1], OTHERS[1:]]
        parts = some_parts(chance)
        trials = [a_trial(chance, unit, *each) for each in zip(parts, lanes, strict=False)]
        chance.shuffle(trials)
    return Route(
        MODEL,
        1,
        champion,
        previous,
        tuple(trials),
        by="test",
        why="test",
        at=datetime.now(UTC),
        holdout=BasisPoints(chance.choice([0, 0, 0, 1_000, 5_000, 10_000])),
    )


def some_parts(chance: Random) -> list[Layer | None]:
    """No layer, or one to three parts of one, which may leave some of it to nobody."""
    if chance.random() < 0.3:
        return [None]
    name = chance.choice(["checkout", "0", "a-b_c"])
    bounds = sorted(chance.sample(range(1, 9_999), chance.randint(0, 2)))
    bounds = [chance.choice([0, 1_000]), *(1_000 + each % 8_000 for each in bounds), 10_000]
    parts = [(low, high) for low, high in pairwise(sorted(set(bounds)))]
    return [Layer(name, BasisPoints(low), BasisPoints(high)) for low, high in parts]


def a_trial(
    chance: Random, unit: Unit, layer: Layer | None, lanes: tuple[Version, ...], **fixed: object
) -> Trial:
    floor, cut = sorted((a_share(chance), a_share(chance)))
    drawn = {
        "experiment": ExperimentName(f"trial-{lanes[0]}"),
        "stage": chance.randint(0, 9),
        "challengers": lanes,
        "dropped": tuple(lane for lane in lanes if chance.random() < 0.2),
        "cut": cut,
        "floor": floor,
        "unit": unit,
        "salt": chance.choice([*SALTS, a_salt(chance)]),
        "deadline": timedelta(seconds=5),
        "segments": chance.choice([None, PLANS]),
        "audience": chance.choice([None, an_audience(chance)]),
        "layer": layer,
        "shadow": chance.random() < 0.2,
    }
    return Trial(**drawn | fixed)


def a_salt(chance: Random) -> str:
    return "".join(filter(str.isprintable, a_text(chance, 30))) or "s"


def an_audience(chance: Random) -> Audience:
    return Audience(tuple(a_condition(chance) for _ in range(chance.randint(1, 2))))


def a_condition(chance: Random) -> Condition:
    if chance.random() < 0.5:
        values = chance.sample(COUNTRIES, chance.randint(1, 4))
        return Among("x-country", tuple(values), chance.choice([False, True]))
    return Compared("x-age", chance.choice(list(Order)), chance.choice(BOUNDS))


# ---- requests


@dataclass(frozen=True)
class Request:
    """A request as it is sent, names of headers in lower case."""

    headers: list[tuple[str, bytes]]
    query: bytes | None
    body: bytes

    @property
    def asked(self) -> Asked:
        return Asked(self.headers, self.query, self.body)

    def sent(self, client: Client) -> Answer:
        query = "" if self.query is None else f"?{self.query.decode()}"
        return client.request("POST", f"/v2/models/{MODEL}/infer{query}", self.headers, self.body)


def a_request(chance: Random) -> Request:
    """A request that names a unit in any place, or in none, and says something of itself."""
    body, length = a_body(chance)
    ages = chance.choice([NUMBERS, NO_NUMBERS])
    headers = [
        *_up_to(2, "x-unit-id", lambda: chance.choice([a_header, an_odd_one])(chance), chance),
        *_up_to(2, "cookie", lambda: some_cookies(chance), chance),
        *_up_to(1, "x-country", lambda: chance.choice((*COUNTRIES, "DE", "de, at")), chance),
        *_up_to(1, "x-age", lambda: chance.choice(ages), chance),
        *_up_to(
            1, "x-plan", lambda: chance.choice(["", "free", " pro\t", "PRO", "free,pro"]), chance
        ),
        *length,
    ]
    chance.shuffle(headers)
    return Request(headers, a_query(chance), body)


def _up_to(
    most: int, name: str, make: Callable[[], str], chance: Random
) -> list[tuple[str, bytes]]:
    return [(name, make().encode()) for _ in range(chance.choice([0, *[1] * 4, most]))]


def a_header(chance: Random) -> str:
    """What a header can carry: no control characters but tabs."""
    text = "".join(each for each in a_text(chance, 12) if each == "\t" or each.isprintable())
    return text if text.strip() else "user"


def an_odd_one(chance: Random) -> str:
    return chance.choice(["", " ", "x" * 256, "x" * 257, "é" * 128, "\tu\t", "\xa0", "u"])


def some_cookies(chance: Random) -> str:
    crumbs = []
    for _ in range(chance.randint(1, 3)):
        name = chance.choice(["sid", "sid", " sid\t", "SID", "xsid", ""])
        quote = chance.choice(["", "", '"', '" '])
        value = chance.choice([a_header, a_header, an_odd_one])(chance).replace(";", "")
        if chance.random() < 0.05:
            crumbs.append(";".join(["a=0"] * chance.randint(250, 256)))
        crumbs.append(f"{name}{chance.choice(['=', '=', ' = ', ''])}{quote}{value}{quote}")
    return ";".join(crumbs)


def a_query(chance: Random) -> bytes | None:
    pairs = []
    for _ in range(chance.randint(0, 3)):
        name = chance.choice([b"user", b"user", b"us%65r", b"User", b"", b"us+er"])
        value = in_query(chance.choice([a_text, an_odd_one])(chance).encode(), chance)
        junk = "".join(chance.choices("ab%4+=;", k=5)).encode()
        pairs.append(name + chance.choice([b"=" + value, b"=" + value, b"=" + junk, b""]))
    if chance.random() < 0.1:
        pairs.insert(0, b"&&".join([b"a=0"] * chance.randint(250, 256)))
    return b"&".join(pairs) if pairs or chance.random() < 0.5 else None


def a_body(chance: Random) -> tuple[bytes, list[tuple[str, bytes]]]:
    """A body, and the header that says how much of it is JSON."""
    raw = written(a_document(chance, STEPS), chance).encode()
    if chance.random() < 0.3:
        raw = padded(raw, chance)
    if chance.random() < 0.3:
        raw = damaged(raw, chance)
    if chance.random() < 0.6:
        return raw, []
    length = len(raw) + chance.choice([0, 0, 0, -1, 1, 20])
    said = chance.choice([*[str(length)] * 6, "", "-1", "ten", "9" * 12])
    return raw + chance.randbytes(chance.randint(0, 10)), [(JSON_LENGTH, said.encode())]
