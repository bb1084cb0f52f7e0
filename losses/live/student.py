"""One step of learning of a live surrogate, alike in all processes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn

from ...emulators.differentiable import Differentiable, device_of
from ...emulators.distances import CurveDistance
from ...errors import ArgumentError
from .options import Live

_RISE = 20
"""Steps over which the learning rate rises, once the moments of the optimizer are new."""
_CLIP = 1.0
"""Largest norm of the gradient of the weights."""


class Student:
    """Lets the network of a frozen surrogate learn, and freezes it again after each step.

    Of several processes each gives its own fields; gradients are summed over all of them, and the weights
    stay equal to the bit.

    Args:
        network: the frozen network. It stays where its owner puts it.
        options: learning rate and precision.

    Raises:
        ArgumentError: there is nothing to learn.
    """

    def __init__(self, network: Differentiable, options: Live) -> None:
        self.network, self.options = network, options
        if not self.weights:
            raise ArgumentError(
                f"{type(network).__name__} has no weights to learn with; take it as it is, without live, or "
                "begin with a network: emuloss.live(metric, fields)"
            )
        self.distance = CurveDistance.of(network.metric)
        self.optimizer = torch.optim.AdamW(self.weights, lr=options.learning_rate, weight_decay=0.0)
        self.steps = 0

    @property
    def weights(self) -> list[nn.Parameter]:
        """What learns; other tensors than before where a state was assigned."""
        return list(self.network.parameters())

    def learn(self, fields: Tensor, curves: Tensor) -> float:
        """Take one step.

        Args:
            fields: (N, H, W), or pairs (N, 2, H, W), of this process; N may be 0 where there are several.
            curves: exact, (N, C, Q).

        Returns:
            The distance, summed over outputs, of the mean field over all processes; NaN where there is none.
        """
        if self.steps == 0:
            self._begin_alike()
        device = device_of(self.network)
        self.distance.to(device)
        self._follow()
        total, gradients = self._gradients(fields.to(device), curves.to(device))
        told = torch.stack([total, total.new_tensor(float(len(fields)))])
        _summed([*gradients, told])
        total, count = told[0], told[1].item()
        if not count:
            return float("nan")
        loss = float(total) / count
        # Where something went wrong, no weight shall learn of it.
        if torch.isfinite(total):
            for weight, gradient in zip(self.weights, gradients, strict=True):
                weight.grad = gradient / count
            nn.utils.clip_grad_norm_(self.weights, _CLIP)
            for group in self.optimizer.param_groups:
                group["lr"] = self.options.learning_rate * min(1.0, (self.steps + 1) / _RISE)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            self.steps += 1
        return loss

    def _gradients(self, fields: Tensor, curves: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The sum over fields of their distances, and its gradients by the weights."""
        if not len(fields):
            return torch.zeros((), device=fields.device), [torch.zeros_like(w) for w in self.weights]
        self.network.train().requires_grad_(True)
        try:
            with torch.inference_mode(False), torch.enable_grad():
                with self.autocast(fields.device):
                    emulated = self.network(fields)
                with torch.autocast(fields.device.type, enabled=False):
                    total = self.distance(emulated.float(), curves).sum()
                found = torch.autograd.grad(total, self.weights, allow_unused=True)
        finally:
            self.network.eval().requires_grad_(False)
        pairs = zip(found, self.weights, strict=True)
        return total.detach(), [torch.zeros_like(w) if g is None else g.contiguous() for g, w in pairs]

    @torch.no_grad()
    def curves(self, fields: Tensor) -> Tensor:
        """What the network makes of fields, (N, C, Q) float32, as precisely as it learns."""
        device = device_of(self.network)
        with self.autocast(device):
            return self.network(fields.to(device)).float()

    def autocast(self, device: torch.device) -> torch.autocast:
        """The context in which the network learns on a device."""
        return torch.autocast(device.type, torch.bfloat16, enabled=self._halves(device))

    def _halves(self, device: torch.device) -> bool:
        """Whether it learns in bfloat16."""
        if self.options.precision != "auto":
            return self.options.precision == "bfloat16"
        if device.type == "cuda":
            return torch.cuda.is_bf16_supported(including_emulation=False)
        return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()

    def _begin_alike(self) -> None:
        """Start all processes from the weights of the first."""
        if _several():
            for tensor in (*self.weights, *self.network.buffers()):
                distributed.broadcast(tensor.data, 0)

    def _follow(self) -> None:
        """Bring the optimizer's moments to where the weights have been moved, in their precision.

        Weights that others took the place of, as `load_state_dict(..., assign=True)` has it, leave theirs.
        """
        (group,), weights = self.optimizer.param_groups, self.weights
        for before, now in zip(group["params"], weights, strict=True):
            if before is not now and before in self.optimizer.state:
                self.optimizer.state[now] = self.optimizer.state.pop(before)
        group["params"] = weights
        for weight, moments in self.optimizer.state.items():
            for name, value in moments.items():
                if name != "step" and isinstance(value, Tensor):
                    moments[name] = value.to(weight)

    def state_dict(self) -> dict[str, Any]:
        """What it goes on from, beside the weights."""
        return {"steps": self.steps, "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state that `state_dict` gave."""
        self._follow()
        self.optimizer.load_state_dict(state["optimizer"])
        self.steps = int(state["steps"])


def rank() -> int:
    """Index of this process among those that learn together."""
    return distributed.get_rank() if _several() else 0


def _several() -> bool:
    """Whether several processes learn together."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def _summed(tensors: list[Tensor]) -> None:
    """Replace tensors by their sums over all processes, equal to the bit in all of them."""
    if not _several():
        return
    sums = torch.cat([tensor.float().flatten() for tensor in tensors])
    distributed.all_reduce(sums)
    for tensor, total in zip(tensors, sums.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(total.view(tensor.shape))
