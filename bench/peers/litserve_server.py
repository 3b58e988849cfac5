"""The model behind LitServe; runs in LitServe's environment: `MODEL PORT WORKERS`."""

import sys
from typing import Any

import joblib
import litserve
import numpy as np


class Digits(litserve.LitAPI):
    """Rows of 64 numbers in, a digit for each row out."""

    def setup(self, device: str) -> None:  # noqa: ARG002  LitServe's name for it
        self._model = joblib.load(sys.argv[1])

    def decode_request(self, request: dict[str, Any]) -> np.ndarray:
        return np.array(request["rows"])

    def predict(self, x: np.ndarray) -> np.ndarray:
        return self._model.predict(x)

    def encode_response(self, output: np.ndarray) -> dict[str, list[int]]:
        return {"digits": output.tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(
        Digits(), accelerator="cpu", workers_per_device=int(sys.argv[3]), timeout=60
    )
    server.run(
        host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="error"
    )
