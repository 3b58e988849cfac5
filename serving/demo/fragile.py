"""A model that some images break. It is saved with this code, so keep the imports few."""

import os
import time
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

HANG_SECONDS = 30.0


class Classifier(Protocol):
    """Whatever was fitted on rows of pixels."""

    def predict(self, rows: NDArray[np.float64], /) -> NDArray[np.int64]:
        """Return a class for each row."""


class Fragile:
    """As good as the classifier in it, until somebody sends much ink, or hardly any.

    Args:
        raises_above, dies_above: Sums of a row's pixels beyond which it raises an error, or ends
            its process.
        hangs_below: Sum of a row's pixels below which it does not come back for long.
    """

    def __init__(
        self,
        classifier: Classifier,
        *,
        raises_above: float,
        dies_above: float,
        hangs_below: float,
    ) -> None:
        self._classifier = classifier
        self._raises_above = raises_above
        self._dies_above = dies_above
        self._hangs_below = hangs_below

    def predict(self, rows: NDArray[np.float64], /) -> NDArray[np.int64]:
        """Return a digit for each row, if it returns.

        Raises:
            ValueError: a row has too much ink.
        """
        ink = rows.sum(axis=1)
        if ink.max() > self._dies_above:
            os._exit(1)
        if ink.max() > self._raises_above:
            raise ValueError(f"too much ink: {ink.max():.0f}")
        if ink.min() < self._hangs_below:
            time.sleep(HANG_SECONDS)
        return self._classifier.predict(rows)
