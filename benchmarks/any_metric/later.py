"""More plain functions of rain, written after all choices about slopes and live losses had been made."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage import morphology


def skeleton(field: np.ndarray) -> float:
    """Pixels of the skeleton of rain above 1 mm/h."""
    return float(morphology.skeletonize(field > 1).sum())


def gini(field: np.ndarray) -> float:
    """Gini coefficient: 0 for even rain, 1 where all falls into one pixel."""
    ordered = np.sort(field, axis=None).astype(float)
    count = ordered.size
    ranks = 2 * np.arange(1, count + 1) - count - 1
    return float(ranks @ ordered / max(count * ordered.sum(), 1e-9))


def variogram(field: np.ndarray) -> float:
    """log10 of the mean squared difference of log(1 + rain) over 4 pixels."""
    x = np.log1p(field)
    across, along = np.mean((x[4:] - x[:-4]) ** 2), np.mean((x[:, 4:] - x[:, :-4]) ** 2)
    return float(np.log10((across + along) / 2 + 1e-4))


def hull(field: np.ndarray) -> float:
    """Share of the convex hull of the rain above 0.5 mm/h that is wet."""
    wet = field > 0.5
    return float(wet.sum() / morphology.convex_hull_image(wet).sum()) if wet.sum() >= 4 else 1.0


def moran(field: np.ndarray) -> float:
    """Moran's I of log(1 + rain): how alike neighbours are that share an edge."""
    z = np.log1p(field)
    z = z - z.mean()
    alike = (np.mean(z[1:] * z[:-1]) + np.mean(z[:, 1:] * z[:, :-1])) / 2
    return float(alike / max(np.mean(z * z), 1e-9))


def reach(field: np.ndarray) -> float:
    """Greatest distance of a pixel from rain above 1 mm/h, in pixels."""
    wet = field > 1
    return float(ndimage.distance_transform_edt(~wet).max()) if wet.any() else float(max(field.shape))


def runs(field: np.ndarray) -> float:
    """Mean length of unbroken rain above 0.5 mm/h along a row, in pixels."""
    wet = np.pad(field > 0.5, ((0, 0), (1, 1))).astype(int)
    starts = (np.diff(wet, axis=1) == 1).sum()
    return float(wet.sum() / starts) if starts else 0.0


def hausdorff(prediction: np.ndarray, observation: np.ndarray) -> float:
    """Mean distance of rain above 1 mm/h from rain in the other field, in pixels; of both the larger."""
    first, second = prediction > 1, observation > 1
    if not (first.any() and second.any()):
        return float(max(prediction.shape)) if first.any() != second.any() else 0.0
    ways = (ndimage.distance_transform_edt(~b)[a].mean() for a, b in ((first, second), (second, first)))
    return float(max(ways))
