"""Rain drawn at random, the same for the same seed: fields of several laws, pairs, all of a source."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

SUPPORT = str(Path(__file__).parent)
"""This folder, for the path of processes that import a file of tests."""

Shape = tuple[int, ...]


def rain(
    number: int = 3, *frame: int, law: str = "lognormal", seed: int = 0, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Fields of rain, (number, *frame), of 32 x 32 pixels unless told; `LAWS` says what each law draws."""
    return torch.as_tensor(LAWS[law]((number, *(frame or (32, 32))), seed)).to(dtype)


def rain_array(number: int = 3, *frame: int, law: str = "gamma", seed: int = 0) -> np.ndarray:
    """The same as a NumPy array, float32."""
    return rain(number, *frame, law=law, seed=seed).numpy()


def pairs_of_rain(number: int, frame: tuple[int, int] = (16, 20), seed: int = 0) -> np.ndarray:
    """Pairs (number, 2, *frame), float32: smooth cells, and the same displaced, rescaled and noisy."""
    rng = np.random.default_rng(seed)
    noise = np.fft.rfft2(rng.standard_normal((number, *frame)))
    waves = np.hypot(np.fft.fftfreq(frame[0])[:, None], np.fft.rfftfreq(frame[1])) + 0.05
    fields = np.fft.irfft2(noise * waves**-1.5, frame)
    fields = np.maximum(2 * fields / fields.std() - 0.5, 0)
    others = np.roll(fields, 1, axis=2) * rng.lognormal(0, 0.3, (number, 1, 1))
    others += 0.1 * rng.random(fields.shape) * (fields > 0)
    return np.stack([others, fields], axis=1).astype(np.float32)


def spreads(thresholds: Sequence[float]) -> tuple[float, ...]:
    """How far rain, most of it dry, lies from thresholds: as far as these lie from 0."""
    return tuple(abs(u) or 0.1 for u in thresholds)


def read_all(source, split: str = "train") -> np.ndarray:
    """All fields of a source, (N, H, W)."""
    return np.concatenate([source.read(chunk, split) for chunk in range(len(source))])


# Laws: of a shape (N, H, W) and a seed


def _lognormal(shape: Shape, seed: int, drawn: torch.dtype = torch.float32) -> Tensor:
    """Every pixel by itself; more than a third are dry."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=generator, dtype=drawn).exp() - 0.7).clamp(min=0)


def _smooth(shape: Shape, seed: int) -> Tensor:
    """Means over 3 x 3 pixels, continuous values about 1; a third of the pixels are dry."""
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    kernel = torch.ones((1, 1, 3, 3), dtype=torch.float64) / 3
    smooth = torch.nn.functional.conv2d(noise[:, None], kernel, padding=1)[:, 0]
    return (torch.exp(smooth) - 0.6).clamp(min=0)


def _peaked(shape: Shape, seed: int) -> Tensor:
    """Every pixel by itself, from 0 to 12, most of them small."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64) ** 4 * 12


def _gamma(shape: Shape, seed: int) -> np.ndarray:
    """Every pixel by itself, none of them dry."""
    return np.random.default_rng(seed).gamma(0.6, 1.0, shape).astype(np.float32)


def _intensities(shape: Shape, seed: int) -> np.ndarray:
    """The same, with an intensity for each field, and four dry rows."""
    rng = np.random.default_rng(seed)
    fields = rng.gamma(0.6, 1.0, shape).astype(np.float32)
    fields *= rng.lognormal(0, 0.7, (shape[0], 1, 1)).astype(np.float32)
    fields[:, :4] = 0
    return fields


def _cells(shape: Shape, seed: int) -> np.ndarray:
    """Smooth cells on a dry ground, of growing extent from field to field."""
    number, rows, columns = shape
    waves = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.fftfreq(columns))
    spectrum = 1 / (0.05 + waves) ** 2
    noise = np.random.default_rng(seed).normal(size=shape)
    noise = np.fft.ifft2(np.fft.fft2(noise) * spectrum).real
    noise /= noise.std((1, 2), keepdims=True)
    offset = np.linspace(1.5, -0.5, number)[:, None, None]
    return np.maximum(2 * (noise - offset), 0).astype(np.float32)


def _patches(shape: Shape, seed: int) -> np.ndarray:
    """Smooth patches on a dry ground."""
    from emuloss.evaluation import blurred  # where it is needed: other laws are of use without that floor

    noise = np.random.default_rng(seed).standard_normal(shape)
    return np.maximum(8 * blurred(noise, 5) - 0.5, 0).astype(np.float32)


def _storms(shape: Shape, seed: int) -> np.ndarray:
    """One Gaussian storm a field, of growing size, whatever the seed; the first field is dry."""
    number, height, width = shape
    rows, columns = np.indices((height, width))
    squares = (rows - height / 2) ** 2 + (columns - width / 2) ** 2
    sizes = np.arange(number)[:, None, None]
    fields = np.where(sizes > 0, 5 * np.exp(-0.5 * squares / np.maximum(sizes, 1) ** 2), 0.0)
    return np.where(fields < 0.1, 0.0, fields).astype(np.float32)


LAWS = {
    "lognormal": _lognormal,
    "lognormal, drawn in double": partial(_lognormal, drawn=torch.float64),
    "smooth": _smooth,
    "peaked": _peaked,
    "gamma": _gamma,
    "gamma, of many intensities": _intensities,
    "cells": _cells,
    "patches": _patches,
    "storms": _storms,
}
