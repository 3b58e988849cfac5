"""Models that give back what they are given, saved and registered as real MLflow models.

They are saved with this code, so keep the imports few.
"""

import time
from pathlib import Path

import numpy as np

PATIENCE_SECONDS = 60.0


class Echo:
    """Gives back every tensor, many times over if asked; or one after the other, as it is let.

    A stream takes its name of a folder from the text `gate`. Before its second piece, and before
    each after that, it waits for a file there that is called after the piece: `1`, `2`, ...; a file
    `break` makes it fail instead, and when it is over, however it ended, it leaves a file `closed`.
    """

    def predict(self, tensors, params):
        return {name: np.repeat(array, params["times"], axis=0) for name, array in tensors.items()}

    def predict_stream(self, tensors, params):
        folder = Path(tensors["gate"][0])
        try:
            for number in range(params["times"]):
                if number:
                    self._wait(folder, number)
                yield {"number": number}
        finally:
            if folder.is_dir():
                Path(folder, "closed").touch()

    @staticmethod
    def _wait(folder: Path, number: int) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not Path(folder, str(number)).exists():
            if Path(folder, "break").exists() or time.monotonic() > deadline:
                raise RuntimeError("broken half-way")
            time.sleep(0.01)


TENSORS = {
    "bool": np.array([[True, False]]),
    **{
        kind: np.array([[0, np.iinfo(kind).max]], dtype=kind)
        for kind in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
    },
    **{kind: np.array([[0.5, -2.0]], dtype=kind) for kind in ("float16", "float32", "float64")},
    "gate": np.array(["nowhere"]),
    "bytes": np.array([b"\x00\xff"], dtype=object),
}
"""What `Echo` is saved with: a tensor of each datatype."""


class Sums:
    """Adds up each row."""

    def predict(self, rows):
        return rows.sum(axis=1)


class Columns:
    """Takes a frame of every type that JSON has, gives one back."""

    def predict(self, frame):
        import pandas

        return pandas.DataFrame({"sum": frame["a"] + frame["b"], "text": frame["c"]})
