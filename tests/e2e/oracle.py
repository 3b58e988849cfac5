"""Models whose every answer the tests can foretell, saved and registered as real MLflow models.

They are saved with this code, so keep the imports few.
"""

import os
import time
from enum import IntEnum

import numpy as np

HANG_SECONDS = 20.0


class Fault(IntEnum):
    """What a row does to a fragile version."""

    NONE = 0
    RAISE = 1
    HANG = 2
    DIE = 3


class Oracle:
    """Is given the right answer, and gives it wherever the row is not too difficult.

    A row is the right answer (0 to 9), a difficulty (0 to 1) and a fault.

    Args:
        skill: Difficulties below are answered rightly, others wrongly.
        fragile: Whether faults are obeyed.
    """

    def __init__(self, skill: float, *, fragile: bool = False) -> None:
        self.skill = skill
        self.fragile = fragile

    def answer(self, label: int, difficulty: float) -> int:
        """Return what one row is answered with."""
        return label if difficulty < self.skill else (label + 1) % 10

    def predict(self, rows):
        """Return an answer for each row, if there is no fault among them."""
        fault = max(int(row[2]) for row in rows) if self.fragile else Fault.NONE
        if fault == Fault.DIE:
            os._exit(1)
        if fault == Fault.HANG:
            time.sleep(HANG_SECONDS)
        if fault == Fault.RAISE:
            raise ValueError("this row cannot be answered")
        return np.array([self.answer(int(label), difficulty) for label, difficulty, *_ in rows])


class Stillborn(Oracle):
    """Cannot be loaded."""

    def __setstate__(self, state):
        raise RuntimeError("the weights are those of another architecture")


EXAMPLE = ((3.0, 0.0, 0.0), (7.0, 0.0, 0.0))
