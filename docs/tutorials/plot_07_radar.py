"""
Radar archives
==============

From files of a weather service to exact curves. There is no archive at hand here, so this page first writes
a small one: an evening of composites in ODIM-HDF5, the format of OPERA and of most European services. With
yours, begin at the second step.
"""

# %%
# Files, as a service writes them
# -------------------------------
# Counts with a gain, a value for "no radar here", and one for "nothing detected".

import tempfile
from pathlib import Path

import emuloss
import h5py
import matplotlib.pyplot as plt
import numpy as np
from emuloss.datasets import Opera, Rain

folder = Path(tempfile.mkdtemp())
source = Rain(48, size=256, seed=0)
rain = np.concatenate([source.read(k, "train") for k in range(len(source))])[:12]
for k, field in enumerate(rain):
    counts = np.round(np.nan_to_num(field) / 0.01).astype("u2")
    counts[:, :20] = 65535  # beyond the reach of the radars
    with h5py.File(folder / f"composite_{k:02}.h5", "w") as file:
        file["dataset1/data1/data"] = counts
        file["dataset1/data1"].require_group("what").attrs.update(
            {"gain": 0.01, "offset": 0.0, "nodata": 65535.0, "undetect": 0.0, "quantity": np.bytes_("RATE")}
        )
        minutes = 15 * k
        time = f"{18 + minutes // 60:02}{minutes % 60:02}00"
        file.require_group("what").attrs.update({"date": np.bytes_("20200824"), "time": np.bytes_(time)})
        file.require_group("where").attrs.update({"xscale": 2000.0, "yscale": 2000.0})

# %%
# Look before you label
# ---------------------
# How many, of which times, in which unit, how much is missing, what does not fit. On the command line:
# ``emuloss fields opera:FOLDER --size 128 --picture fields.png``. Patches of which less than 90 % was
# measured are left out, so that nothing is missing here; ``min_coverage`` decides.

found = emuloss.look(fields=f"opera:{folder}", size=128, progress=False)
print(str(found).replace(str(folder), "FOLDER"))

# %%
# Exact curves
# ------------
# Patches of 128 x 128 pixels of 2 km. The metric takes them as they are; what was not measured is NaN.

patches = Opera(folder, size=128)
fields = np.concatenate([patches.read(k, "test") for k in range(len(patches))])
metric = emuloss.metric(
    "minkowski",
    thresholds=[0.105, 0.505, 1.005, 2.005, 5.005],  # between the data's steps of 0.01 mm/h
    pixel_size=patches.pixel_size,
    length_unit="km",
    outputs=("area", "perimeter", "components"),
)
curves = metric(fields)
print(f"{len(patches)} composites, {len(fields)} patches; curves {curves.shape} in {metric.units}")
print("mean area above each threshold, km2:", curves[:, 0].mean(0).round())
assert len(patches) == 12
assert curves.shape == (len(fields), 3, 5)
assert not any(metric.check(curves, fields.shape[1:]).values())

figure, axes = plt.subplots(1, 3, figsize=(9, 3.2), layout="constrained")
for axis, k in zip(axes, np.argsort(curves[:, 0, 2])[-3:], strict=True):
    axis.imshow(np.log1p(fields[k]), vmin=0, vmax=3)
    axis.set(xticks=[], yticks=[], title=f"{curves[k, 0, 2]:.0f} km2, {curves[k, 2, 2]:.0f} pieces")

# %%
# What next
# ---------
# ``emuloss label --fields opera:FOLDER --out labels.h5`` writes the curves of a whole archive, and goes on
# where it stopped; ``emuloss train --fields opera:FOLDER --out runs/radar`` makes a surrogate of it, held
# out by time. Other files, and what to type for them: :doc:`your data </data>`.
