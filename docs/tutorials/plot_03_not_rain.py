"""
Fields that are not rain
========================

Temperatures in kelvin, grey values, masks: a soft step has to be as wide as the data are spread around its
threshold, whatever their unit. Give a sample of your fields, and the same loss fits all.
"""

# %%
# One texture in three units
# --------------------------
# Smoothed noise, as it is, as a temperature, and as a picture of 8 bits.

import emuloss
import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.ndimage import gaussian_filter

noise = gaussian_filter(np.random.default_rng(0).normal(size=(24, 64, 64)), (0, 2, 2))
z = (noise / noise.std()).astype(np.float32)
units = {"standardised": z, "kelvin": 285 + 8 * z, "grey values": np.clip(128 + 40 * z, 0, 255).round()}

# %%
# A loss for each
# ---------------
# Thresholds at quantiles of the data; ``fields=`` tells how the data are spread around them.

levels = [0.1, 0.25, 0.5, 0.75, 0.9]
removed = {}
for name, fields in units.items():
    fields = np.ascontiguousarray(fields, dtype=np.float32)
    metric = emuloss.metric(
        "minkowski", quantiles=levels, fields=fields, outputs=("area", "perimeter", "euler", "components")
    )
    loss = emuloss.relax(metric, fields=fields).as_loss()
    exact = emuloss.relax(metric, fields=fields, forward="exact").as_loss()
    target = torch.from_numpy(fields[:4])
    start = torch.nn.functional.avg_pool2d(target[:, None], 9, 1, 4, count_include_pad=False)[:, 0]
    x = start.clone().requires_grad_()
    step = 0.03 * float(target.std())  # steps of the optimiser are in your unit
    optimizer = torch.optim.Adam([x], lr=step, betas=(0.5, 0.5))
    for _ in range(150):
        optimizer.zero_grad()
        loss(x, target).backward()
        optimizer.step()
    with torch.no_grad():
        removed[name] = 1 - float(exact(x, target) / exact(start, target))
    print(f"{name:12}  thresholds {np.round(metric.thresholds, 2)}  removed {100 * removed[name]:.0f} %")

assert min(removed.values()) > 0.8
assert abs(removed["standardised"] - removed["kelvin"]) < 0.05

# %%
# The first two agree but for rounding: the unit does not matter.

figure, axes = plt.subplots(1, 3, figsize=(9, 3.2), layout="constrained")
for axis, shown, title in zip(
    axes, (start, x.detach(), target), ("blurred", "after 150 steps", "target"), strict=True
):
    axis.imshow(shown[0], cmap="gray", vmin=0, vmax=255)
    axis.set(xticks=[], yticks=[], title=title)
