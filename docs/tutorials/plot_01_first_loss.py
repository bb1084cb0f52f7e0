"""
A first loss
============

A blurred field has too little that is intense, in too few pieces. Squared error does not mind; the
Minkowski loss does. Here it brings a blurred field of rain back, and then stands beside squared error in
the training of a small network.
"""

# %%
# Fields and a loss
# -----------------
# Synthetic rain, in mm/h. The surrogate that we recommend for rain ships with the package: its values are
# exact, and its gradient is that of soft excursion sets.

import emuloss
import matplotlib.pyplot as plt
import numpy as np
import torch
from emuloss.datasets import Rain
from torch import nn
from torch.nn import functional as F

source = Rain(256, size=64, seed=0)
fields = np.concatenate([source.read(k, "train") for k in range(len(source))])
rain = torch.from_numpy(fields)
loss = emuloss.load("minkowski-opera").as_loss()
print(loss.surrogate.metric.outputs, len(loss.surrogate.metric.thresholds), "thresholds")

# %%
# Descend
# -------
# How far is a blurred field from its target, and can gradient steps bring it back?

target = rain[(rain >= 2).float().mean((1, 2)).argsort()[-4:]]
blurred = F.avg_pool2d(target[:, None], 9, 1, 4, count_include_pad=False)[:, 0]
x = blurred.clone().requires_grad_()
optimizer = torch.optim.Adam([x], lr=0.05, betas=(0.5, 0.5))
distances = []
for _ in range(150):
    optimizer.zero_grad()
    value = loss(x, target)
    value.backward()
    optimizer.step()
    distances.append(value.item())
print(f"distance of the blurred fields {distances[0]:.2f}, after 150 steps {distances[-1]:.2f}")
assert distances[-1] < 0.15 * distances[0]

figure, axes = plt.subplots(1, 3, figsize=(9, 3.2), layout="constrained")
for axis, shown, title in zip(
    axes, (blurred, x.detach(), target), ("blurred", "after 150 steps", "target"), strict=True
):
    axis.imshow(torch.log1p(shown[-1]), vmin=0, vmax=3)
    axis.set(xticks=[], yticks=[], title=title)

# %%
# The gradient knows amounts and pieces, not places: it sharpens what is there.
#
# Train a network
# ---------------
# A network is to restore 64 x 64 pixels from means over 4 x 4: once on squared error of log(1 + rain) alone,
# and once with the loss beside it. ``Combined`` gives the loss a share of the gradient, which rises from 0
# over the first quarter of the training, and cools it from wide steps to narrow ones.


class Sharpen(nn.Module):
    """Bilinear interpolation, and a correction of it that starts at 0."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 24, 5, padding=2), nn.GELU(), nn.Conv2d(24, 24, 3, padding=1), nn.GELU(),
            nn.Conv2d(24, 16, 3, padding=1), nn.PixelShuffle(4),
        )  # fmt: skip
        nn.init.zeros_(self.body[4].weight)
        nn.init.zeros_(self.body[4].bias)

    def forward(self, coarse):
        """Fields (N, 1, 64, 64) of coarse ones (N, 1, 16, 16)."""
        smooth = F.interpolate(coarse, scale_factor=4, mode="bilinear")
        return torch.expm1(F.relu(torch.log1p(smooth) + self.body(torch.log1p(coarse))))


def squared_error(prediction, target):
    """Of log(1 + rain), since rain spans decades."""
    return F.mse_loss(torch.log1p(prediction), torch.log1p(target))


train, held_out = rain[:-32, None], rain[-32:, None]
exact = loss.surrogate.as_loss(forward="exact")  # the true distance, to judge by


def learn(losses, steps=300, **weights):
    """Train a network on a sum of losses; what it comes to on fields held out."""
    torch.manual_seed(0)
    model = Sharpen()
    combined = emuloss.Combined(losses, **weights)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for step in range(steps):
        combined.step(step / steps)
        batch = train[torch.randint(len(train), (16,))]
        optimizer.zero_grad()
        combined(model(F.avg_pool2d(batch, 4)), batch).backward()
        optimizer.step()
    with torch.no_grad():
        prediction = model(F.avg_pool2d(held_out, 4))
        return squared_error(prediction, held_out).item(), exact(prediction, held_out).item()


alone = learn({"pixels": squared_error})
beside = learn({"pixels": squared_error, "geometry": loss}, geometry=emuloss.Share(0.7))
print(f"squared error alone      squared error {alone[0]:.4f}   exact distance {alone[1]:.3f}")
print(f"with the loss beside it  squared error {beside[0]:.4f}   exact distance {beside[1]:.3f}")

assert beside[1] < 0.75 * alone[1]
assert beside[0] < 1.1 * alone[0]

# %%
# Over four seeds the distance was 1.9 to 2.0 alone, 1.5 to 1.6 with a share of 0.5, and 1.1 to 1.3 with 0.7,
# for 0 to 7 % more squared error. More is not better: with 0.9 it was 1.1 to 3.8. Nor is a fixed weight from
# the first step on: 0.002 was then 62 to 97 % of the gradient of the first 60 steps, and of two
# seeds one ended at 5.6.
