"""Fields to train and test on, and what a coarse observer sees of them."""

from __future__ import annotations

import argparse
import hashlib
import json
import math
from typing import Any, NamedTuple

import numpy as np
import torch
from emuloss.datasets import FieldSource, assign_splits, open_source
from emuloss.datasets.sources.archive import SAME_SIZE
from emuloss.datasets.sources.opening import options_taken
from emuloss.datasets.sources.tiling import half
from emuloss.errors import ArgumentError
from emuloss.pipeline.parsing import key_values
from objectives import minkowski
from torch import Tensor, nn
from tqdm import tqdm


class Fields(NamedTuple):
    """Fields to train, validate and test on.

    Attributes:
        train, validation, test: (N, H, W) in mm/h, NaN where nothing was measured.
        pixel_size: side of a pixel in km.
        source: what they were read from, as a hash of all that decides their values.
        test_groups: (N,) int64, equal where fields come from one time, such as the patches of a composite,
            and are not independent: the chunk of the source where that is in order of time, a number of its
            own for each field otherwise.
    """

    train: Tensor
    validation: Tensor
    test: Tensor
    pixel_size: float
    source: str
    test_groups: Tensor


def read(spec: str, **options: Any) -> Fields:
    """Read the fields of a source such as "rain" or "pysteps:fmi_pgm:DIR", split as `assign_splits` does.

    Radar is split by time with a gap before the test; of overlapping patches only training has any, half a
    size apart. Finer pixels become means over blocks of as many as fill those of the losses' metric. A file
    that names no unit is taken to have mm/h, and one that tells no size of its pixels to have, after
    `coarsen` if that is given, those of the metric.

    Raises:
        ArgumentError: the fields are no rain in mm/h, or no block of their pixels is one of the losses'
            metric.
    """
    expected = minkowski().pixel_size
    source = _opened(spec, options, expected)
    in_mm = source.unit == "mm/h" or (source.unit == "" and source.name != "images")
    if not in_mm or not math.isclose(source.pixel_size, expected, rel_tol=SAME_SIZE):
        raise ArgumentError(
            f"the losses are for rain in mm/h on pixels of {expected:g} km, {spec!r} has "
            f"{source.unit or 'no unit'} on {source.pixel_size:g} {source.length_unit}"
        )
    roles = assign_splits(source)
    parts: dict[str, list[np.ndarray]] = {"train": [], "validation": [], "test": []}
    groups: list[np.ndarray] = []
    for k, role in enumerate(tqdm(roles, "reading", unit="chunk", delay=3.0, leave=False)):
        if role in parts:
            parts[role].append(source.read(k, role))
        if role == "test":
            count, found = len(parts[role][-1]), sum(map(len, groups))
            groups.append(np.full(count, k) if source.chronological else np.arange(found, found + count))
    fields = {role: torch.from_numpy(np.concatenate(chunks)) for role, chunks in parts.items()}
    config = json.dumps([source.config(), roles], sort_keys=True, default=str)
    return Fields(
        fields["train"],
        fields["validation"],
        fields["test"],
        source.pixel_size,
        f"{source.name} {hashlib.sha256(config.encode()).hexdigest()[:12]}",
        torch.from_numpy(np.concatenate(groups)),
    )


def _opened(spec: str, options: dict[str, Any], pixel_size: float) -> FieldSource:
    """The source whose pixels come as close as can be to a size in km."""
    taken = options_taken(spec)
    if "stride" in taken:
        options = {"stride": half(options.get("size")), **options}
    source = open_source(spec, **options)
    if source.length_unit == "pixel" and "pixel_size" not in options:
        return open_source(spec, **options, pixel_size=pixel_size / options.get("coarsen", 1))
    side = round(pixel_size / source.pixel_size)
    if side > 1 and "coarsen" in taken and "coarsen" not in options:
        return open_source(spec, **options, coarsen=side)
    return source


