"""Two versions of a digits model as MLflow folders, to register and deploy.

python examples/train_digits.py /tmp/digits
tiltyard register digits /tmp/digits/1
tiltyard register digits /tmp/digits/2
"""

import shutil
import sys
from pathlib import Path

from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC

from registry.mlflow import save_sklearn


def main(folder: Path) -> None:
    """Train on half of the data, and say how each version does on the other half."""
    folder.mkdir(parents=True, exist_ok=True)
    images, labels = load_digits(return_X_y=True)
    versions = {"1": LogisticRegression(C=1e-4, max_iter=500), "2": SVC()}
    for name, model in versions.items():
        model.fit(images[::2], labels[::2])
        shutil.rmtree(folder / name, ignore_errors=True)
        save_sklearn(model, folder / name, example=images[:2])
        score = model.score(images[1::2], labels[1::2])
        print(f"{folder / name}: {type(model).__name__}, {score:.1%} correct")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
