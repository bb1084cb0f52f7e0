"""What losses and scores take beside batches of single fields: one field, channels, times; by no guess."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from ..emulators.fields import check_tensor
from ..errors import ArgumentError
from ..foundation.arguments import as_choice
from ..foundation.limits import shown
from .inputs import check_same_shape

EACH = "each"
Channels = str | Sequence[str | None] | None
"""What `SurrogateLoss` and `SurrogateScore` take for `channels`."""

_OF_PREDICTIONS = ("prediction", "has", "N", "as_loss")
_OF_MEMBERS = ("members", "have", "N, M", "as_score")
"""What messages say: the argument, a verb, its first dimensions, and what builds the loss or score."""


class Layout:
    """Which dimensions a loss is given, and which channels of them it sees, each as a field by itself.

    Args:
        channels: None, of single fields (H, W), (N, H, W) or (N, 1, H, W); a name for each channel of
            (N, C, H, W), None for those that are not seen; or "each", for any number of channels or times.
        members: whether predictions are ensembles, (N, M, ...); their channels are (N, M, C, H, W).

    Raises:
        ArgumentError: neither, no name, or one twice.
    """

    def __init__(self, channels: Channels, *, members: bool = False) -> None:
        self.channels = channels if channels is None or channels == EACH else _named(channels)
        self.kept = [k for k, name in enumerate(self.channels or ()) if name is not None]
        self.members = members

    def flat(
        self, prediction: Tensor, target: Tensor | None, target_curves: Tensor | None, mask: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
        """The same as single fields, (N * K, ...) of K channels; arguments as of `SurrogateLoss`.

        Raises:
            ArgumentError: shapes that have no single meaning; the message says how to give them one.
        """
        check_tensor("prediction", prediction)
        self._check(prediction)
        one = prediction[:, 0] if self.members else prediction
        mask = _spread(mask, one)
        if self.channels is None and one.ndim != 2:
            return prediction, target, target_curves, mask
        for name, value in (("target", target), ("mask", mask)):
            if isinstance(value, Tensor):
                check_same_shape(name, value, one)
        if self.members:
            prediction = prediction.transpose(1, 2)
        seen = _one if self.channels is None else self._seen
        if isinstance(target_curves, Tensor) and target_curves.ndim == 4:
            target_curves = target_curves.flatten(0, 1)
        others = [None if value is None else seen(value) for value in (target, mask)]
        return seen(prediction), others[0], target_curves, others[1]

    def restored(self, losses: Tensor, prediction: Tensor) -> Tensor:
        """Losses (N * K, ...) of the K channels that are seen as (N, K, ...); others as they are."""
        if self.channels is None:
            return losses
        return losses.unflatten(0, (prediction.shape[0], len(self.names(prediction))))

    def names(self, prediction: Tensor) -> tuple[str, ...]:
        """Names of the channels that are seen, their numbers where they have none."""
        if self.channels is None or self.channels == EACH:
            return tuple(map(str, range(1 if self.channels is None else prediction.shape[-3])))
        return tuple(name for name in self.channels if name is not None)

    def _seen(self, value: Tensor) -> Tensor:
        """The channels that are seen, (N * K, H, W); what is no tensor is told later."""
        if not isinstance(value, Tensor):
            return value
        if self.channels != EACH and len(self.kept) < value.shape[1]:
            value = value[:, self.kept]
        return value.flatten(0, 1)

    def _check(self, prediction: Tensor) -> None:
        """Raise ArgumentError where the dimensions of a prediction have no single meaning."""
        name, verb, lead, build = _OF_MEMBERS if self.members else _OF_PREDICTIONS
        shape, full = tuple(prediction.shape), 5 if self.members else 4
        if not self.members:
            check_planes(prediction)
        if self.channels is None and len(shape) == full and shape[-3] != 1:
            raise ArgumentError(
                f"{name} {verb} {shape[-3]} channels or times, {shape}, and must have shape ({lead}, H, W) "
                f"or ({lead}, 1, H, W) unless channels= tells what they are: {build}(channels=('rain', None))"
                " names those that are fields, channels='each' takes all"
                + ("" if self.members else "; a pair is loss(prediction, target)")
            )
        if self.channels is None:
            return
        wanted = "C" if self.channels == EACH else str(len(self.channels))
        if len(shape) != full or wanted not in ("C", str(shape[-3])):
            added = f"; use {name}[{':, ' * (full - 3)}None]"
            remedy = added if len(shape) == full - 1 and wanted == "1" else ""
            raise ArgumentError(
                f"{name} must have shape ({lead}, {wanted}, H, W) with channels={shown(self.channels)}, got "
                f"{shape}{remedy}"
            )


class PerChannel(nn.Module):
    """A loss for each channel of (N, C, H, W), in the order of the channels.

        emuloss.PerChannel({"rain": rain.as_loss(), "wind": torch.nn.L1Loss(), "orography": None})

    Args:
        losses: by the channel's name; each is given (N, H, W) of its channel and returns one number, or is
            None where a channel does not count.
        reduction: "mean" or "sum" over channels that count.

    Raises:
        ArgumentError: no losses, or an unknown reduction.
    """

    def __init__(self, losses: Mapping[str, nn.Module | None], *, reduction: str = "mean") -> None:
        super().__init__()
        if not isinstance(losses, Mapping) or not any(loss is not None for loss in losses.values()):
            raise ArgumentError(
                f'losses must be a loss or None by channel, such as {{"rain": loss, "wind": None}}, '
                f"got {shown(losses)}"
            )
        for name, loss in losses.items():
            if loss is not None and not isinstance(loss, nn.Module):
                raise ArgumentError(
                    f"losses[{name!r}] must be a torch.nn.Module or None, got {type(loss).__name__}"
                )
        self.layout = Layout([None if losses[name] is None else name for name in losses])
        self.losses = nn.ModuleList(loss for loss in losses.values() if loss is not None)
        self.reduction = as_choice("reduction", reduction, ("mean", "sum"))

    def forward(self, prediction: Tensor, target: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """The mean or sum over channels of (N, C, H, W); of a mask each loss gets that of its channel.

        A mask has the same shape, or is one for all channels, (N, 1, H, W), or for all fields, (H, W).

        Raises:
            ArgumentError: another shape.
        """
        found = sum(self.by_channel(prediction, target, mask=mask).values())
        assert isinstance(found, Tensor)  # there is a loss
        return found / len(self.losses) if self.reduction == "mean" else found

    if TYPE_CHECKING:
        __call__ = forward  # which torch gives no type

    def by_channel(
        self, prediction: Tensor, target: Tensor, *, mask: Tensor | None = None
    ) -> dict[str, Tensor]:
        """What is averaged or added up, by the channel's name; arguments as in `forward`."""
        self.layout.flat(prediction, target, None, mask)  # checks shapes
        mask = _spread(mask, prediction)
        found = {}
        for k, name, loss in zip(self.layout.kept, self.layout.names(prediction), self.losses, strict=True):
            given: dict[str, Any] = {} if mask is None else {"mask": mask[:, k]}
            found[name] = loss(prediction[:, k], target[:, k], **given)
        return found


