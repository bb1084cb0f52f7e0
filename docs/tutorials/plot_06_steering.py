"""
Steering a generator
====================

A generator that is trained already draws fields that look right, but not the ones that you ask for: so much
area above 1 mm/h, in so many pieces. Guidance tells it while it samples, and nothing is trained anew.
"""

# %%
# A small generator
# -----------------
# Any diffusion or flow model will do. So that this page needs none from elsewhere, it trains a tiny one by
# flow matching, for a quarter of a minute, on synthetic rain: a network that tells the velocity from noise at
# t = 0 to rain at t = 1. It sees ``2 log(1 + rain) - 0.4``, whose mean is near 0.

import emuloss
import matplotlib.pyplot as plt
import numpy as np
import torch
from emuloss.datasets import Rain
from torch import nn
from torch.nn import functional as F

source = Rain(1536, size=32, seed=0, regimes=("stratiform",))
rain = torch.from_numpy(np.concatenate([source.read(k, "train") for k in range(len(source))]))
rain = rain[(rain >= 0.5).float().mean((1, 2)) >= 0.05]


def to_rain(x):
    """Rain (N, H, W) in mm/h of what the network draws, (N, 1, H, W)."""
    return F.relu(x[:, 0] / 2 + 0.2).expm1()


class Velocity(nn.Module):
    """Convolutions at half the resolution, and a last one at full."""

    def __init__(self, width=32):
        super().__init__()
        self.enter = nn.Conv2d(4 + 16, width, 3, padding=1)
        self.inner = nn.ModuleList(
            nn.Conv2d(width, width, 3, padding=d, dilation=d) for d in (1, 2, 4, 1, 2, 4)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(4, width) for _ in self.inner)
        self.leave = nn.Conv2d(width, 32, 3, padding=1)
        self.last = nn.Conv2d(9, 1, 3, padding=1)

    def forward(self, x, t):
        phases = t[:, None] * 2 ** torch.arange(8.0)
        h = F.pixel_unshuffle(x, 2)
        time = torch.cat([phases.sin(), phases.cos()], 1)[:, :, None, None].expand(-1, -1, *h.shape[-2:])
        h = self.enter(torch.cat([h, time], 1))
        for norm, layer in zip(self.norms, self.inner, strict=True):
            h = h + layer(F.silu(norm(h)))
        fine = F.pixel_shuffle(self.leave(F.silu(h)), 2)
        return self.last(torch.cat([F.silu(fine), x], 1))


STEPS = 400
data = 2 * rain.log1p()[:, None] - 0.4
torch.manual_seed(0)
model = Velocity().to(memory_format=torch.channels_last)
optimizer = torch.optim.Adam(model.parameters(), betas=(0.9, 0.99))
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=STEPS)
for _ in range(STEPS):
    clean = data[torch.randint(len(data), (16,))]
    clean = torch.rot90(clean, int(torch.randint(4, ())), (-2, -1))
    noise, t = torch.randn_like(clean), torch.randn(16).sigmoid()
    loss = (model(torch.lerp(noise, clean, t.view(-1, 1, 1, 1)), t) - (clean - noise)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    schedule.step()
model.requires_grad_(False)
print(f"trained on {len(rain)} fields; squared error of the velocity {loss.item():.2f}")

# %%
# Two lines in the sampler
# ------------------------
# At each step the model tells the velocity at ``x``, and with it the clean field that it expects: ``clean``.
# Guidance says how to move that, and the velocity leads there instead. ``x`` requires a gradient, so that
# the way is found through the model: what the model holds possible moves, and pixels alone do not.


def sample(x, guidance=None, steps=24):
    """Rain (N, H, W) of noise (N, 1, H, W)."""
    for k in range(steps):
        t = k / steps
        x = x.detach().requires_grad_(guidance is not None)
        velocity = model(x, torch.full((len(x),), t))
        if guidance is not None:
            clean = x + (1 - t) * velocity
            velocity = velocity + guidance(x, clean, t) / (1 - t)
        x = x + velocity / steps
    return to_rain(x.detach())


# %%
# Ask
# ---
# What is asked for are curves: area and number of pieces above three thresholds, (2, 3). Here the same area
# once in two pieces and once in many. Curves of a field that you have do as well: ``target=``.

metric = emuloss.metric("minkowski", thresholds=[0.5, 1.0, 2.0], outputs=("area", "components"))
surrogate = emuloss.relax(metric, fields=rain.numpy())
area = [250.0, 120.0, 40.0]
asked = {
    "in two pieces": torch.tensor([area, [2.0, 2.0, 2.0]]),
    "in many": torch.tensor([area, [16.0, 14.0, 10.0]]),
}
noise = torch.randn(16, 1, 32, 32, generator=torch.Generator().manual_seed(2))
drawn = {"without": sample(noise)}
for name, curves in asked.items():
    how = {"strength": 0.5, "steps": 3, "anneal": (0.5, 0.05)}
    guidance = emuloss.Guidance(surrogate, target_curves=curves, to_physical=to_rain, **how)
    drawn[name] = sample(noise, guidance)

# %%
# ``strength`` is a share of the way that the model itself still goes, ``steps`` are gradient steps at each
# step of sampling, ``anneal`` the temperatures of the relaxation, first and last. None of them depends on the
# unit of the metric or on the model.

judge = surrogate.as_loss(reduction="none")
found = {}


def distance(fields, curves):
    """Mean distance of the exact curves from those asked for."""
    exact = torch.from_numpy(metric(fields.numpy())).float()
    return float(judge.distance(exact, curves.expand_as(exact)).sum(1).mean())


for name, curves in asked.items():
    found[name] = distance(drawn["without"], curves), distance(drawn[name], curves)
    pieces = metric(drawn[name].numpy())[:, 1, 1].mean()  # at 1 mm/h
    print(f"{name:13}  distance {found[name][0]:.2f} -> {found[name][1]:.2f},  pieces {pieces:.1f}")
    assert found[name][1] < 0.3 * found[name][0]

figure, axes = plt.subplots(3, 5, figsize=(7.2, 4.5), layout="constrained")
for line, (name, fields) in zip(axes, drawn.items(), strict=True):
    line[0].set_ylabel(name)
    for axis, field in zip(line, fields, strict=False):
        axis.imshow(field.log1p(), vmin=0, vmax=2)
        axis.contour(field, [1.0], colors="C3", linewidths=1)
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)

# %%
# A column begins with the same noise: it decides where rain falls, the curves in how many pieces.
#
# Without a gradient
# ------------------
# For a function of yours that knows no gradient, draw several samples and keep the best. That costs as many
# samples, and chooses among what the model draws anyway: here those whose rain spans fewest rows.


def rows(fields):
    """Rows of pixels with 1 mm/h somewhere, of 32."""
    return (fields >= 1).any(-1).sum(-1).float()


particles = sample(noise).view(4, 4, 32, 32)
best = emuloss.Guidance(rows).best(particles)
before, after = rows(particles).mean(), rows(particles[torch.arange(4), best]).mean()
print(f"rows with rain: {before:.1f}, of the best of four {after:.1f}")
assert after < 0.8 * before

# %%
# What next
# ---------
# ``emuloss.losses.guided_output`` takes a scheduler of diffusers, ``for_scores`` gives what physicsnemo adds
# to a score; guidances are added by ``+``. A larger model, super-resolution by guidance alone, what it costs
# in diversity and time, and when it fails: :doc:`steering a generative model </generation>`.
