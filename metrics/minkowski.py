"""Minkowski curves: area, perimeter, Euler number, components and holes of excursion sets."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from ..errors import ArgumentError
from ..foundation.arguments import as_choice, as_connectivity, as_name, as_pixel_size, as_positives, as_real
from ..foundation.limits import LARGEST, shown
from ..foundation.rules import Rule, list_of, number_from, optional, text
from .constraints import FRAME, AtLeast, AtMost, Constraint, Identity, NonIncreasing, applicable
from .excursion import ExcursionMetric
from .kernels.rows import (
    AXIAL,
    AXIAL_DEGREE,
    COMPONENTS,
    DIAGONAL,
    DIAGONAL_DEGREE,
    LOCAL_ROWS,
    PIXELS,
    ROW_DEGREE,
    ROW_PAIRS,
    ROWS,
    WEIGHTED,
    WITH_ROWS,
)
from .lattice import Lattice
from .registry import register

WRAPS = {
    "closed": (False, False),
    "open": (False, False),
    "periodic": (True, True),
    "periodic-x": (False, True),
}
"""Whether the first and the last row of a field adjoin, and whether its columns do, by the boundary."""

UNITS = {"area": "{}^2", "perimeter": "{}", "euler": "1", "components": "1", "holes": "1"}

_OF_ALL = ("components >= euler", "holes = components - euler")
"""Constraints that hold if components and holes are counted whatever their persistence."""
_MOST_ROWS = 2**16
"""Weights of rows beyond are refused in a configuration."""
_LENGTH = number_from(0, LARGEST)
"""A persistence in the field's unit."""

# The 4-direction Crofton measure (see `isoperimetric_bound`).
PIXEL_PERIMETER = math.pi / 8 * (4 + 4 / math.sqrt(2))
"""P1: Crofton perimeter of a single pixel of edge 1."""
_PHI = math.pi / 8 * (1 + math.sqrt(2))
_WULFF = 8 * (1 + math.sqrt(2)) * (math.pi / 4) ** 2


def isoperimetric_bound(pixels: Any) -> Any:
    """Least Crofton perimeter, in pixel edges, of a set of that many pixels.

    P_min(n) = P1 n for n <= 1 and P1 + p(n) for n >= 1, with
    p(n) = W/2 (sqrt(1/(4 phi^2) + 4 (n - 1)/W) - 1/(2 phi)).

    It follows from Pick's theorem for the polygon through the centres of the pixels and the Wulff
    shape (a regular octagon) of the 4-direction Crofton measure. It is tight at n = 1. The
    textbook P^2 >= 4 pi A is false for this measure: a single pixel has P^2/(4 pi A) = 0.57.

    Args:
        pixels: n >= 0, a NumPy array or torch tensor of any shape; real values interpolate.

    Returns:
        The bound, same shape.
    """
    beyond = pixels.clip(1.0) - 1.0
    octagon = _WULFF / 2 * ((1 / (4 * _PHI**2) + 4 / _WULFF * beyond) ** 0.5 - 1 / (2 * _PHI))
    return PIXEL_PERIMETER * pixels.clip(0.0, 1.0) + octagon


