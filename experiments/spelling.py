"""How refused words are shown, and which known word was probably meant."""

from collections.abc import Iterable
from difflib import get_close_matches

_SHOWN = 60


def shown(value: object) -> str:
    """Return `value` for an error message: printable, on one line, and never long."""
    text = str(value).lower() if isinstance(value, bool) else ascii(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean ...?`, or nothing if no known word is close.

    Examples:
        >>> did_you_mean("guardrail", ["goal", "guardrails"])
        '; did you mean guardrails?'
        >>> did_you_mean("colour", ["goal", "guardrails"])
        ''
    """
    close = get_close_matches(word[:_SHOWN], list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""
