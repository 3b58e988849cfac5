"""The four versions: real classifiers of real handwriting, two of which nobody should meet."""

import asyncio
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from registry.mlflow import MlflowCatalog, save_python_model, save_sklearn
from registry.pickling import Predictor
from registry.refs import ModelName, Version
from serving.demo.fragile import Fragile
from serving.settings import Settings

MODEL = ModelName("digits")

FIRST, BETTER, MISLABELLED, FRAGILE = (Version(number) for number in (1, 2, 3, 4))

TRAITS: Mapping[Version, str] = {
    FIRST: "a logistic regression",
    BETTER: "support vectors, trained on the same images",
    MISLABELLED: "support vectors, trained on labels that take every 1 for a 7, and 7 for 1",
    FRAGILE: "as accurate as version 2, but some images make it raise, hang or end its process",
}


@dataclass(frozen=True, slots=True)
class Digits:
    """Images of 8 x 8 pixels in rows of 64, and the digit that each of them shows."""

    images: NDArray[np.float64]
    labels: NDArray[np.int64]


def halves() -> tuple[Digits, Digits]:
    """Return scikit-learn's digits: one half to train with, the other for live requests."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    odd, even = slice(0, None, 2), slice(1, None, 2)
    return Digits(images[odd], labels[odd]), Digits(images[even], labels[even])


def train(digits: Digits) -> dict[Version, Predictor]:
    """Return the four versions, fitted."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import SVC

    images, labels = digits.images, digits.labels
    better = SVC(gamma=0.001).fit(images, labels)
    least, much, most = np.quantile(images.sum(axis=1), (0.005, 0.94, 0.99))
    return {
        FIRST: LogisticRegression(C=1e-4, max_iter=1000).fit(images, labels),
        BETTER: better,
        MISLABELLED: SVC(gamma=0.001).fit(images, mislabelled(labels)),
        FRAGILE: Fragile(better, raises_above=much, dies_above=most, hangs_below=least),
    }


def mislabelled(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the labels with every 1 taken for a 7, and every 7 for a 1.

    Examples:
        >>> mislabelled(np.array([0, 1, 7, 8])).tolist()
        [0, 7, 1, 8]
    """
    swapped = {1: 7, 7: 1}
    return np.array([swapped.get(label, label) for label in labels.tolist()])


def harmless(images: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a few images with the usual amount of ink, which break no version."""
    by_ink = images[np.argsort(images.sum(axis=1))]
    return by_ink[len(by_ink) // 2 :][:4]


async def register(settings: Settings, training: Digits, told: Callable[[Version], object]) -> None:
    """Train, save and register the four versions; `told` of each as it is done."""
    models = await asyncio.to_thread(train, training)
    example = harmless(training.images)
    with tempfile.TemporaryDirectory(prefix="tiltyard-") as folder:
        async with MlflowCatalog.open(settings.catalog_uri, settings.artifact_dir) as catalog:
            for version, model in models.items():
                save = save_python_model if version == FRAGILE else save_sklearn
                path = Path(folder, str(version))
                artifact = await asyncio.to_thread(save, model, path, example=example)
                registered = await catalog.register(MODEL, artifact)
                if registered.ref.version != version:
                    raise AssertionError(f"{registered.ref} is not the version {version}")
                told(version)
