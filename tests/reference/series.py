"""Arms of reference cases, written as formulas: "x_k=((7k) mod 11)/10, k=0..199", "5.0 x200"."""

import ast
import math
import operator
import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

_REPEATED = re.compile(r"\s*([-+]?[\d.]+(?:[eE][-+]?\d+)?)\s*[x*×]\s*(\d+)\s*$")
_RANGE = re.compile(r"[,;]?\s*(?:for\s+)?(\w+)\s*(?:=|in)\s*(-?\d+)\s*\.\.+\s*(-?\d+)\s*$")
_NAMED = re.compile(r"^\s*[A-Za-z]\w*(?:\[\w+\])?\s*=(?!=)")
_TOKEN = re.compile(r"\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+|[A-Za-z]\w*|\*\*|//|[=<>!]=|\S")
_WORDS = {"mod": "%", "^": "**", "=": "==", "ln": "log"}
_GLUE = {"if", "else", "and", "or", "not", "%"}

_OPERATIONS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
    ast.Not: operator.not_,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    name: getattr(math, name)
    for name in ("log", "log1p", "log2", "log10", "exp", "expm1", "sqrt", "sin", "cos", "tan")
} | {"abs": abs, "min": min, "max": max, "floor": math.floor, "ceil": math.ceil, "round": round}
_CONSTANTS = {"pi": math.pi, "e": math.e}


def read_series(text: str | list[float]) -> list[float]:
    """The numbers that a text describes; a list of numbers is returned as it is.

    Examples:
        >>> read_series("x_k=((7k) mod 11)/10, k=0..3")
        [0.0, 0.7, 0.3, 1.0]
        >>> read_series("x_k=1 if k^2 mod 10==1 else 0, k=0..3")
        [0.0, 1.0, 0.0, 0.0]
        >>> read_series("5.0 x2")
        [5.0, 5.0]
    """
    if not isinstance(text, str):
        return [float(value) for value in text]
    repeated = _REPEATED.match(text)
    if repeated:
        return [float(repeated[1])] * int(repeated[2])
    span = _RANGE.search(text)
    if span is None:
        raise ValueError(f"no range such as 'k=0..199' at the end of {text!r}")
    formula = _in_python(_NAMED.sub("", text[: span.start()]))
    tree = ast.parse(formula, mode="eval").body
    first, last = int(span[2]), int(span[3])
    return [float(_value(tree, {span[1]: k})) for k in range(first, last + 1)]


def _in_python(formula: str) -> str:
    """Spell out the products that a formula leaves unsaid: 7k, 2(k+1), (k)(k+1)."""
    tokens = [_WORDS.get(token, token) for token in _TOKEN.findall(formula)]
    said: list[str] = []
    for token in tokens:
        if said and _ends_a_factor(said[-1]) and _starts_a_factor(token):
            called = token == "(" and said[-1] in _FUNCTIONS
            if not called:
                said.append("*")
        said.append(token)
    return " ".join(said)


def _ends_a_factor(token: str) -> bool:
    return token == ")" or (token[0].isalnum() and token not in _GLUE)


def _starts_a_factor(token: str) -> bool:
    return token == "(" or (token[0].isalnum() and token not in _GLUE)


def _value(node: ast.expr, names: dict[str, int]) -> Any:
    def of(child: ast.expr) -> Any:
        return _value(child, names)

    match node:
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.Name(id=name) if name in names:
            return names[name]
        case ast.Name(id=name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.BinOp(left=left, op=op, right=right):
            return _OPERATIONS[type(op)](of(left), of(right))
        case ast.UnaryOp(op=op, operand=operand):
            return _OPERATIONS[type(op)](of(operand))
        case ast.IfExp(test=test, body=body, orelse=orelse):
            return of(body) if of(test) else of(orelse)
        case ast.BoolOp(op=op, values=values):
            return (all if isinstance(op, ast.And) else any)(of(value) for value in values)
        case ast.Compare(left=left, ops=ops, comparators=others):
            chain = [of(left), *map(of, others)]
            return all(
                _OPERATIONS[type(op)](*pair) for op, pair in zip(ops, pairwise(chain), strict=True)
            )
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS:
            return _FUNCTIONS[name](*map(of, arguments))
    raise ValueError(f"a formula may not contain {ast.unparse(node)!r}")
