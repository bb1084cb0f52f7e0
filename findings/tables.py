"""The figures of an evaluation as text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .figures import DescentFigures, Figures, Fit, GradientFigures, VerdictFigures, class_title
from .verdict import paragraphs, verdict

_TEXTBOOK = "P^2 >= 4 pi A"
_WORST = ("R2 worst", "at u")
_DESCENT = ("blurred", "descended", "removed")
_WIDTH = 99
"""Columns of a terminal that are used."""
_LABEL = 12
"""Columns of a verdict's labels."""


class _Table(NamedTuple):
    """Rows of cells under a header; the first `left` columns are words, the others numbers."""

    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    left: int


def summary_table(figures: Figures) -> str:
    """The figures of `Evaluation` as aligned plain text, under 100 columns, the verdict at the end.

    It reads well in a terminal and in a Markdown code block.
    """
    lines = [_title(figures)]
    for part in _parts(figures):
        lines += ["", *(part.splitlines() if isinstance(part, str) else _aligned(part))]
    lines.append("")
    for label, text in paragraphs(verdict_of(figures)):
        lines += _hanging(label, text)
    return "\n".join(line.rstrip() for line in lines)


def markdown_table(figures: Figures) -> str:
    """The figures of `Evaluation` as Markdown, tables and sentences, for a model card."""
    lines = [f"{_title(figures)}."]
    for part in _parts(figures):
        lines += ["", *([part] if isinstance(part, str) else _piped(part))]
    return "\n".join(lines)


def markdown_verdict(figures: Figures) -> str:
    """The verdict as a list in Markdown, for the head of a model card."""
    return "\n".join(f"- **{label}**: {text}." for label, text in paragraphs(verdict_of(figures)))


def verdict_of(figures: Figures) -> VerdictFigures:
    """The verdict that was stored, or, of an evaluation of an earlier version, what it would be."""
    return figures.get("verdict") or verdict(figures)


def _hanging(label: str, text: str) -> list[str]:
    """A paragraph behind its label."""
    indent = " " * _LABEL
    return textwrap.wrap(text, _WIDTH, initial_indent=label.ljust(_LABEL), subsequent_indent=indent)


def _parts(figures: Figures) -> Iterator[_Table | str]:
    """Tables and notes, in the order in which they are read."""
    yield _output_table(figures)
    if "descent" in figures and "descent_noisy" in figures:
        yield _descent_note(figures["descent"], figures["descent_noisy"], figures["field_unit"])
    if "gradients" in figures:
        yield _gradient_note(figures["gradients"], figures["field_unit"])
    outputs = tuple(figures["fidelity"]["outputs"])
    reach = "reach" if figures["fidelity"]["thresholds"] else "exceed"
    yield f"R2 mean and distance by share of the pixels that {reach} {_reached(figures)}:"
    yield _Table(("share", "fields", "%", *outputs), _class_rows(figures), left=1)
    if "shift" in figures:
        yield "R2 mean and distance on shifted data:"
        yield _Table(("shift", "fields", *outputs), _shift_rows(figures, outputs), left=1)
    if "inversion" in figures:
        yield "RMSE of exact signed-log curves after inversion from noise:"
        yield _Table(("target", "all", *outputs), _inversion_rows(figures), left=1)
    violations = _violation_rows(figures)
    if violations:
        yield _Table(("violation", "% of fields and thresholds"), violations, left=1)
    yield _certificate_note(figures)
    yield _time_note(figures)


def _title(figures: Figures) -> str:
    found = figures["fidelity"]
    rows, columns = found["field_shape"]
    along = f", {_plural(len(found['thresholds']), 'threshold')}"
    if not found["thresholds"]:
        along = f", {_plural(_levels(figures), 'level')}" if _levels(figures) > 1 else ""
    return f"{_plural(found['fields'], 'field')} of {rows} x {columns} pixels{along}"


def _levels(figures: Figures) -> int:
    """How many there are of the longest output."""
    return max(len(each["r2"]) for each in figures["fidelity"]["outputs"].values())


def _output_table(figures: Figures) -> _Table:
    """Fidelity by output, and the descent where there was one; a single number has no worst level."""
    rows: list[tuple[str, ...]] = []
    several = _levels(figures) > 1
    header = ("output", "unit", "R2 mean" if several else "R2", *_WORST * several, "distance")
    for name, found in figures["fidelity"]["outputs"].items():
        worst = (_r_squared(found["r2_worst"]), _text(found["r2_worst_threshold"], ".4g"))
        cells: tuple[str, ...] = (
            name,
            found["unit"],
            _r_squared(found["r2_mean"]),
            *worst * several,
            _text(found["distance"], ".4f"),
        )
        if "descent" in figures:
            reached = figures["descent"]["outputs"][name]
            cells += (
                _text(reached["before"], ".4f"),
                _text(reached["after"], ".4f"),
                _percent(reached["removed"]),
            )
        rows.append(cells)
    return _Table(header + _DESCENT * ("descent" in figures), rows, left=2)