@register
class Minkowski(ExcursionMetric):
    r"""Minkowski functionals of the excursion sets X_u = {x >= u}, one curve over u each.

    - area: A(u) = a^2 n(u), n the number of pixels of X_u, a the pixel's edge length.
    - perimeter: Crofton's formula over 4 directions,
      P(u) = a pi/8 (T_rows + T_columns + (T_diag1 + T_diag2)/sqrt(2)), T the numbers of
      transitions along each direction (Legland et al. 2007); equals
      `skimage.measure.perimeter_crofton(mask, directions=4)`.
    - euler: chi = components - holes = vertices - edges + faces of the adjacency complex; equals
      `skimage.measure.euler_number`.
    - components: connected components of X_u; equals `skimage.measure.label`.
    - holes: components of the complement that do not reach the outside = components - chi.

    Values are compared in double precision. NaN means not measured and counts as dry, +inf as
    wet. The world outside the field is dry.

    Where opposite edges adjoin, the field is the whole of a torus (or of a cylinder), of which a crop is
    none. All counts are of the cells of that surface, and holes = components - chi still, which there are
    the first Betti number less the second: closed ways in the set that differ, those around the torus
    included, less one where the set is all of it. A band around has a hole, a band with a hole two, and a
    torus without a disk two as well.

    Pixels dy high and dx wide have an area of dy dx and, with t = atan(dy/dx),

        P(u) = t dy/2 T_rows + (pi/2 - t) dx/2 T_columns + pi/8 dy dx/hypot(dy, dx) (T_diag1 + T_diag2):

    Crofton's formula again, each direction with its share of the angles (Legland et al. 2007).

    Components and holes may be held to a persistence: as the threshold falls, a component appears at a
    maximum b and is taken into one with a higher maximum at a saddle d, a hole is closed at a saddle b and
    filled at a minimum d. With a persistence, those with b - d of at least so much are counted alone, which
    noise hardly changes; holes = components - chi then holds no more. They are the bars of the persistence
    diagram (Edelsbrunner, Letscher and Zomorodian 2002) of that length that contain u. A share of the field's
    range, the greatest less the least finite value of each field, asks as much of weak fields as of strong.

    Args:
        thresholds: strictly increasing, in the field's unit.
        pixel_size: edge length of a pixel, 1 by default; areas come in its square. Not beside a spacing.
        outputs: which curves, in which order, out of area, perimeter, euler, components, holes.
        boundary: "closed": a set that touches the edge of the field has boundary there; "open":
            the edge is left out of the perimeter; "periodic": the last row adjoins the first, and the
            last column the first (cosmology, simulations in a box); "periodic-x": the columns alone do,
            and the other two edges are closed (longitudes of a global model). Of what adjoins there are
            two or more.
        connectivity: 1: the set is 4-connected and its complement 8-connected; 2: the reverse.
        length_unit: name of the unit of `pixel_size`.
        levels: coordinates of the threshold axis for integration, such as quantile levels;
            default: evenly spaced.
        spacing: (dy, dx), height and width of a pixel, where it is not square.
        row_weights: what the area of a pixel counts in each of the H rows of a field, such as the cosine of
            its latitude; positive. Of the area alone: perimeters are as in rows of weight 1.
        persistence: least persistence of the components and holes that are counted, in the field's unit, or
            as a share of each field's range, such as "10%"; 0: all. Not of holes where edges adjoin.

    Raises:
        ArgumentError: any argument out of range.
    """

    name = "minkowski"
    describing = ("levels", "length_unit")
    argument_rules: ClassVar[Mapping[str, Rule]] = {
        **ExcursionMetric.argument_rules,
        "spacing": optional(list_of(number_from(LARGEST**-0.5, LARGEST**0.5), 2, 2)),
        "persistence": lambda value, place: (text(16) if isinstance(value, str) else _LENGTH)(value, place),
        "row_weights": optional(list_of(number_from(1 / LARGEST, LARGEST), 1, _MOST_ROWS)),
    }
    starts_at_median = False
    guarantees = ("declared", "textbook", "free")
    boundary: str
    connectivity: int
    length_unit: str
    spacing: tuple[float, float] | None
    row_weights: tuple[float, ...] | None
    persistence: float | str

    def __init__(
        self,
        thresholds: Sequence[float],
        pixel_size: float | None = None,
        outputs: Sequence[str] = ("area", "perimeter", "euler"),
        boundary: str = "closed",
        connectivity: int = 1,
        length_unit: str = "pixel",
        levels: Sequence[float] | None = None,
        spacing: Sequence[float] | None = None,
        row_weights: Sequence[float] | None = None,
        persistence: float | str = 0.0,
    ) -> None:
        super().__init__(thresholds, levels, outputs, tuple(UNITS))
        self.spacing = None if spacing is None else _as_spacing(spacing)
        self.row_weights = None if row_weights is None else as_positives("row_weights", row_weights)
        if self.row_weights == ():
            raise ArgumentError("row_weights must hold a number for each row of a field, got none")
        self.persistence = _as_persistence(persistence)
        self.rows = None if self.row_weights is None else len(self.row_weights)
        self.pixel_size = _edge(pixel_size, self.spacing)
        self.boundary = as_choice("boundary", boundary, tuple(WRAPS))
        self.connectivity = as_connectivity(connectivity)
        self.length_unit = as_name("length_unit", length_unit, "km")
        self.units = tuple(UNITS[name].format(length_unit) for name in self.outputs)
        if self.persistence and "holes" in self.outputs and any(self.wraps):
            raise ArgumentError(
                f"persistence (={persistence}) of holes is not known for boundary={boundary!r}; "
                "leave holes out of the outputs"
            )
        constraints = _constraints(self.lattice, boundary)
        if self.persistence:
            constraints = tuple(c for c in constraints if c.label not in _OF_ALL)
        self.constraints = applicable(constraints, self.outputs)

    @property
    def invariant(self) -> bool:  # type: ignore[override]  # an attribute of others, that is found here
        """Unless turning a field by a right angle turns the edges that adjoin, or makes wide what is high."""
        return self.wraps[0] == self.wraps[1] and not self.by_rows

    @property
    def wraps(self) -> tuple[bool, bool]:
        """Whether the first and the last row of a field adjoin, and whether its columns do."""
        return WRAPS[self.boundary]

    @property
    def by_rows(self) -> bool:
        """Whether rows are told from columns, or from one another."""
        return self.row_weights is not None or self.lattice.spacing[0] != self.lattice.spacing[1]

    @property
    def lattice(self) -> Lattice:
        """Lengths and areas of pixels."""
        weights = self.row_weights or (1.0,)
        return Lattice(self.spacing or (self.pixel_size,) * 2, min(weights), max(weights))

    def arguments(self) -> dict[str, Any]:
        """See `Metric.arguments`; without what was added later and is not set, as before there was any."""
        unset = [name for name in ("spacing", "row_weights", "persistence") if not getattr(self, name)]
        unset += [] if self.spacing is None else ["pixel_size"]
        return {name: value for name, value in super().arguments().items() if name not in unset}

    def frame(self, field_shape: Sequence[int]) -> float:
        """Area of a field of shape (..., H, W), weighted by its rows, in the square of the unit of length."""
        if self.row_weights is None:
            return super().frame(field_shape)
        return math.fsum(self.row_weights) * field_shape[-1] * self.pixel_size**2

    def check_sides(self, shape: Sequence[int]) -> None:
        """Raise ArgumentError for fields (..., H, W) whose pixels adjoin themselves, or of other rows."""
        if self.rows is not None and self.rows != shape[-2]:
            raise ArgumentError(
                f"row_weights must be one for each row of a field, got {self.rows} for "
                f"fields of {shape[-2]} x {shape[-1]}"
            )
        if any(wrap and side < 2 for wrap, side in zip(self.wraps, shape[-2:], strict=True)):
            raise ArgumentError(
                f"boundary={self.boundary!r} needs two pixels at least along a side that closes on itself, "
                f"got fields of {shape[-2]} x {shape[-1]}"
            )

    def guaranteed(self, guarantee: str) -> tuple[Constraint, ...]:
        """Of "textbook": what the paper's heads enforce; see `textbook_constraints`."""
        return textbook_constraints(self) if guarantee == "textbook" else super().guaranteed(guarantee)

    def _compute(self, fields: np.ndarray) -> np.ndarray:
        from .kernels import excursions as kernels

        self.check_sides(fields.shape)
        counts = kernels.excursion_counts(
            fields,
            self.thresholds,
            diagonal=self.connectivity == 2,
            components=not self.persistence and not {"components", "holes"}.isdisjoint(self.outputs),
            degrees=self.boundary == "open",
            wraps=self.wraps,
        )
        found = [*counts.swapaxes(0, 1)]
        if self.by_rows:
            from .kernels.along_rows import row_counts

            weights = np.array(self.row_weights or np.ones(fields.shape[1]))
            found += [*row_counts(fields, self.thresholds, weights, self.wraps[1]).swapaxes(0, 1)]
        if self.persistence:
            from .kernels.merge_tree import summed_over_sets

            for output, row in (("components", COMPONENTS), ("holes", len(found))):
                sums = np.zeros((len(fields), len(self.thresholds)))
                if output in self.outputs:
                    sums = summed_over_sets(self.lasting(fields, output), fields, self.thresholds)
                found[row : row + 1] = [sums]
        return self.stacked(self.of_counts(found))

    def lasting(self, fields: np.ndarray, output: str) -> np.ndarray:
        """What pixels (N, H, W) add to lasting components or holes; see `kernels.merge_tree`."""
        from .kernels import merge_tree

        rule = (*self.lasting_from, self.connectivity == 2)
        if output == "holes":
            return merge_tree.lasting_holes(fields, *rule)
        return merge_tree.lasting_components(fields, *rule, self.wraps)

    @property
    def lasting_from(self) -> tuple[float, bool]:
        """The persistence as a number, and whether it is a share of each field's range."""
        if isinstance(self.persistence, str):
            return float(self.persistence[:-1]) / 100, True
        return self.persistence, False

    @property
    def counted(self) -> int:
        """How many counts `of_counts` takes."""
        return (WITH_ROWS if self.by_rows else ROWS) + bool(self.persistence)

    def of_counts(self, counts: Sequence[Any] | np.ndarray) -> dict[str, Any]:
        """All outputs by name of counts in the order of `kernels.rows`; linear, so that soft ones serve too.

        Args:
            counts: as many as are `counted`, of any one shape: ROWS; WITH_ROWS, if `by_rows`; and behind
                them, if there is a persistence, that of the holes.
        """
        curves = functionals(
            *counts[:LOCAL_ROWS],
            pixel_size=self.pixel_size,
            boundary=self.boundary,
            connectivity=self.connectivity,
        )
        if self.by_rows:
            curves["area"] = self.lattice.pixel * counts[WEIGHTED]
            straight, slanted = transitions(
                counts[PIXELS],
                counts[AXIAL],
                counts[DIAGONAL],
                counts[AXIAL_DEGREE],
                counts[DIAGONAL_DEGREE],
                self.boundary,
            )
            ends = counts[ROW_DEGREE] if self.boundary == "open" else 2 * counts[PIXELS]
            along_rows = ends - 2 * counts[ROW_PAIRS]
            row, column, diagonal = self.lattice.steps
            curves["perimeter"] = row * along_rows + column * (straight - along_rows) + diagonal * slanted
        curves["components"] = counts[COMPONENTS]
        curves["holes"] = counts[-1] if self.persistence else curves["components"] - curves["euler"]
        return curves


