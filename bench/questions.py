"""What every server is asked, and what it has to answer: one scikit-learn model on digits.

Both versions of an experiment are this very model, so that no variant has less to do than another.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import cycle, islice
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

LARGE_BYTES = 1_000_000

Rows = NDArray[np.float64]


class Model(Protocol):
    """A fitted estimator."""

    def predict(self, rows: Rows, /) -> NDArray[np.int64]:
        """Return a digit for each row."""


class Dialect(StrEnum):
    """How a server wants to be asked."""

    OPEN_INFERENCE = "open-inference"
    ROWS = "rows"


@dataclass(frozen=True, slots=True)
class Question:
    """A body to send again and again.

    Args:
        size: What it is called in the results.
        expected: Text that is in every right answer: the whole of the prediction.
    """

    size: str
    dialect: Dialect
    body: Path
    expected: str


def fitted() -> tuple[Model, Rows]:
    """Return the model, and the images that it was fitted on."""
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    images, labels = load_digits(return_X_y=True)
    return LogisticRegression(C=1e-4, max_iter=1000).fit(images, labels), images


def large_rows(images: Rows) -> Rows:
    """Return as many images, again from the first where they do not suffice, as make a megabyte."""
    sizes = [len(_numbers(image)) for image in images]
    rows, size = 0, 0
    for each in cycle(sizes):
        if size >= LARGE_BYTES:
            break
        rows, size = rows + 1, size + each
    return np.array(list(islice(cycle(images.tolist()), rows)))


def body(dialect: Dialect, rows: Rows) -> bytes:
    """Return the request that asks for a digit of each row."""
    if dialect is Dialect.ROWS:
        return json.dumps({"rows": rows.tolist()}, separators=(",", ":")).encode()
    shape, numbers = json.dumps(list(rows.shape)), ",".join(map(_numbers, rows))
    tensor = f'{{"name":"input-0","shape":{shape},"datatype":"FP64","data":[{numbers}]}}'
    return f'{{"inputs":[{tensor}]}}'.encode()


def expected(digits: Sequence[int]) -> str:
    """Return what all dialects write a prediction as.

    Examples:
        >>> expected([3, 0])
        '[3,0]'
    """
    return json.dumps(list(digits), separators=(",", ":"))


def write(folder: Path, name: str, model: Model, rows: Rows) -> dict[Dialect, Question]:
    """Write a question down in each dialect."""
    digits = expected(model.predict(rows).tolist())
    questions = {}
    for dialect in Dialect:
        path = folder / f"{name}-{dialect}.json"
        path.write_bytes(body(dialect, rows))
        questions[dialect] = Question(name, dialect, path, digits)
    return questions


def _numbers(row: Rows) -> str:
    return ",".join(map(repr, row.tolist()))
