"""YAML as plain values that remember where in the file they stand.

A deliberately small YAML: one document, no anchors, aliases, tags or duplicate fields, and
the scalars of YAML 1.2's core schema, so `on` and `no` are text and `010` is ten. Text is
read as a stream of events with bounded depth: no input makes it recurse, expand or construct.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from experiments.errors import InvalidFile, Problem
from experiments.spelling import shown

Path: TypeAlias = tuple[str | int, ...]
Value: TypeAlias = "str | int | float | bool | dict[str, Value] | list[Value] | None"

LARGEST = 64 * 1024
_DEEPEST = 8
_MOST_EVENTS = 2000

_INT = re.compile(r"[-+]?[0-9]{1,18}", re.ASCII)
_FLOAT = re.compile(
    r"[-+]?(\.[0-9]{1,40}|[0-9]{1,40}(\.[0-9]{0,40})?)([eE][-+]?[0-9]{1,4})?", re.ASCII
)
_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


class Mark(Protocol):
    """Line and column as YAML's readers count them, from 0."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Position:
    """Line and column, both from 1."""

    line: int
    column: int


@dataclass(slots=True)
class Source:
    """What a file says, and where it says it.

    Args:
        values: Where each value starts.
        names: Where each field's name starts.
        problems: What this reader refuses; the rest of the file is read all the same.
        spoilt: Paths whose value is not to be judged, for a problem with it is already noted.
    """

    data: Value = None
    values: dict[Path, Position] = field(default_factory=dict)
    names: dict[Path, Position] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    spoilt: set[Path] = field(default_factory=set)

    def refuse(self, path: Path, position: Position, message: str) -> None:
        """Note a problem with what stands at `path`."""
        self.problems.append(Problem(dotted(path), position.line, position.column, message))

    def is_spoilt(self, path: Path) -> bool:
        """Return whether a problem with the value at `path`, or with one around it, is noted."""
        return any(path[:length] in self.spoilt for length in range(len(path) + 1))

    def value_position(self, path: Path) -> Position:
        """Return where the value at `path` stands; of what is absent, its nearest parent."""
        while path not in self.values and path:
            path = path[:-1]
        return self.values.get(path, Position(1, 1))

    def name_position(self, path: Path) -> Position:
        """Return where the name of the field at `path` stands, or else its value."""
        return self.names.get(path) or self.value_position(path)


def read_source(raw: bytes) -> Source:
    """Read YAML with the place of every value.

    Raises:
        InvalidFile: `raw` is too large, not UTF-8, not YAML, empty, nested too deeply, or more
            than one document.
    """
    text = _decoded(raw)
    source = Source()
    try:
        loader = yaml.SafeLoader(text)
    except yaml.reader.ReaderError as error:
        message = "YAML does not allow this character"
        raise _refused(text, error.position, message) from error
    try:
        _Reader(source, _bounded(loader)).read()
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error) from error
    except (ValueError, OverflowError) as error:
        # PyYAML lets these escape where an escape or a directive has an impossible number.
        raise _at(loader.get_mark(), "YAML does not allow such a number here") from error
    return source