def _as_persistence(value: Any) -> float | str:
    """Validate a persistence: a number, or a percentage."""
    relative = isinstance(value, str) and value.strip().endswith("%")
    try:
        number = float(value.strip()[:-1]) if relative else as_real(value)
    except ValueError:
        number = math.nan
    if not 0 <= number <= (100 if relative else LARGEST):
        raise ArgumentError(
            "persistence must be a number, 0 or more, in the field's unit, or a share of each field's range "
            f"such as '10%', got {shown(value)}"
        )
    return f"{number:.15g}%" if relative and number else number


def _as_spacing(values: Any) -> tuple[float, float]:
    """Validate the height and the width of a pixel."""
    sizes = as_positives("spacing", values)
    if len(sizes) != 2:
        raise ArgumentError(f"spacing must be the height and the width of a pixel, got {shown(values)}")
    return as_pixel_size(sizes[0], "spacing"), as_pixel_size(sizes[1], "spacing")


def _edge(pixel_size: Any, spacing: tuple[float, float] | None) -> float:
    """Edge of a pixel; of pixels that are not square that of a square one of their area."""
    if spacing is None:
        return as_pixel_size(1.0 if pixel_size is None else pixel_size)
    edge = as_pixel_size(math.sqrt(math.prod(spacing)))
    # What agrees is taken: definitions once kept both.
    if pixel_size is not None and not math.isclose(as_real(pixel_size), edge, rel_tol=1e-9):
        raise ArgumentError(
            f"pixel_size (={shown(pixel_size)}) is of square pixels, spacing (={spacing}) height and width "
            "of others; give one of both"
        )
    return edge


