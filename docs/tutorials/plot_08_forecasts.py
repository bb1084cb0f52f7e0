"""
Evaluating other people's forecasts
===================================

You need no network of yours to judge others by geometry: the exact metrics take arrays, and score what any
model drew. Three invented forecasts of the same rain: displaced, blurred, and with cells that are too many
and small.
"""

# %%
# Forecasts
# ---------

import emuloss
import matplotlib.pyplot as plt
import numpy as np
from emuloss.datasets import Rain
from emuloss.evaluation import ensemble_scores
from scipy.ndimage import gaussian_filter, shift

source = Rain(64, size=128, seed=2, regimes=("convective", "stratiform"))
observed = np.concatenate([source.read(k, "train") for k in range(len(source))])[:32]
random = np.random.default_rng(0)
forecasts = {
    "displaced": np.stack([shift(field, (8, -6), order=0, mode="wrap") for field in observed]),
    "blurred": gaussian_filter(observed, (0, 4, 4)),
    "speckled": np.clip(observed * random.lognormal(-0.32, 0.8, observed.shape), 0, None),
}
forecasts = {name: fields.astype(np.float32) for name, fields in forecasts.items()}

# %%
# Scores of pairs
# ---------------
# What verification usually asks, and what each answer misses.

thresholds = [0.5, 2.0, 8.0]
csi = emuloss.metric("csi", thresholds=thresholds)
fss = emuloss.metric("fss", thresholds=thresholds, windows=[17])
minkowski = emuloss.metric("minkowski", thresholds=thresholds, outputs=("area", "perimeter", "components"))
curves = minkowski(observed)


def distance(fields):
    """Mean difference of the curves on the logarithmic scale."""
    return float(np.abs(np.log1p(minkowski(fields)) - np.log1p(curves)).mean())


table = {}
print(f"{'forecast':10} {'CSI':>6} {'FSS 17':>7} {'geometry':>9}")
for name, fields in forecasts.items():
    table[name] = csi(fields, observed).mean(), fss(fields, observed).mean(), distance(fields)
    print(f"{name:10} {table[name][0]:6.2f} {table[name][1]:7.2f} {table[name][2]:9.2f}")

# %%
# The displaced forecast has the worst CSI and the right geometry (but for what the edge cut). The speckled
# one has a good FSS, and thousands of pieces.

assert table["displaced"][0] < table["speckled"][0]
assert table["displaced"][2] < 0.3 * min(table["blurred"][2], table["speckled"][2])

figure, axes = plt.subplots(1, 4, figsize=(11, 3), layout="constrained")
for axis, (name, fields) in zip(axes, {"observed": observed, **forecasts}.items(), strict=True):
    axis.imshow(np.log1p(fields[5]), vmin=0, vmax=3)
    axis.set(xticks=[], yticks=[], title=name)

# %%
# Ensembles
# ---------
# Members (N, M, H, W) of any model, scored by the exact curves: energy score, spread against skill, ranks.
# On the command line: ``emuloss evaluate minkowski-opera --members FILE``.

members = np.stack([forecasts["displaced"], forecasts["blurred"], forecasts["speckled"]], 1)
found = ensemble_scores(minkowski, members, observed, progress=False)
print(found)
assert found.members == 3
assert (found.energy.mean(0) <= found.distance.mean(0)).all()
