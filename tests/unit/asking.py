"""Whatever requests can say of a unit, well or badly written, as chance has it."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

from hypothesis import strategies as st

# A seed and not `st.randoms`, whose every draw is kept: these draw thousands of times.
chances = st.integers(0, 2**32).map(Random)

_LETTERS = 'abcXYZ019 "\\/{}[]:,;=&%+\t\n\x00\x7fé\xa0€😀\ufeff\ue000\ud7ff'


def a_text(chance: Random, longest: int = 8) -> str:
    """Text that has a UTF-8; control characters and blanks may be in it."""
    return "".join(_a_letter(chance) for _ in range(chance.randint(0, longest)))


def _a_letter(chance: Random) -> str:
    if chance.random() < 0.7:
        return chance.choice(_LETTERS)
    code = chance.randrange(0x110000 - 0x800)
    return chr(code if code < 0xD800 else code + 0x800)


def a_name(chance: Random) -> str:
    """A field's name that a path can have as a step."""
    return chance.choice("aB_") + "".join(
        chance.choice("aB0_-") for _ in range(chance.randint(0, 3))
    )


def some_steps(chance: Random) -> tuple[str | int, ...]:
    """A path, as its steps."""
    count = chance.randint(1, 3)
    return tuple(chance.choice([a_name(chance), chance.randint(0, 2)]) for _ in range(count))


def path_of(steps: tuple[str | int, ...]) -> str:
    """Write steps as they stand in an experiment file."""
    return "$" + "".join(f"[{it}]" if isinstance(it, int) else f".{it}" for it in steps)


# ---- JSON, in every way in which it can be written


@dataclass(frozen=True)
class Number:
    """A number as it is written."""

    text: str


@dataclass(frozen=True)
class Object:
    """Fields in their order; a name may stand there twice."""

    fields: tuple[tuple[str, "Json"], ...]


Json: TypeAlias = "bool | str | Number | list[Json] | Object | None"


def a_number(chance: Random) -> Number:
    whole = chance.choice(["0", "7", "12345678901234567890", str(chance.getrandbits(40))])
    fraction = chance.choice(["", "", ".0", ".50", ".000001"])
    exponent = chance.choice(["", "", "e5", "E+05", "e-7"])
    return Number(chance.choice(["", "-"]) + whole + fraction + exponent)


def a_value(chance: Random, depth: int = 3) -> Json:
    """Any JSON, of at most some depth."""
    makers: list[Callable[[], Json]] = [
        lambda: chance.choice([None, True, False]),
        lambda: a_number(chance),
        lambda: a_text(chance),
    ]
    if depth:
        makers += [
            lambda: [a_value(chance, depth - 1) for _ in range(chance.randint(0, 3))],
            lambda: Object(tuple(_some_fields(chance, depth))),
        ]
    return chance.choice(makers)()


def _some_fields(chance: Random, depth: int) -> list[tuple[str, Json]]:
    names = [chance.choice([a_text, a_name])(chance) for _ in range(chance.randint(0, 3))]
    return [(name, a_value(chance, depth - 1)) for name in names]


def a_document(chance: Random, steps: tuple[str | int, ...]) -> Json:
    """A document in which something is found at the end of the path, more often than not."""
    found = chance.choice([a_number, a_text, a_text, a_value])(chance)
    for step in reversed(steps):
        if isinstance(step, int):
            after = [a_value(chance, 1) for _ in range(chance.randint(0, 1))]
            found = [*(a_value(chance, 1) for _ in range(step)), found, *after]
        else:
            fields = [*_some_fields(chance, 2), (step, found)]
            if chance.random() < 0.2:
                fields.append((step, a_value(chance, 1)))
            chance.shuffle(fields)
            found = Object(tuple(fields))
    return found


def written(value: Json, chance: Random) -> str:
    """Write a document in one of many ways."""
    match value:
        case str():
            return '"' + "".join(_in_json(each, chance) for each in value) + '"'
        case Number(text):
            return text
        case list():
            return _between("[]", [written(each, chance) for each in value], chance)
        case Object(fields):
            named = [
                f"{written(name, chance)}{_blank(chance)}:{_blank(chance)}{written(each, chance)}"
                for name, each in fields
            ]
            return _between("{}", named, chance)
        case _:
            return json.dumps(value)


def found_in(value: Json, steps: tuple[str | int, ...]) -> str | None:
    """Return the text at the end of a path."""
    for step in steps:
        match value, step:
            case list(), int() if step < len(value):
                value = value[step]
            case Object(fields), str() if step in dict(fields):
                value = next(each for name, each in fields if name == step)
            case _:
                return None
    return value.text if isinstance(value, Number) else value if isinstance(value, str) else None


def padded(raw: bytes, chance: Random) -> bytes:
    """Return an object with another field before its own, about as long as a way may be."""
    piece = chance.choice(
        ['"a"', '"\\\\"', '"\\""', "[[]]", '["]"]', '{"a":[1]}', "[1,[2],{}]", "1"]
    )
    many = ",".join([piece] * chance.choice([3, 200, 500, 1000, chance.randint(100, 600)]))
    pad = chance.choice([f"[{many}]", f'{{"b":[{many}]}}', f'["x",[[{many}],2]]'])
    return b'{"pad":' + pad.encode() + b"," + raw.lstrip()[1:]


def damaged(raw: bytes, chance: Random) -> bytes:
    """Return a body with something missing or out of place."""
    at = chance.randrange(len(raw) + 1)
    mark = chance.choice([b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"\x00", b"\\u12"])
    return chance.choice([raw[:at], raw[:at] + raw[at + 1 :], raw[:at] + mark + raw[at:]])


def _between(brackets: str, parts: list[str], chance: Random) -> str:
    before, after = _blank(chance), _blank(chance)
    return f"{brackets[0]}{before}{f'{after},{before}'.join(parts)}{after}{brackets[1]}"


def _blank(chance: Random) -> str:
    return chance.choice(["", "", "", " ", "\n\t", "\r\n "])


def _in_json(letter: str, chance: Random) -> str:
    if letter not in '"\\' and letter >= " " and chance.random() < 0.8:
        return letter
    short = {'"': '"', "\\": "\\", "/": "/", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t"}
    if letter in short and chance.random() < 0.5:
        return f"\\{short[letter]}"
    units = letter.encode("utf-16-be")
    digits = [units[at : at + 2].hex() for at in range(0, len(units), 2)]
    return "".join(f"\\u{chance.choice([each, each.upper()])}" for each in digits)


# ---- queries


def in_query(text: bytes, chance: Random) -> bytes:
    """Write bytes as the value of a parameter, in one of many ways."""
    return b"".join(_in_query(byte, chance) for byte in text)


def _in_query(byte: int, chance: Random) -> bytes:
    letter = bytes([byte])
    if letter == b" " and chance.random() < 0.5:
        return b"+"
    if letter.isalnum() and chance.random() < 0.8:
        return letter
    return chance.choice([b"%%%02x", b"%%%02X"]) % byte
