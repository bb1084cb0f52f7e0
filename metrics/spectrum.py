"""Radially averaged power spectrum, and its anisotropy."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from ..errors import ArgumentError
from ..foundation.arguments import as_count, as_name, as_outputs, as_positive
from ..foundation.rules import Rule, whole
from .constraints import AtLeast, applicable
from .metric import Metric
from .pairwise import within
from .registry import register

MOST_BINS = 2048
"""Rings beyond are refused: these resolve fields of 4096 x 4096 pixels fully."""
_BLOCK = 2**18
"""Wavenumbers that are worked on at a time."""
_LARGEST_VALUE = 1e140
"""Values beyond have no square in double precision, summed over a field."""
_OUTPUTS = ("power", "anisotropy")
_DEFAULT = ("power",)


@register
class Spectrum(Metric):
    r"""Radially averaged power spectrum of a field, one curve over wavenumber.

    - power: log10 of the mean power over each of B rings of wavenumbers, at least log10 of the floor, in
      log10 of the field's unit squared.
    - anisotropy: how much of it lies in one direction, |mean of P exp(2 i phi)| / mean of P over each ring,
      phi the direction of f: a number from 0, where none stands out, to 1, where all waves run along one
      axis. The fewer wavenumbers a ring has, the further it is above 0 by chance. A mean power below the
      floor is raised to that, as if the rest had no direction.

    The field x, H x W, loses its mean under a window and is multiplied by it,

        y = w (x - sum(w x) / sum(w)),  w_ij = sin^2(pi (i + 1/2)/H) sin^2(pi (j + 1/2)/W),

    the Hann window, which keeps the field's edges from leaking into all wavenumbers. The power at a
    wavenumber is P(f) = |sum_ij y_ij exp(-2 pi i f . (i, j))|^2 / sum(w^2), with f in cycles per pixel. It
    has the field's unit squared: white noise of variance s^2 has P = s^2 at all wavenumbers but the lowest,
    whatever the size of the field (Welch 1967, IEEE Trans. Audio Electroacoust. 15; Ruzanski and
    Chandrasekar 2011, IEEE Trans. Geosci. Remote Sens. 49, for rain).

    Ring b = 1 ... B holds the wavenumbers with (b - 1)/B < 2 |f| <= b/B: `levels` are the middles of the
    rings in units of the Nyquist wavenumber, half a cycle per pixel. Corners beyond that are left out, as is
    f = 0.
    P is sampled on the grid of the discrete Fourier transform. A side shorter than 2B pixels is padded with
    zeros to 2B after windowing, so that no ring is empty, and Q = B for any field.

    NaN means not measured and counts as 0. Power below the floor, such as that of a constant field, which
    is 0, counts as the floor.

    Args:
        bins: number B of rings, at most 2048; as many as half the shorter side of the fields resolve them
            fully.
        floor: least power, in the field's unit squared; above 0.
        field_unit: name of the unit of the field.
        outputs: which curves, in which order, out of power, anisotropy.

    Raises:
        ArgumentError: any argument out of range; when called, a field that holds a value beyond 1e140.
    """

    name = "spectrum"
    describing = ("field_unit",)
    invariant = True
    thresholds = ()
    pixel_size = 1.0
    argument_rules: ClassVar[Mapping[str, Rule]] = {"bins": whole(1, MOST_BINS)}
    bins: int
    floor: float
    field_unit: str

    def __init__(
        self,
        bins: int = 32,
        floor: float = 1e-6,
        field_unit: str = "unit",
        outputs: Sequence[str] = _DEFAULT,
    ) -> None:
        self.bins = as_count("bins", bins, MOST_BINS)
        self.floor = as_positive("floor", floor)
        self.field_unit = as_name("field_unit", field_unit, "mm/h")
        self.outputs = as_outputs(outputs, _OUTPUTS)
        self.levels = tuple((b + 0.5) / self.bins for b in range(self.bins))
        units = {"power": f"log10 ({field_unit})^2", "anisotropy": "1"}
        self.units = tuple(units[output] for output in self.outputs)
        least = math.log10(self.floor)
        self.constraints = applicable(
            (AtLeast("power", "power >= floor", lambda: least), *within("anisotropy", 0.0, 1.0)),
            self.outputs,
        )

    def arguments(self) -> dict[str, Any]:
        """The JSON-able keyword arguments that build this metric again."""
        found = super().arguments()
        # Labels and runs from before there was a choice are of the default, and stay so.
        return found if self.outputs != _DEFAULT else {k: v for k, v in found.items() if k != "outputs"}

    def _compute(self, fields: np.ndarray) -> np.ndarray:
        from ..foundation.threads import in_threads

        if (np.abs(fields, dtype=np.float64) > _LARGEST_VALUE).any():
            raise ArgumentError(
                f"fields of a spectrum must be finite, at most {_LARGEST_VALUE:g} in size, or NaN where not "
                "measured; got a value beyond"
            )
        sides = fields.shape[1:]
        window = np.outer(*(np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2 for side in sides))
        rows, columns = (max(side, 2 * self.bins) for side in sides)
        rings = _Rings(rows, columns, self.bins)
        share = 1 / (rings.sums(lambda block: np.ones((1, 1, 1))) * (window**2).sum())
        directed = "anisotropy" in self.outputs
        means = np.empty((len(fields), 3 if directed else 1, self.bins))

        def measure(batch: slice) -> None:
            for n in range(batch.start, batch.stop):
                field = np.nan_to_num(fields[n].astype(np.float64))
                field -= np.average(field, weights=window)
                along = np.fft.rfft(field * window, columns, axis=1)

                def squares(block: slice, along: np.ndarray = along) -> np.ndarray:
                    waves = np.fft.fft(along[:, block], rows, axis=0)
                    power = (waves.real**2 + waves.imag**2)[None]
                    return np.concatenate([power, power * rings.axes(block)]) if directed else power

                means[n] = share * rings.sums(squares)

        in_threads(measure, len(fields), fields.size)
        power = np.maximum(means[:, 0], self.floor)
        curves = {"power": np.log10(power)}
        if directed:
            curves["anisotropy"] = np.hypot(means[:, 1], means[:, 2]) / power
        return self.stacked(curves)


def ring_of(down: Any, along: Any, bins: int) -> Any:
    """Ring of wavenumbers in cycles per pixel, from 1 to bins; 0 of those that are in none.

    This and the functions below take NumPy arrays and torch tensors, which broadcast.
    """
    # Without the slack, rounding could lift a wavenumber on the border of two rings to the upper one. The sum
    # of both numbers has no place in single precision, in which exporters keep numbers.
    ring = (2 * bins * (down**2 + along**2) ** 0.5 - 1e-9 + 0.5).round()
    return ring * (ring <= bins)


def stands_for(along: Any) -> Any:
    """How many wavenumbers of the full plane one of the half plane along >= 0 stands for.

    Itself and its negative, or itself alone, where that is in the half plane, too.
    """
    return 1 + (along > 0) * (along < 0.5)


def axis_of(down: Any, along: Any) -> tuple[Any, Any]:
    """Of wavenumbers in directions phi, cos 2 phi and sin 2 phi; both 0 of the wavenumber 0."""
    squared = down**2 + along**2
    squared = squared + (squared == 0)
    return (along**2 - down**2) / squared, 2 * down * along / squared


class _Rings:
    """The rings of the wavenumbers that `np.fft.rfft2` gives on a grid.

    They are taken some columns at a time, so that a field that is padded to a large grid takes no more memory
    than a large field.

    Args:
        rows: of the grid.
        columns: likewise.
        bins: number of rings.
    """

    def __init__(self, rows: int, columns: int, bins: int) -> None:
        self.bins = bins
        # Not by `rfftfreq`, which of 98 columns gives a little less than 1/2.
        self.along, self.down = np.arange(columns // 2 + 1) / columns, np.fft.fftfreq(rows)[:, None]
        width = max(1, _BLOCK // rows)
        self.blocks = [slice(start, start + width) for start in range(0, len(self.along), width)]
        self.of = np.empty((rows, len(self.along)), np.min_scalar_type(bins))
        for block in self.blocks:
            self.of[:, block] = ring_of(self.down, self.along[block], bins)

    def axes(self, block: slice) -> np.ndarray:
        """See `axis_of`: (2, rows, columns) of a block of columns."""
        return np.stack(axis_of(self.down, self.along[block]))

    def sums(self, values: Callable[[slice], np.ndarray]) -> np.ndarray:
        """Sums over the rings of K values, (K, bins), float64; of wavenumbers outside all of them none.

        Args:
            values: gives those of a block of columns, (K, rows, columns), or what broadcasts to that.
        """
        total: np.ndarray | float = 0.0
        for block in self.blocks:
            ring = self.of[:, block]
            weighted = stands_for(self.along[block]) * values(block)
            total = total + np.stack(
                [
                    np.bincount(ring.ravel(), np.broadcast_to(each, ring.shape).ravel(), self.bins + 1)
                    for each in weighted
                ]
            )
        return np.asarray(total)[:, 1:]