def scalar(text: str) -> str | int | float | bool | None:
    """Return the value of a plain (unquoted) scalar."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


def dotted(path: Path) -> str:
    """Return a path as people write it.

    Examples:
        >>> dotted(("guardrails", 1, "above"))
        'guardrails[1].above'
    """
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            name = part if re.fullmatch(r"[A-Za-z0-9_-]{1,40}", part) else shown(part)
            text += f".{name}" if text else name
    return text


class _Reader:
    """Builds a `Source` from events; recursion is bounded by `_DEEPEST`."""

    def __init__(self, source: Source, events: Iterator[Event]) -> None:
        self._source = source
        self._events = events

    def read(self) -> None:
        next(self._events)  # start of the stream
        if not isinstance(next(self._events), DocumentStartEvent):
            raise InvalidFile((Problem("", 1, 1, "the file is empty"),))
        self._source.data = self._value(next(self._events), ())
        next(self._events)  # end of the document
        if isinstance(event := next(self._events), DocumentStartEvent):
            raise _at(event.start_mark, "the file holds more than one document")

    def _value(self, event: Event, path: Path) -> Value:
        source = self._source
        source.values[path] = _position(event.start_mark)
        if len(path) > _DEEPEST:
            raise _at(event.start_mark, "is nested too deeply")
        self._refuse_tricks(event, path)
        match event:
            case ScalarEvent():
                text = _text(event)
                value = text if event.style else scalar(text)
                if value is None and not source.is_spoilt(path):
                    source.refuse(path, source.values[path], "has no value")
                    source.spoilt.add(path)
                return value
            case SequenceStartEvent():
                return self._items(path)
            case MappingStartEvent():
                return self._fields(path)
            case _:
                return None

    def _items(self, path: Path) -> list[Value]:
        items: list[Value] = []
        while not isinstance(event := next(self._events), SequenceEndEvent):
            items.append(self._value(event, (*path, len(items))))
        return items

    def _fields(self, path: Path) -> dict[str, Value]:
        source = self._source
        fields: dict[str, Value] = {}
        while not isinstance(event := next(self._events), MappingEndEvent):
            if not isinstance(event, ScalarEvent):
                raise _at(event.start_mark, "the name of a field must be plain text")
            name = _text(event)
            here = (*path, name)
            if here in source.names:
                first = source.names[here]
                position = _position(event.start_mark)
                source.refuse(here, position, f"is given twice, first in line {first.line}")
                again = _Reader(Source(problems=source.problems), self._events)
                again._value(next(self._events), here)
                continue
            source.names[here] = _position(event.start_mark)
            self._refuse_tricks(event, here)
            value = self._value(next(self._events), here)
            if value is not None:
                fields[name] = value
        return fields

    def _refuse_tricks(self, event: Event, path: Path) -> None:
        position = _position(event.start_mark)
        if isinstance(event, AliasEvent):
            self._source.refuse(path, position, "aliases are not allowed: write it out")
            self._source.spoilt.add(path)
        elif isinstance(event, NodeEvent) and event.anchor is not None:
            self._source.refuse(path, position, "anchors are not allowed")
        if getattr(event, "tag", None) is not None:
            self._source.refuse(path, position, "tags are not allowed")
            self._source.spoilt.add(path)


def _bounded(loader: yaml.SafeLoader) -> Iterator[Event]:
    for count, event in enumerate(iter(loader.get_event, None)):
        if count > _MOST_EVENTS:
            raise _at(event.start_mark, "the file holds too many values for an experiment")
        yield event


def _text(event: ScalarEvent) -> str:
    text = str(event.value)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _at(event.start_mark, "half of a surrogate pair is not text") from error
    return text


def _decoded(raw: bytes) -> str:
    if len(raw) > LARGEST:
        raise InvalidFile((Problem("", 1, 1, f"the file is larger than {LARGEST // 1024} KiB"),))
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        readable = raw[: error.start].decode("utf-8-sig", "replace")
        raise _refused(readable, len(readable), "the file is not UTF-8 from here on") from error


def _position(mark: Mark | None) -> Position:
    return Position(mark.line + 1, mark.column + 1) if mark else Position(1, 1)


def _at(mark: Mark | None, message: str) -> InvalidFile:
    position = _position(mark)
    return InvalidFile((Problem("", position.line, position.column, message),))


def _refused(text: str, offset: int, message: str) -> InvalidFile:
    before = text[:offset]
    line, column = before.count("\n") + 1, offset - before.rfind("\n")
    return InvalidFile((Problem("", line, column, message),))


def _syntax_error(error: yaml.MarkedYAMLError) -> InvalidFile:
    message = ", ".join(part for part in (error.context, error.problem) if part)
    if error.problem and "'\\t'" in error.problem:
        message = "YAML is indented with blanks, not with tabs"
    return _at(error.problem_mark or error.context_mark, message)
