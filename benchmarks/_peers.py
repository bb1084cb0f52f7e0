"""What other packages offer as a loss of topology, each as `loss(prediction, target)` of fields (N, H, W).

None of them is needed: `peers` leaves out what is not installed. What they measure differs, and stands beside
their names; so does what they see: gudhi all thresholds, the others the field itself, or one soft mask of it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]
Build = Callable[[Sequence[float], Sequence[float], float], Loss]
"""(thresholds, their spreads, temperature) -> loss. Raises ImportError where a package is missing."""


def peers(
    thresholds: Sequence[float], spreads: Sequence[float], temperature: float
) -> Iterator[tuple[str, Loss | None]]:
    """Each package with what its loss compares; None for what is not installed."""
    for name, build in _BUILDS.items():
        try:
            yield name, build(thresholds, spreads, temperature)
        except ImportError:
            yield name, None


def gudhi_counts(field: Tensor, thresholds: Tensor, widths: Tensor) -> Tensor:
    """Components and holes (2, Q) of a field (H, W), a soft step for each birth and death.

    Pixels are vertices of gudhi's complex, so that sets are 4-connected, as in `Minkowski`.
    """
    from gudhi import CubicalComplex

    complex_ = CubicalComplex(vertices=-field.detach().numpy().astype(np.float64))
    complex_.compute_persistence()
    pairs, unpaired = complex_.vertices_of_persistence_pairs()
    pixels = field.T.ravel()  # gudhi counts down the columns
    counts = []
    for dimension in range(2):
        found = pairs[dimension] if dimension < len(pairs) else np.empty((0, 2), int)
        lasting = unpaired[dimension] if dimension < len(unpaired) else np.empty(0, int)
        births = torch.from_numpy(np.concatenate([found[:, 0], lasting]).astype(np.int64))
        deaths = torch.from_numpy(found[:, 1].astype(np.int64))
        steps = [torch.sigmoid((pixels[ids, None] - thresholds) / widths).sum(0) for ids in (births, deaths)]
        counts.append(steps[0] - steps[1])
    return torch.stack(counts)


def _gudhi(thresholds: Sequence[float], spreads: Sequence[float], temperature: float) -> Loss:
    import gudhi  # noqa: F401

    u, widths = torch.tensor(thresholds), temperature * torch.tensor(spreads)

    def loss(prediction: Tensor, target: Tensor) -> Tensor:
        curves = [torch.stack([gudhi_counts(x, u, widths) for x in batch]) for batch in (prediction, target)]
        return (curves[0].log1p() - curves[1].log1p()).abs().mean()

    return loss


def _topolosses(name: str) -> Build:
    def build(thresholds: Sequence[float], spreads: Sequence[float], temperature: float) -> Loss:
        from topolosses import losses

        middle = len(thresholds) // 2
        measured = getattr(losses, name)(use_base_loss=False, alpha=1.0)

        def loss(prediction: Tensor, target: Tensor) -> Tensor:
            soft = torch.sigmoid((prediction - thresholds[middle]) / (temperature * spreads[middle]))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that there is one channel
                return measured(soft[:, None], (target >= thresholds[middle]).float()[:, None])

        return loss

    return build


def _torch_topological(thresholds: Sequence[float], spreads: Sequence[float], temperature: float) -> Loss:
    from torch_topological.nn import CubicalComplex, SummaryStatisticLoss

    diagrams, total = CubicalComplex(superlevel=True, dim=2), SummaryStatisticLoss("total_persistence")

    def loss(prediction: Tensor, target: Tensor) -> Tensor:
        pairs = zip(diagrams(prediction), diagrams(target), strict=True)
        return torch.stack([total(*pair) for pair in pairs]).mean()

    return loss


_BUILDS: dict[str, Build] = {
    "gudhi: components, holes": _gudhi,
    "topolosses, BettiMatching: one mask": _topolosses("BettiMatchingLoss"),
    "topolosses, Hutopo: one mask": _topolosses("HutopoLoss"),
    "torch-topological: total persistence": _torch_topological,
}
