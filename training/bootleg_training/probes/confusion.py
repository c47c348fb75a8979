"""Confusion matrix and mean intersection over union, with an ignored label. Rows are truth, columns predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def confusion(
    truth: NDArray[np.integer], predicted: NDArray[np.integer], classes: int, *, ignore: int | None = None
) -> NDArray[np.int64]:
    """Count the pixels of every pair of true and predicted class.

    Args:
        truth: labels of any shape.
        predicted: labels of the same shape.
        classes: labels are 0 .. ``classes`` - 1, ``ignore`` apart.
        ignore: pixels whose true label it is are left out.

    Returns:
        int64 ``[classes, classes]``.
    """
    assert truth.shape == predicted.shape, f"{truth.shape} labels for {predicted.shape} predictions"
    counted = np.ones(truth.shape, bool) if ignore is None else truth != ignore
    pairs = truth[counted].astype(np.int64) * classes + predicted[counted]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def class_iou(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """Intersection over union of each class; NaN where it is neither there nor predicted."""
    shared = np.diag(matrix)
    union = matrix.sum(axis=0) + matrix.sum(axis=1) - shared
    return np.where(union > 0, shared / np.maximum(union, 1), np.nan)


def mean_iou(matrix: NDArray[np.int64]) -> float:
    """Macro mean over the classes that are there or predicted; 0 when there is none."""
    scores = class_iou(matrix)
    return float(np.nanmean(scores)) if np.isfinite(scores).any() else 0.0