def transitions(
    pixels: Any, axial: Any, diagonal: Any, axial_degree: Any, diagonal_degree: Any, boundary: str
) -> tuple[Any, Any]:
    """Transitions along rows and columns, and along diagonals, of counts; see `functionals`."""
    if boundary == "open":
        axial_ends, diagonal_ends = axial_degree, diagonal_degree
    else:
        axial_ends, diagonal_ends = 4 * pixels, 4 * pixels
    return axial_ends - 2 * axial, diagonal_ends - 2 * diagonal


def functionals(
    pixels: Any,
    axial: Any,
    diagonal: Any,
    blocks: Any,
    axial_degree: Any,
    diagonal_degree: Any,
    *,
    pixel_size: float,
    boundary: str,
    connectivity: int,
) -> dict[str, Any]:
    """Area, perimeter and Euler number from counts; linear in them, so that soft counts serve too.

    A direction's transitions are the pairs of which one end is in the set: the pairs with at
    least one end, counted by their ends, less twice the pairs with two. Every boundary but the open one
    gives every pixel all its neighbours.

    Args:
        pixels: number of pixels of the set.
        axial: number of its axial pairs (the edges of the adjacency complex).
        diagonal: number of its diagonal pairs.
        blocks: number of 2 x 2 blocks inside the set (connectivity 1), or touched by it, blocks
            that stick out of the field included (connectivity 2).
        axial_degree: sum over its pixels of the number of axial neighbours inside the field.
        diagonal_degree: likewise, diagonal neighbours.
        pixel_size: edge length of a pixel.
        boundary: see `Minkowski`.
        connectivity: 1 or 2.

    Returns:
        {"area", "perimeter", "euler"}, each of the counts' shape.
    """
    straight, slanted = transitions(pixels, axial, diagonal, axial_degree, diagonal_degree, boundary)
    # 4-connected: vertices - edges + faces of the complex whose vertices are the pixels of the set.
    # 8-connected: corners - edges + squares of the union of closed pixels, which share edges.
    euler = pixels - axial + blocks if connectivity == 1 else blocks - (4 * pixels - axial) + pixels
    return {
        "area": pixel_size**2 * pixels,
        "perimeter": pixel_size * math.pi / 8 * (straight + slanted / math.sqrt(2)),
        "euler": euler,
    }


