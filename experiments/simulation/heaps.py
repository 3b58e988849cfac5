"""What one arm has seen of one metric, by segment: arrays that grow, and become a `Sample`."""

from dataclasses import dataclass, field
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from experiments.evidence import Sample
from experiments.stats.moments import Moments

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_PARTS = 6
"""n, mean, m2, mean_x, m2_x, co: the fields of `Moments`, in their order."""


class Heap(Protocol):
    """Outcomes of some units, or of many batches of them."""

    def add(self, other: Self) -> None:
        """Take in another heap of the same shape."""

    def sample(self, segment: int | None) -> Sample:
        """Return what is seen in one segment, or in all of them together."""


@dataclass(slots=True)
class Counts:
    """How many units gave each value.

    Args:
        table: By segment and column.
        indices: What each column is called in a `Sample`.
    """

    table: Ints
    indices: tuple[int, ...]

    def add(self, other: Self) -> None:
        self.table = self.table + other.table

    def sample(self, segment: int | None) -> Sample:
        row = self.table.sum(axis=0) if segment is None else self.table[segment]
        seen = np.flatnonzero(row).tolist()
        return Sample({self.indices[i]: int(row[i]) for i in seen})


@dataclass(slots=True)
class Sums:
    """Moments by segment and column.

    Args:
        parts: The fields of `Moments`, by part, segment and column.
        indices: What each column is called in a `Sample`.
    """

    parts: Floats
    indices: tuple[int, ...] = field(default=(0,))

    @classmethod
    def of(
        cls,
        ys: Floats,
        xs: Floats,
        *,
        segments: Ints,
        columns: Ints,
        shape: tuple[int, int],
        indices: tuple[int, ...],
    ) -> Self:
        """Summarise pairs, each of which belongs to one segment and column."""
        cells, size = segments * shape[1] + columns, shape[0] * shape[1]
        n = np.bincount(cells, minlength=size).astype(np.float64)
        filled = np.maximum(n, 1.0)
        mean_y = np.bincount(cells, ys, size) / filled
        mean_x = np.bincount(cells, xs, size) / filled
        off_y, off_x = ys - mean_y[cells], xs - mean_x[cells]
        spreads = [
            np.bincount(cells, product, size)
            for product in (off_y * off_y, off_x * off_x, off_y * off_x)
        ]
        parts = np.array([n, mean_y, spreads[0], mean_x, spreads[1], spreads[2]])
        return cls(parts.reshape(_PARTS, *shape), indices)

    def add(self, other: Self) -> None:
        self.parts = _merged(self.parts, other.parts)

    def sample(self, segment: int | None) -> Sample:
        if segment is None:
            whole = self.parts[:, 0]
            for each in range(1, self.parts.shape[1]):
                whole = _merged(whole, self.parts[:, each])
        else:
            whole = self.parts[:, segment]
        return Sample(
            moments={
                index: Moments(int(n), *rest)
                for index, (n, *rest) in zip(self.indices, whole.T.tolist(), strict=True)
                if n
            }
        )


def _merged(one: Floats, other: Floats) -> Floats:
    """Chan's pairwise update, as `Moments.merged`, in every cell at once."""
    n = one[0] + other[0]
    part = other[0] / np.maximum(n, 1.0)
    between = one[0] * part
    step, step_x = other[1] - one[1], other[3] - one[3]
    return np.array(
        [
            n,
            one[1] + step * part,
            one[2] + other[2] + step * step * between,
            one[3] + step_x * part,
            one[4] + other[4] + step_x * step_x * between,
            one[5] + other[5] + step * step_x * between,
        ]
    )