def _reached(figures: Figures) -> str:
    """The value that pixels reach to count in classes."""
    unit = f" {figures['field_unit']}" if figures["field_unit"] else ""
    value = figures.get("reached", next(iter(figures["fidelity"]["thresholds"]), None))
    return "the ground" if value is None else f"{value:.4g}{unit}"


def _class_rows(figures: Figures) -> list[tuple[str, ...]]:
    """A row for each class that has fields."""
    rows: list[tuple[str, ...]] = []
    for name, found in figures["classes"].items():
        if found["share"] is not None:
            low, high = (f"{share:.3g}" for share in found["share"])
            share = low if low == high else f"{low}-{high}"
            fits = map(_fit, found["outputs"].values())
            rows.append((class_title(name), str(found["fields"]), share, *fits))
    return rows


def _shift_rows(figures: Figures, outputs: Sequence[str]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name, found in figures["shift"].items():
        cells = map(_fit, found["outputs"].values()) if "outputs" in found else ["refused"] * len(outputs)
        rows.append((name, str(found["fields"]), *cells))
    return rows


def _inversion_rows(figures: Figures) -> list[tuple[str, ...]]:
    return [
        (name, _text(found["rmse"], ".2f"), *(_text(each, ".2f") for each in found["outputs"].values()))
        for name, found in figures["inversion"]["targets"].items()
    ]


def _fit(found: Fit) -> str:
    """R2 and distance of an output in one cell."""
    return f"{_r_squared(found['r2_mean'])} {_text(found['distance'], '.2f')}"


def _violation_rows(figures: Figures) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        (label, _text(share, ".3f")) for label, share in figures["fidelity"]["violations"].items()
    ]
    textbook = figures["fidelity"]["textbook_isoperimetry"]
    if textbook is not None:
        # Not among the declared: exact curves break it.
        exact = _text(textbook["exact"], ".3f")
        rows.append(
            (f"{_TEXTBOOK} (textbook; of non-empty sets; exact: {exact})", _text(textbook["emulated"], ".3f"))
        )
    return rows


def _descent_note(found: DescentFigures, noise: DescentFigures, field_unit: str) -> str:
    steps, fields = _plural(found["steps"], "gradient step"), _plural(found["fields"], "field")
    unit = f" {field_unit}" if field_unit else ""

    def pixels(way: DescentFigures) -> str:
        before, after = (_text(rmse, ".3g") for rmse in (way["rmse_before"], way["rmse_after"]))
        return f"pixel RMSE {before} before, {after} after{unit}"

    return (
        f"Descent: {steps} from {fields} blurred {found['factor']}x remove {_percent(found['removed'])} "
        f"of the exact distance;\n{pixels(found)}.\n"
        f"From noisy ones they remove {_percent(noise['removed'])}; {pixels(noise)}."
    )


def _gradient_note(found: GradientFigures, field_unit: str) -> str:
    total, sizes = found["total"], found["sizes"]
    cosine, smoothed, ceiling = (
        _text(value, ".2f") for value in (total["cosine"], total["cosine_smoothed"], total["ceiling"])
    )
    outputs = ", ".join(f"{name} {_text(each['cosine'], '.2f')}" for name, each in found["outputs"].items())
    apart = f"\n({outputs})" if len(found["outputs"]) > 1 else ""
    per = f" per {field_unit}" if field_unit else ""
    fields = _plural(found["fields"], "blurred field")
    return (
        f"Gradient: cosine with the exact one {cosine} at {fields}{apart};\n"
        f"{smoothed} when smoothed as well, {ceiling} between two exact estimates.\n"
        f"Near zero on {_percent(sizes['near_zero'])} of the pixels; "
        f"2-norm {sizes['norm']['q50']:.3g} in the median, {sizes['norm']['max']:.3g} at most{per}."
    )


def _certificate_note(figures: Figures) -> str:
    found = figures["certificate"]
    bound = f"{found['bound']:.3g}" if found["bound"] is not None else f"none ({found['reason']})"
    return (
        f"Global Lipschitz bound, fields to signed-log curves, 2-norms: {bound};\n"
        f"largest slope that a search found: {found['largest_slope']:.3g}."
    )


def _time_note(figures: Figures) -> str:
    timing = figures["timing"]
    forward, gradient = (
        f"{timing['forward']:.3g} ms forward",
        f"{timing['gradient']:.3g} ms with input gradient",
    )
    return f"Time per field: {forward}, {gradient} ({timing['device']})."


def _aligned(table: _Table) -> list[str]:
    """Columns two blanks apart; words flush left, numbers flush right."""
    rows = (table.header, *table.rows)
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if k < table.left else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _piped(table: _Table) -> list[str]:
    header, *lines = (f"| {' | '.join(row)} |" for row in (table.header, *table.rows))
    rule = " | ".join("---" if k < table.left else "---:" for k in range(len(table.header)))
    return [header, f"| {rule} |", *lines]


def _text(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _r_squared(value: float | None) -> str:
    """R2 in at most seven characters: how far it is below -9 tells nothing."""
    return "< -9" if value is not None and value < -9 else _text(value, ".4f")


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} %"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