def _constraints(lattice: Lattice, boundary: str) -> tuple[Constraint, ...]:
    """What exact curves obey; with pixels of one weight, n = area / pixel is their number."""
    least, most = lattice.pixel * lattice.lightest, lattice.pixel * lattice.heaviest

    def least_perimeter(a: Any) -> Any:
        return lattice.roundness * isoperimetric_bound(a / most)

    def most_perimeter(a: Any) -> Any:
        return lattice.pixel_perimeter / least * a

    def some(a: Any) -> Any:
        return (a / least).clip(0.0, 1.0)

    declared: list[Constraint] = [
        NonIncreasing("area"),
        AtLeast("area", "area >= 0", lambda: 0.0),
        AtMost("area", "area <= field", lambda frame: frame, (FRAME,)),
    ]
    if boundary == "closed":
        # Not where edges adjoin: a band around has little boundary, however broad it is.
        declared += [AtLeast("perimeter", "perimeter >= P_min(area)", least_perimeter, ("area",))]
    declared += [
        AtLeast("perimeter", "perimeter >= 0", lambda: 0.0),
        AtMost("perimeter", "perimeter <= P1 n", most_perimeter, ("area",)),
        AtLeast("components", "components >= 0", lambda: 0.0),
        AtLeast("components", "components >= min(n, 1)", some, ("area",)),
        AtLeast("components", "components >= euler", lambda e: e, ("euler",)),
        AtLeast("holes", "holes >= 0", lambda: 0.0),
    ]
    if boundary != "open":
        length = lattice.least_boundary(WRAPS[boundary])
        alike = least == most and lattice.spacing[0] == lattice.spacing[1]
        if boundary == "periodic-x" or (boundary == "closed" and not alike):
            # Of square pixels in the plane P_min implies it; all of a torus has no boundary.
            declared += [
                AtLeast("perimeter", "perimeter >= L min(n, 1)", lambda a: length * some(a), ("area",))
            ]
        declared += _bounds_by_boundaries(length, some, boundary)
    declared += [Identity("holes", "holes = components - euler", lambda c, e: c - e, ("components", "euler"))]
    return tuple(declared)


