"""Labelling an archive of NetCDF files against reading it by xarray alone, side by side.

    python benchmarks/archive.py [--files 2000] [--size 512] [--repeats 3] [--folder FOLDER]

Both take turns in one run, so that a change of load on the machine meets both alike: xarray opens each file,
decodes it and reads its field; emuloss looks into the files, reads them, computes exact Minkowski curves and
writes the store. Ratios are medians over the repeats, by the clock and by CPU time (in which emuloss gains
nothing from its threads). Memory is that of this process at its peak: before the archive is labelled, and
after.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
from pathlib import Path

import emuloss
import numpy as np
import xarray
from _timing import CLOCK, rain, take_turns

THRESHOLDS = np.geomspace(0.105, 50, 21).tolist()
DISTINCT = 16
"""Fields that differ; files take them in turn, turned, so that writing them takes no longer than it must."""


def write(folder: Path, count: int, size: int) -> None:
    """Write files of one field in mm/h each, packed and compressed as radar services do."""
    fields = rain(DISTINCT, size)
    sides = {name: (name, 1000.0 * np.arange(size), {"units": "m"}) for name in ("y", "x")}
    packing = {"dtype": "int16", "scale_factor": 0.01, "_FillValue": -1, "zlib": True, "complevel": 1}
    start = np.datetime64("2020-01-01", "ns")
    for k in range(count):
        path = folder / f"{k:05}.nc"
        if not path.exists():
            values = np.rot90(fields[k % DISTINCT], k // DISTINCT)[None]
            data = xarray.Dataset(
                {"rain": (("time", "y", "x"), values, {"units": "mm h-1"})},
                {"time": [start + k * np.timedelta64(5, "m")], **sides},
            )
            data.to_netcdf(path, engine="netcdf4", encoding={"rain": packing})


def read(folder: Path, count: int) -> float:
    """Read all fields by xarray alone; the sum of their values."""
    total = 0.0
    for path in sorted(folder.glob("*.nc"))[:count]:
        with xarray.open_dataset(path, engine="netcdf4") as data:
            total += float(data["rain"].values.sum(dtype=np.float64))
    return total


def label(folder: Path, out: Path) -> emuloss.datasets.LabelledFields:
    """Label all fields."""
    out.unlink(missing_ok=True)
    return emuloss.label(fields=f"xarray:{folder}", thresholds=THRESHOLDS, out=out, progress=False)


def peak() -> float:
    """The most memory that this process has had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def compare(folder: Path, out: Path, count: int, size: int, repeats: int) -> None:
    write(folder, count, size)
    few = folder / "few"
    few.mkdir(exist_ok=True)
    write(few, 24, size)
    # The warm-up of both: what is compiled and loaded once is no part of the comparison.
    read(few, 24)
    label(few, out)
    before = peak()
    seconds = take_turns(repeats, lambda: read(folder, count), lambda: label(folder, out))
    alone, ours = np.median(count / seconds[..., CLOCK], axis=0)
    clock, cpu = np.median(seconds[:, 1] / seconds[:, 0], axis=0)
    print(f"{count} files of {size} x {size}, {count * size**2 * 4 / 2**20:.0f} MiB of values")
    print(f"xarray alone {alone:.1f} files/s, labelled {ours:.1f} files/s")
    print(f"{clock:.2f} times the time by the clock, {cpu:.2f} times that of CPU")
    print(f"peak memory {before:.0f} MiB before, {peak():.0f} MiB after")


def main() -> None:
    parser = argparse.ArgumentParser(description="Time labelling an archive against reading it by xarray.")
    parser.add_argument("--files", type=int, default=2000, help="files in the archive; default: 2000")
    parser.add_argument("--size", type=int, default=512, help="rows and columns of a field; default: 512")
    parser.add_argument("--repeats", type=int, default=3, help="turns that each side takes; default: 3")
    parser.add_argument("--folder", type=Path, help="where files are kept; default: a temporary one")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary) / "archive"
        folder.mkdir(parents=True, exist_ok=True)
        compare(folder, Path(temporary) / "labels.h5", given.files, given.size, given.repeats)


if __name__ == "__main__":
    main()