def add_arguments(parser: argparse.ArgumentParser, count: int) -> None:
    """The options of a command that say which fields it reads; `count` synthetic ones by default."""
    parser.add_argument("--fields", default="rain", help="rain, opera:DIR, pysteps:IMPORTER:DIR, FILE, ...")
    parser.add_argument(
        "--source-option", nargs="+", action="extend", metavar="KEY=VALUE", help="of the source of fields"
    )
    parser.add_argument("--count", type=int, default=count, help="number of synthetic fields")


def read_asked(arguments: argparse.Namespace) -> Fields:
    """Read patches of 128 x 128 pixels of the source that these options name; errors as of `read`."""
    drawn = {"count": arguments.count} if arguments.fields == "rain" else {}
    told = key_values("--source-option", arguments.source_option or [])
    return read(arguments.fields, **{"size": 128, **drawn, **told})


class Coarsening(nn.Module):
    """Area means over square cells of any side, and their interpolation back to pixels.

    Args:
        shape: (H, W) of the fields.
        factor: side of a cell in pixels, 1 or more; cells start in the upper left corner, those at the
            other edges may stick out of the field and are means of what lies within.
    """

    means_of_rows: Tensor
    means_of_columns: Tensor
    back_to_rows: Tensor
    back_to_columns: Tensor
    shares_of_rows: Tensor
    shares_of_columns: Tensor

    def __init__(self, shape: tuple[int, int], factor: float) -> None:
        super().__init__()
        for name, size in zip(("rows", "columns"), shape, strict=True):
            self.register_buffer(f"means_of_{name}", _means(size, factor).float(), persistent=False)
            self.register_buffer(f"back_to_{name}", _interpolation(size, factor), persistent=False)
            self.register_buffer(f"shares_of_{name}", _overlaps(size, factor).T.float(), persistent=False)

    def forward(self, fields: Tensor) -> Tensor:
        """Coarse fields (N, h, w) of fields (N, H, W): means of the measured pixels, 0 where none is."""
        rows, columns = self.means_of_rows, self.means_of_columns.T
        measured = rows @ (~fields.isnan()).to(rows) @ columns
        return rows @ fields.nan_to_num(0.0) @ columns / measured.clamp(min=1e-6)

    def interpolate(self, coarse: Tensor) -> Tensor:
        """Bilinear interpolation (N, H, W) between the centres of the cells."""
        return self.back_to_rows @ coarse @ self.back_to_columns.T

    def spread(self, coarse: Tensor) -> Tensor:
        """Values of the cells at their pixels, (N, H, W); those that cells share get the mean by area."""
        return self.shares_of_rows @ coarse @ self.shares_of_columns.T


def _overlaps(size: int, factor: float) -> Tensor:
    """Length of pixel j in cell i: (cells, size)."""
    edges = torch.arange(0, size + factor, factor, dtype=torch.float64).clamp(max=size)
    edges = edges[: int(torch.searchsorted(edges, size)) + 1]
    pixels = torch.arange(size, dtype=torch.float64)
    low, high = edges[:-1, None], edges[1:, None]
    return (torch.minimum(high, pixels + 1) - torch.maximum(low, pixels)).clamp(min=0)


def _means(size: int, factor: float) -> Tensor:
    """Length of pixel j in cell i, over that of the cell: (cells, size)."""
    lengths = _overlaps(size, factor)
    return lengths / lengths.sum(1, keepdim=True)


def _interpolation(size: int, factor: float) -> Tensor:
    """Weight of cell i in pixel j, linear between the cells' centres, constant beyond them: (size, cells)."""
    means = _means(size, factor)
    pixels = torch.arange(size, dtype=torch.float64) + 0.5
    centres = means @ pixels
    cells = torch.eye(len(centres), dtype=torch.float64).numpy()
    weights = [np.interp(pixels.numpy(), centres.numpy(), cell) for cell in cells]
    return torch.from_numpy(np.stack(weights, 1)).float()
