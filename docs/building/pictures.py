"""The three pictures of the home page: what is measured, which way is better, and where it leads."""

import emuloss
import matplotlib
import numpy as np
import torch
from emuloss.datasets import Rain

from . import GENERATED
from .running import STYLE

_THRESHOLD = 2.0


def write(app, config) -> None:
    """Draw them."""
    matplotlib.use("Agg")
    matplotlib.rcParams.update(STYLE)
    folder = GENERATED / "home"
    folder.mkdir(parents=True, exist_ok=True)
    fields = Rain(32, size=80, seed=5, regimes=("convective", "stratiform")).read(0, "train")
    field = min(fields, key=lambda each: abs((each >= _THRESHOLD).mean() - 0.15))
    target = torch.from_numpy(np.nan_to_num(field))[None]
    loss = emuloss.load("minkowski-opera").as_loss()
    blurred = torch.nn.functional.avg_pool2d(target[:, None], 7, 1, 3, count_include_pad=False)[:, 0]
    _measured(field, folder / "measured.png")
    x = blurred.clone().requires_grad_()
    loss(x, target).backward()
    _pair(
        [(blurred[0], "a blurred prediction"), (-x.grad[0], "the way down the loss")], folder / "gradient.png"
    )
    _pair(
        [(descended(loss, blurred, target)[0], "after 150 steps"), (target[0], "the target")],
        folder / "descent.png",
    )


def descended(loss, start: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Fields after 150 steps on the loss alone."""
    x = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([x], lr=0.1, betas=(0.5, 0.5))
    for step in range(150):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 150)
        optimizer.zero_grad()
        loss(x, target).backward()
        optimizer.step()
        with torch.no_grad():
            x.clamp_(min=0)
    return x.detach()


def _measured(field: np.ndarray, path) -> None:
    """A field with a contour, and curves of what exceeds each threshold."""
    import matplotlib.pyplot as plt

    thresholds = np.geomspace(0.2, 20, 24)
    metric = emuloss.metric(
        "minkowski", thresholds=thresholds.tolist(), outputs=("area", "perimeter", "components", "holes")
    )
    curves = metric(field[None])[0]
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(4.9, 2.5), width_ratios=(1, 1.05), layout="constrained"
    )
    left.imshow(np.log1p(field), cmap="Blues", vmin=0, vmax=3)
    left.contour(field, [_THRESHOLD], colors="#d1495b", linewidths=0.9)
    left.set(xticks=[], yticks=[], title="rain above 2 mm/h")
    for name, curve in zip(metric.outputs, curves, strict=True):
        right.loglog(thresholds, np.where(curve > 0, curve, np.nan), label=name, lw=2)
    right.axvline(_THRESHOLD, color="#d1495b", lw=1)
    right.set(xlabel="threshold, mm/h", title="what it is measured by")
    figure.legend(frameon=False, fontsize=8, ncol=4, loc="outside lower center")
    figure.savefig(path)
    plt.close(figure)


def _pair(shown: list, path) -> None:
    """Two fields side by side; what has two signs in two colours."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(4.9, 2.5), layout="constrained")
    for axis, (values, title) in zip(axes, shown, strict=True):
        values = values.numpy()
        if (values < 0).any():
            most = np.quantile(np.abs(values), 0.99)
            axis.imshow(values, cmap="RdBu", vmin=-most, vmax=most)
        else:
            axis.imshow(np.log1p(values), cmap="Blues", vmin=0, vmax=3)
        axis.set(xticks=[], yticks=[], title=title)
    figure.savefig(path)
    plt.close(figure)
