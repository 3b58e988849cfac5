"""The model as a BentoML service; runs in BentoML's environment. The model's file is in MODEL."""

import os

import bentoml
import joblib
import numpy as np


@bentoml.service(
    workers=int(os.environ["WORKERS"]),
    traffic={"timeout": 60},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
class Digits:
    """Rows of 64 numbers in, a digit for each row out."""

    def __init__(self) -> None:
        self._model = joblib.load(os.environ["MODEL"])

    @bentoml.api
    def infer(self, rows: np.ndarray) -> np.ndarray:
        return self._model.predict(rows)