def _bounds_by_boundaries(length: float, some: Callable[[Any], Any], boundary: str) -> tuple[Constraint, ...]:
    """What follows from the number K of closed boundaries of a set, each at least so long: P >= K length.

    Of square pixels of edge 1 the length is pi/2, which is what the labels say.

    A component with k boundaries and g handles has chi = 2 - 2 g - k, so that components + holes, which are
    2 components - chi, are K + 2 g summed over the components. In the plane and on a cylinder g = 0; a torus
    has room for one handle in all, which needs no boundary. The bounds on euler and components alone follow:
    2 components = (components + holes) + euler.

    Args:
        length: least length of a closed boundary; see `Lattice.least_boundary`.
        some: maps the area onto min(n, 1).
        boundary: see `Minkowski`.
    """

    def most_objects(p: Any) -> Any:
        return p / length

    declared: list[Constraint] = [
        AtMost("euler", "euler <= 2P/pi", most_objects, ("perimeter",)),
        AtLeast("euler", "euler >= -2P/pi", lambda p: -most_objects(p), ("perimeter",)),
    ]
    if boundary == "periodic":
        return (
            *declared,
            AtMost(
                "components",
                "components <= max(2P/pi, 1)",
                lambda p: most_objects(p).clip(1.0),
                ("perimeter",),
            ),
            AtMost(
                "components",
                "components <= P/pi + euler/2 + 1",
                lambda p, e: (most_objects(p) + e) / 2 + 1,
                ("perimeter", "euler"),
            ),
            AtMost(
                "holes",
                "components + holes <= 2P/pi + 2",
                lambda p, c: most_objects(p) + 2 - c,
                ("perimeter", "components"),
            ),
        )
    return (
        *declared,
        AtLeast(
            "euler",
            "euler >= 2 min(n, 1) - 2P/pi",
            lambda a, p: 2 * some(a) - most_objects(p),
            ("area", "perimeter"),
        ),
        AtMost("components", "components <= 2P/pi", most_objects, ("perimeter",)),
        AtMost(
            "components",
            "components <= P/pi + euler/2",
            lambda p, e: (most_objects(p) + e) / 2,
            ("perimeter", "euler"),
        ),
        AtMost(
            "holes",
            "components + holes <= 2P/pi",
            lambda p, c: most_objects(p) - c,
            ("perimeter", "components"),
        ),
    )


def textbook_constraints(metric: Minkowski) -> tuple[Constraint, ...]:
    """What the paper's heads enforce: P^2 >= 4 pi A in place of the valid bounds of the perimeter.

    It holds for smooth sets, not for the digital ones: exact curves break it. With it no declared
    upper bound of the perimeter is compatible, and none that builds on one.

    Args:
        metric: outputs and pixel size are taken from it.

    Returns:
        Constraints on its outputs.
    """
    kept = [
        c
        for c in metric.constraints
        if c.output == "area"
        or isinstance(c, Identity)
        or c.label in ("components >= 0", "components >= euler", "holes >= 0")
    ]
    if "perimeter" in metric.outputs:
        kept += [
            AtLeast("perimeter", "perimeter >= 0", lambda: 0.0),
            AtLeast("perimeter", "P^2 >= 4 pi A", lambda a: (4 * math.pi * a) ** 0.5, ("area",)),
        ]
    return applicable(tuple(kept), metric.outputs)