def check_planes(prediction: Tensor) -> None:
    """Raise ArgumentError for fields of three dimensions."""
    if prediction.ndim == 5:
        raise ArgumentError(
            f"prediction has 5 dimensions, {tuple(prediction.shape)}: three-dimensional fields are not "
            "measured; where each slice is a field by itself, pass prediction.flatten(0, 1), the target alike"
        )


def _spread(mask: Tensor | None, prediction: Tensor) -> Tensor | None:
    """A mask (H, W) for all fields of a prediction, one (N, 1, H, W) for all channels; others as they are."""
    if not isinstance(mask, Tensor) or mask.ndim not in (2, prediction.ndim):
        return mask
    of_all = mask.ndim == 2 and mask.shape == prediction.shape[-2:]
    of_channels = mask.ndim == 4 and mask.shape == (prediction.shape[0], 1, *prediction.shape[2:])
    return mask.expand(prediction.shape) if of_all or of_channels else mask


def _one(value: Tensor) -> Tensor:
    """One field as a batch; what is no tensor is told later."""
    return value[None] if isinstance(value, Tensor) else value


def _named(channels: Any) -> tuple[str | None, ...]:
    """Validate the names of channels."""
    given = channels if isinstance(channels, Sequence) and not isinstance(channels, str) else ()
    names = [name for name in given if name is not None]
    if not names or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise ArgumentError(
            "channels must be a distinct name for each channel that counts and None for the others, such as "
            f"('rain', None), or 'each', got {shown(channels)}"
        )
    return tuple(given)
