"""
An ensemble
===========

A single prediction of something uncertain is blurred, or it is a draw. Here is a toy of it: what is
observed is smooth noise of an unknown length of correlation's geometry, and a generator with two weights
draws members. A score of curves tells it how rough to be, which the CRPS of pixels does not.
"""

# %%
# The truth, and a generator
# --------------------------
# Fields are noise smoothed over 2 pixels. The generator smooths noise, too, but does not know how far.

import emuloss
import matplotlib.pyplot as plt
import torch
from torch.nn import functional as F

torch.manual_seed(0)


def drawn(count, width):
    """Fields (count, 48, 48) of variance 1: white noise smoothed over some pixels."""
    offsets = torch.arange(-9, 10.0)
    kernel = torch.exp(-0.5 * (offsets / width) ** 2)
    kernel = kernel / kernel.square().sum().sqrt()
    noise = torch.randn(count, 1, 66, 66)
    return F.conv2d(F.conv2d(noise, kernel[None, None, None]), kernel[None, None, :, None])[:, 0]


observed = drawn(64, torch.tensor(2.0))

# %%
# Scores
# ------
# Both are proper. The CRPS sees each pixel by itself: members that are rough or smooth are the same to it.

metric = emuloss.metric("minkowski", thresholds=[-1.0, 0.0, 1.0], outputs=("perimeter", "euler"))
score = emuloss.relax(metric, fields=observed.numpy()).as_score(estimator="fair")


def crps(members, target):
    """Fair CRPS of two members, pixel by pixel."""
    near = (members - target[:, None]).abs().mean()
    return near - 0.5 * (members[:, 0] - members[:, 1]).abs().mean()


widths = [1.0, 1.5, 2.0, 2.5, 3.0, 4.0]
found = {"CRPS": [], "score of curves": []}
for width in widths:
    members = drawn(128, torch.tensor(width)).view(64, 2, 48, 48)
    found["CRPS"].append(crps(members, observed).item())
    found["score of curves"].append(score(members, observed).item())
for name, values in found.items():
    print(f"{name:16}", " ".join(f"{value:.3f}" for value in values))
best = widths[found["score of curves"].index(min(found["score of curves"]))]
assert best == 2.0
assert max(found["CRPS"]) < 1.1 * min(found["CRPS"])

# %%
# Train on it
# -----------
# The width is learnt by gradient descent on the score, through the members.

log_width = torch.tensor(4.0).log().requires_grad_()
optimizer = torch.optim.Adam([log_width], lr=0.08)
for _ in range(80):
    members = drawn(64, log_width.exp()).view(32, 2, 48, 48)
    optimizer.zero_grad()
    score(members, observed[torch.randperm(64)[:32]]).backward()
    optimizer.step()
width = log_width.exp().item()
print(f"width of the truth 2.0, begun at 4.0, learnt {width:.2f}")
assert 1.7 < width < 2.3

figure, axes = plt.subplots(1, 3, figsize=(9, 3.2), layout="constrained")
with torch.no_grad():
    shown = (drawn(1, torch.tensor(4.0)), drawn(1, log_width.exp()), observed)
for axis, field, title in zip(axes, shown, ("begun", "learnt", "observed"), strict=True):
    axis.imshow(field[0], vmin=-3, vmax=3, cmap="RdBu")
    axis.set(xticks=[], yticks=[], title=title)

# %%
# Radar at 2 km drawn from means over 25 km, trained on both: :doc:`ensembles </ensembles>`.
