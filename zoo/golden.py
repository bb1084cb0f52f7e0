"""Golden inputs and outputs beside a checkpoint: what a surrogate gave when it was saved, to be replayed."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from ..emulators import signed_log1p
from ..emulators.differentiable import DEFAULT_INTENSITIES, Differentiable, Relaxation
from ..emulators.gradients import pulled_back
from ..errors import CheckpointError, CorruptedError, printable
from ..metrics import Metric
from .contract import CONFIG, GOLDEN, read_config, read_sealed

TOLERANCE = 1e-4
"""Relative error of curves and gradients beyond which a replay fails."""
_EARLIER = 0.03
"""That of the gradient of a relaxation saved in format 1, whose soft steps were linear between nodes."""
_SIDE, _LARGEST_SIDE = 64, 256
"""Pixels along a side of golden fields, where no shape was trained on, and at most."""
_SHARE_ABOVE = 0.5
"""Share of a golden field's pixels above the lowest threshold."""
_FIELDS = 3
_LARGEST = 1e30
"""Size of the largest value."""


def golden_fields(
    metric: Metric, shape: tuple[int, int], intensities: Sequence[float] = DEFAULT_INTENSITIES
) -> Tensor:
    """Three fields (3, H, W), float32: one without ties, one with a flat ground and NaN, a constant one.

    Intensities stand for the thresholds of a metric without. Of a pairwise metric three pairs
    (3, 2, H, W): such fields as predictions, with others as observations. Values: see `golden_values`.
    """
    values = golden_values(metric.thresholds or intensities, shape, pairs=metric.arity == 2)
    return torch.from_numpy(values.clip(-_LARGEST, _LARGEST).astype(np.float32))


