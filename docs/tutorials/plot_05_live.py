"""
Live surrogates
===============

A frozen network is true where it was trained. Ask it for the way, and it leads to where it was not. A live
one is told the exact values of what it just judged, and how they change a small step ahead: the same network,
the same descent, with and without.
"""

# %%
# Noisy rain, and its local maxima
# --------------------------------
# Noise makes peaks where there are none. The network learns on rain as it is (few fields, so that this page
# is soon built), and knows nothing of noise.

import copy

import emuloss
import matplotlib.pyplot as plt
import numpy as np
import torch
from emuloss.datasets import Rain
from emuloss.losses import Live


def peaks(field):
    """Local maxima above 1 mm/h."""
    inner = field[1:-1, 1:-1]
    around = np.max([field[:-2, 1:-1], field[2:, 1:-1], field[1:-1, :-2], field[1:-1, 2:]], axis=0)
    return float(((inner > around) & (inner > 1)).sum())


source = Rain(256, size=32, seed=1, regimes=("convective", "stratiform"))
fields = np.concatenate([source.read(k, "train") for k in range(len(source))])
metric = emuloss.metric(peaks, invariant=True)  # turning and mirroring change nothing
live = emuloss.live(
    metric, fields, budget=1600, seed=0, live=Live(background=False), slopes="measured", progress=False
)
frozen = copy.deepcopy(live.surrogate).as_loss()
measured = copy.deepcopy(live.surrogate).as_loss(forward="exact", slopes="measured")

target = torch.from_numpy(fields[np.argsort([peaks(each) for each in fields])[-40:-32]])
noisy = target * torch.exp(0.5 * torch.randn(target.shape, generator=torch.Generator().manual_seed(0)))
wanted = metric(target.numpy())

# %%
# The same descent three times
# ----------------------------
# By the frozen network's own slopes; by slopes that the exact metric measures along them; and live.


def descend(loss, learn):
    """Mean number of peaks that are wrong, along 120 steps; and the fields."""
    x = noisy.clone().requires_grad_()
    optimizer = torch.optim.Adam([x], lr=0.05, betas=(0.5, 0.5))
    history = []
    for _ in range(120):
        history.append(float(np.abs(metric(x.detach().numpy()) - wanted).mean()))
        optimizer.zero_grad()
        loss(x, target).backward()
        optimizer.step()
        if learn:
            loss.learn()
    return history, x.detach()


found = {
    "frozen": descend(frozen, False),
    "frozen, measured slopes": descend(measured, False),
    "live": descend(live, True),
}
for name, (history, _) in found.items():
    print(f"{name:24} peaks that are wrong: {history[0]:.1f} -> {history[-1]:.1f}")
assert found["live"][0][-1] < 0.2 * found["live"][0][0]
assert found["frozen, measured slopes"][0][-1] < 0.7 * found["frozen"][0][-1]

figure, axis = plt.subplots(figsize=(7, 3.2), layout="constrained")
for name, (history, _) in found.items():
    axis.plot(history, label=name, lw=2)
axis.set(xlabel="step", ylabel="peaks that are wrong", ylim=(0, None))
axis.legend(frameon=False)

# %%
# Measured slopes cost eight more calls of the metric a field and step: next to nothing for metrics that take
# microseconds, and too much for those that take seconds. They are for changing fields, as here. A live loss
# that trains a model has ``slopes="checked"`` of itself: the network's, without what leads to worse values.
#
# ``loss.gauge`` tells how far the network is from the exact values. All it learnt is in its ``state_dict``.
# More, and figures: :doc:`losses that go on learning </live>`.
