"""Metrics without a relaxation: plain functions as a user would write them, and some of the package's."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import NamedTuple

import emuloss
import later
import numpy as np
from emuloss.metrics import Metric
from PIL import Image
from scipy import ndimage, spatial

_WET = 0.1
_RING = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], bool)
_EIGHT = np.ones((3, 3), bool)


def peaks(field: np.ndarray) -> float:
    """Local maxima above 5 mm/h among their 8 neighbours."""
    around = ndimage.maximum_filter(field, footprint=_RING, mode="constant")
    return float(((field > around) & (field > 5)).sum())


def cells(field: np.ndarray) -> float:
    """Connected regions above 1 mm/h of at least 9 pixels."""
    labels, count = ndimage.label(field > 1, _EIGHT)
    return float((np.bincount(labels.ravel(), minlength=count + 1)[1:] >= 9).sum())


def neighbours(field: np.ndarray) -> float:
    """Mean distance of the centre of a cell (above 1 mm/h) to that of the nearest other one, in pixels."""
    labels, count = ndimage.label(field > 1, _EIGHT)
    if count < 2:
        return float(max(field.shape))
    centres = np.array(ndimage.center_of_mass(field, labels, range(1, count + 1)))
    return float(spatial.KDTree(centres).query(centres, 2)[0][:, 1].mean())


def concentration(field: np.ndarray) -> float:
    """Share of the rain that falls in the wettest tenth of the pixels."""
    ordered = np.sort(field, axis=None)
    return float(ordered[-(field.size // 10) :].sum() / max(ordered.sum(), 1e-9))


def entropy(field: np.ndarray) -> float:
    """Entropy of the histogram of wet pixels in ten classes, equally wide in log rain, in nats."""
    counts = np.histogram(np.log10(field[field >= _WET]), 10, (-1, 2))[0]
    return _entropy(counts)


def greys(picture: np.ndarray) -> float:
    """Entropy of the histogram of a picture in 32 classes of grey, in nats."""
    return _entropy(np.histogram(picture, 32, (0, 256))[0])


def _entropy(counts: np.ndarray) -> float:
    shares = counts[counts > 0] / max(counts.sum(), 1)
    return float(-(shares * np.log(shares)).sum())


def steepness(field: np.ndarray) -> float:
    """95 % quantile of the gradient's length, in units of the field per pixel."""
    return float(np.quantile(np.hypot(*np.gradient(field.astype(float))), 0.95))


def lacunarity(field: np.ndarray) -> float:
    """Mean square over squared mean of the share of wet pixels in windows of 8 x 8."""
    means = ndimage.uniform_filter((field >= _WET).astype(float), 8)[4::8, 4::8]
    return float((means**2).mean() / max(means.mean(), 1e-3) ** 2)


def axis(field: np.ndarray) -> list[float]:
    """How much longer than wide the rain lies about its centre, and in which direction.

    e cos(2 a) and e sin(2 a), e = (l1 - l2) / (l1 + l2) of the two moments of inertia, a the angle.
    """
    total = max(float(field.sum()), 1e-9)
    rows, columns = np.indices(field.shape)
    r, c = (x - (x * field).sum() / total for x in (rows, columns))
    rr, cc, rc = ((field * x).sum() for x in (r * r, c * c, r * c))
    return [float((cc - rr) / max(cc + rr, 1e-9)), float(2 * rc / max(cc + rr, 1e-9))]


def complexity(field: np.ndarray) -> float:
    """Bytes of the field as a JPEG of quality 75, grey levels on a logarithmic scale up to 100 mm/h."""
    return _jpeg(np.log1p(np.clip(field, 0, 100)) / np.log(101) * 255)


def jpeg(picture: np.ndarray) -> float:
    """Bytes of a picture as a JPEG of quality 75."""
    return _jpeg(np.clip(picture, 0, 255))


def _jpeg(grey: np.ndarray) -> float:
    file = io.BytesIO()
    Image.fromarray(grey.astype(np.uint8)).save(file, "JPEG", quality=75)
    return float(file.tell())


def overlap(prediction: np.ndarray, observation: np.ndarray) -> float:
    """Intersection over union of the wettest tenths of two fields; 1 where neither has rain."""
    first, second = (field > np.quantile(field, 0.9) for field in (prediction, observation))
    union = (first | second).sum()
    return float((first & second).sum() / union) if union else 1.0


class Case(NamedTuple):
    """A metric, and what it is measured on.

    Attributes:
        metric: makes it.
        fields: "rain" or "pictures".
    """

    metric: Callable[[], Metric]
    fields: str = "rain"


def _of(function: Callable[..., object], fields: str = "rain", **options: object) -> Case:
    return Case(lambda: emuloss.metric(function, **options), fields)


def _named(name: str, **options: object) -> Case:
    return Case(lambda: emuloss.metric(name, **options))


CASES: dict[str, Case] = {
    "peaks": _of(peaks),
    "cells": _of(cells),
    "neighbours": _of(neighbours),
    "concentration": _of(concentration),
    "entropy": _of(entropy),
    "steepness": _of(steepness),
    "lacunarity": _of(lacunarity),
    "axis": _of(axis, outputs=["along", "across"]),
    "complexity": _of(complexity),
    "overlap": _of(overlap, arity=2, symmetric=True, identity=1, lower_better=False),
    "clusters": _named("clusters", thresholds=[0.5, 2.0, 8.0]),
    "percolation": _named("percolation", thresholds=[0.1, 0.2]),
    "morphology": _named("morphology", thresholds=[0.5, 2.0]),
    "sal": _named("sal", wet=_WET, outputs=["structure", "location"]),
    "pictures: jpeg": _of(jpeg, "pictures"),
    "pictures: steepness": _of(steepness, "pictures"),
    "pictures: greys": _of(greys, "pictures"),
}
"""The battery, by name."""
LATER = {
    name: _of(getattr(later, name))
    for name in ("skeleton", "gini", "variogram", "hull", "moran", "reach", "runs")
} | {"hausdorff": _of(later.hausdorff, arity=2, symmetric=True, identity=0, lower_better=True)}
"""What was tried on it when it was done."""