def golden_values(thresholds: Sequence[float], shape: tuple[int, int], *, pairs: bool) -> np.ndarray:
    """The golden fields in double precision; they follow the thresholds from one unit to any other.

    Half of the pixels lie below the lowest threshold; the ranks of the others are spread evenly over
    the intervals between thresholds, of which each thus sees pixels whatever its unit. In the first
    field no two pixels are equal: at ties the gradients of many surrogates are matters of rounding.
    """
    rng = np.random.default_rng(0)
    lowest, highest = thresholds[0], thresholds[-1]
    # A lone threshold tells nothing of the size of its unit.
    beyond = (highest - lowest) / (len(thresholds) - 1) if len(thresholds) > 1 else abs(lowest) or 1.0
    ground = lowest - beyond
    above = np.linspace(1 - _SHARE_ABOVE, 1, len(thresholds) + 1)
    knots = [ground, *thresholds, highest + beyond]
    first, second = np.interp(_ranks(_smooth_noise(rng, (2, *shape))), [0, *above], knots)
    second[second < lowest] = ground
    # A corner that no radar sees, and a few pixels within.
    second[: max(1, shape[0] // 4), : max(1, shape[1] // 3)] = np.nan
    second[shape[0] // 2, ::5] = np.nan
    fields = np.stack([first, second, np.full(shape, ground)])
    if pairs:
        observations = np.interp(_ranks(_smooth_noise(rng, (_FIELDS, *shape))), [0, *above], knots)
        # Half of the first prediction is in its observation, so that they have to do with one another.
        observations[0] = (observations[0] + first) / 2
        fields = np.stack([fields, observations], axis=1)
    return fields


def _smooth_noise(rng: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
    """Gaussian fields (N, H, W) whose power falls with frequency as that of rain does."""
    rows, columns = np.fft.fftfreq(shape[1]), np.fft.rfftfreq(shape[2])
    frequency = np.hypot(rows[:, None], columns)
    frequency[0, 0] = np.inf
    return np.fft.irfft2(np.fft.rfft2(rng.standard_normal(shape)) / frequency**1.5, s=shape[1:])


def _ranks(fields: np.ndarray) -> np.ndarray:
    """Ranks of the pixels of each field (N, H, W), in (0, 1)."""
    flat = fields.reshape(len(fields), -1)
    return ((flat.argsort(1).argsort(1) + 0.5) / flat.shape[1]).reshape(fields.shape)


def record(module: Differentiable, field_shape: Sequence[int] | None) -> bytes:
    """The content of golden.safetensors for a stand-in on the CPU, in single precision.

    It holds `fields` (3, H, W), or pairs (3, 2, H, W), their `curves` (3, C, Q), a random `direction`
    (1, C, Q) and the `gradient` (1, H, W), or (1, 2, H, W), of sum(direction * slog(curves)) in the first
    field, all in float32.

    Args:
        module: the stand-in.
        field_shape: (H, W) of the fields that it was made for; None if any. Golden fields have this shape,
            within reason.

    Raises:
        CheckpointError: curves or gradients that are not finite: the surrogate is broken.
    """
    rows, columns = (max(min(side, _LARGEST_SIDE), module.stride) for side in field_shape or (_SIDE, _SIDE))
    fields = golden_fields(module.metric, (module.metric.rows or rows, columns), module.intensities)
    shape = (1, *_shape_of_curves(module))
    direction = torch.from_numpy(np.random.default_rng(1).standard_normal(shape).astype(np.float32))
    tensors = {"fields": fields, "direction": direction, **_outcome(module, fields, direction)}
    for name in ("curves", "gradient"):
        if not tensors[name].isfinite().all():
            raise CheckpointError(f"the surrogate's {name} on ordinary fields are not finite; train it again")
    return save_tensors(tensors)


def verify(module: Differentiable, folder: str | Path) -> None:
    """Replay the golden fields of a checkpoint.

    The error of an output is ||a - b|| / ||b||, a the log curves (sign(x) log(1 + |x|)) of all fields and
    thresholds that the module gives, b those that were saved; that of the gradient likewise, over
    all pixels. Neither may exceed 1e-4, but 0.03 the gradient of a relaxation that emuloss 0.1 saved. The
    replay runs on the CPU, whatever device the module is on; gradients run in double precision, since in
    single precision kinks make them depend on the CPU.

    Args:
        module: a surrogate, as `emuloss.load(folder)` gives it, or the module in it.
        folder: the checkpoint.

    Raises:
        CorruptedError: the golden file is damaged, or the replay differs; the message says where.
        CheckpointError: a file is missing, or of another version.
    """
    folder = Path(folder)
    manifest = read_config(folder / CONFIG)
    relaxed = any(isinstance(part, Relaxation) for part in module.modules())
    slopes = _EARLIER if relaxed and manifest.format_version == 1 else TOLERANCE
    _replay(module, read_sealed(folder, GOLDEN, manifest), printable(str(folder)), slopes)


def _replay(module: Differentiable, content: bytes, name: str, slopes: float) -> None:
    """Compare a module with the content of golden.safetensors.

    Args:
        module: the stand-in.
        content: of the file.
        name: of the checkpoint, for messages.
        slopes: tolerance of the gradient.
    """
    saved = _parsed(module, content, name)
    found = _outcome(module, saved["fields"], saved["direction"])
    metric = module.metric
    errors = {
        f"curves of {output}": _error(*(signed_log1p(each["curves"][:, c] / size) for each in (found, saved)))
        for c, (output, size) in enumerate(zip(metric.outputs, metric.scales, strict=True))
    }
    errors["input gradient"] = _error(found["gradient"], saved["gradient"])
    allowed = dict.fromkeys(errors, TOLERANCE) | {"input gradient": slopes}
    # Not `error > allowed`: an error that is NaN has to fail.
    wrong = [f"{what} by {error:.2g}" for what, error in errors.items() if not error <= allowed[what]]
    if wrong:
        raise CorruptedError(
            f"{name} does not give what it gave when it was saved: {', '.join(wrong)} "
            f"(relative; allowed {TOLERANCE:g}); fetch it again, or load it with the emuloss that saved it"
        )


def _parsed(module: Differentiable, content: bytes, name: str) -> dict[str, Tensor]:
    """The golden tensors, of the shapes that belong to a module."""
    try:
        tensors = load_tensors(content)
    except Exception as error:  # whatever the parser says of a damaged file
        raise CorruptedError(f"{name}: {GOLDEN} is damaged; fetch the checkpoint again") from error
    fields = tensors.get("fields", torch.empty(0))
    pair = (2,) * (module.metric.arity - 1)
    shapes: dict[str, tuple[int, ...]] = {
        "fields": (_FIELDS, *pair, *fields.shape[-2:]),
        "gradient": (1, *pair, *fields.shape[-2:]),
        "curves": (_FIELDS, *_shape_of_curves(module)),
        "direction": (1, *_shape_of_curves(module)),
    }
    fits = tensors.keys() == shapes.keys() and all(
        tensor.shape == shapes[key] and tensor.dtype == torch.float32 for key, tensor in tensors.items()
    )
    # Bounds for the memory that a forged file can ask for.
    least, most = module.stride, max(module.stride, _LARGEST_SIDE, module.metric.rows or 1)
    if not fits or not all(least <= side <= most for side in fields.shape[-2:]):
        raise CorruptedError(f"{name}: {GOLDEN} is not one that this surrogate wrote; save it again")
    return tensors


def _shape_of_curves(module: Differentiable) -> tuple[int, int]:
    """(C, Q)."""
    return len(module.metric.outputs), len(module.metric.levels)


def _outcome(module: Differentiable, fields: Tensor, direction: Tensor) -> dict[str, Tensor]:
    """Curves of golden fields and the gradient in the first, float32, by a copy on the CPU."""
    twin = copy.deepcopy(module).cpu()
    fractions = [tensor for tensor in twin.state_dict().values() if tensor.is_floating_point()]
    if any(tensor.dtype != torch.float32 for tensor in fractions):
        twin = twin.float()  # of others alone: tables that are kept in double precision should stay so
    with torch.autocast("cpu", enabled=False):
        with torch.no_grad():
            curves = twin(fields).float()
        place, along = fields[:1].double(), direction.double()
        gradient = pulled_back(twin.double(), place, along, module.metric.scales).float()
    return {"curves": curves, "gradient": gradient}


def _error(found: Tensor, saved: Tensor) -> float:
    """||found - saved|| / ||saved||, in double precision; 0 where both are 0."""
    found, saved = found.double(), saved.double()
    difference = float(torch.linalg.vector_norm(found - saved))
    return difference and difference / max(float(torch.linalg.vector_norm(saved)), 1e-30)
