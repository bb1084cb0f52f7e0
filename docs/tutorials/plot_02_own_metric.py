"""
Your own metric in ten minutes
==============================

A Python function of a field becomes a loss: a network learns what the function says, and goes on learning
beside your model. Here the function counts local maxima, of which a blurred field has too few.
"""

# %%
# The function
# ------------
# Any function from a field (H, W) to a number, or to several, will do.

import emuloss
import matplotlib.pyplot as plt
import numpy as np
import torch
from emuloss.datasets import Rain
from emuloss.losses import Live
from torch.nn import functional as F


def peaks(field):
    """Local maxima above 1 mm/h."""
    inner = field[1:-1, 1:-1]
    around = np.max([field[:-2, 1:-1], field[2:, 1:-1], field[1:-1, :-2], field[1:-1, 2:]], axis=0)
    return float(((inner > around) & (inner > 1)).sum())


source = Rain(256, size=32, seed=0, regimes=("convective", "stratiform"))
fields = np.concatenate([source.read(k, "train") for k in range(len(source))])
print("peaks of the first fields:", [peaks(each) for each in fields[:6]])

# %%
# First lessons
# -------------
# ``emuloss.live`` calls the function on your fields, finds out what it returns and on which scale, and
# trains a network on it: here on few fields, so that this page is soon built. Your labels are made at once
# (``background=False``), which is quick enough for this function and gives the same figures each time.

loss = emuloss.live(peaks, fields, budget=1600, seed=0, live=Live(background=False), progress=False)
print(loss.surrogate.metric.outputs)

# %%
# Descend, and go on learning
# ---------------------------
# Each step asks the loss, moves the field, and lets the network learn from what it was just asked about.

target = torch.from_numpy(fields[np.argsort([peaks(each) for each in fields])[-8:]])
blurred = F.avg_pool2d(target[:, None], 5, 1, 2, count_include_pad=False)[:, 0]


def missing(x):
    """Mean difference in the number of peaks."""
    return float(np.mean([abs(peaks(a) - peaks(b)) for a, b in zip(x.numpy(), target.numpy(), strict=True)]))


x = blurred.clone().requires_grad_()
optimizer = torch.optim.Adam([x], lr=0.05, betas=(0.5, 0.5))
for _ in range(120):
    optimizer.zero_grad()
    loss(x, target).backward()
    optimizer.step()
    loss.learn()
before, after = missing(blurred), missing(x.detach())
print(f"peaks missing: {before:.1f} of the blurred fields, {after:.1f} after 120 steps")
assert after < 0.7 * before

figure, axes = plt.subplots(1, 3, figsize=(9, 3.2), layout="constrained")
for axis, shown, title in zip(
    axes, (blurred, x.detach(), target), ("blurred", "after 120 steps", "target"), strict=True
):
    axis.imshow(torch.log1p(shown[-1].clamp(min=0)), vmin=0, vmax=3)
    axis.set(xticks=[], yticks=[], title=f"{title}: {peaks(shown[-1].numpy()):.0f} peaks")

# %%
# What next
# ---------
# ``emuloss train --metric peaks.py:peaks --fields rain`` trains such a network for longer, evaluates and
# freezes it. Say what your values obey (``bounds={"peaks": [0, None]}``), and the network cannot break it.
