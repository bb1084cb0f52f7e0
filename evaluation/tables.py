"""The figures of an evaluation as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_TEXTBOOK = "P^2 >= 4 pi A"
_HEADER = ("output", "unit", "R2 mean", "R2 worst", "at u", "distance", "blurred", "descended", "removed")


def summary_table(figures: dict[str, Any]) -> str:
    """The figures of `Evaluation` as aligned plain text, under 100 columns.

    It reads well in a terminal and in a Markdown code block.
    """
    parts = [
        _title(figures),
        "",
        *_aligned((_HEADER, *_output_rows(figures)), left=2),
        "",
        _descent_note(figures),
    ]
    rows = _violation_rows(figures)
    if rows:
        parts += ["", "violations, % of fields and thresholds", *(_aligned(rows, left=1))]
    return "\n".join(line.rstrip() for line in [*parts, "", _time_note(figures)])


def markdown_table(figures: dict[str, Any]) -> str:
    """The figures of `Evaluation` as Markdown: two tables and two sentences, for a model card."""
    parts = [
        f"{_title(figures)}.",
        "",
        *_piped((_HEADER, *_output_rows(figures)), left=2),
        "",
        _descent_note(figures),
    ]
    rows = _violation_rows(figures)
    if rows:
        parts += ["", *_piped((("violation", "% of fields and thresholds"), *rows), left=1)]
    return "\n".join([*parts, "", _time_note(figures)])


def _title(figures: dict[str, Any]) -> str:
    found = figures["fidelity"]
    rows, columns = found["field_shape"]
    return (
        f"{_plural(found['fields'], 'field')} of {rows} x {columns} pixels, "
        f"{_plural(len(found['thresholds']), 'threshold')}"
    )


def _output_rows(figures: dict[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name, found in figures["fidelity"]["outputs"].items():
        reached = figures["descent"]["outputs"][name]
        rows.append(
            (
                name,
                found["unit"],
                _text(found["r2_mean"], ".4f"),
                _text(found["r2_worst"], ".4f"),
                _text(found["r2_worst_threshold"], ".4g"),
                _text(found["distance"], ".4f"),
                _text(reached["before"], ".4f"),
                _text(reached["after"], ".4f"),
                _percent(reached["removed"]),
            )
        )
    return rows


def _violation_rows(figures: dict[str, Any]) -> list[tuple[str, ...]]:
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


def _descent_note(figures: dict[str, Any]) -> str:
    found = figures["descent"]
    steps, fields = _plural(found["steps"], "gradient step"), _plural(found["fields"], "field")
    before, after = (_text(found[f"rmse_{when}"], ".3g") for when in ("before", "after"))
    unit = f" {figures['field_unit']}" if figures["field_unit"] else ""
    return (
        f"Descent: {steps} from {fields} blurred {found['factor']}x remove {_percent(found['removed'])} "
        f"of the exact distance;\npixel RMSE {before} before, {after} after{unit}."
    )


def _time_note(figures: dict[str, Any]) -> str:
    timing = figures["timing"]
    forward, gradient = (
        f"{timing['forward']:.3g} ms forward",
        f"{timing['gradient']:.3g} ms with input gradient",
    )
    return f"Time per field: {forward}, {gradient} ({timing['device']})."


def _aligned(rows: Sequence[Sequence[str]], left: int) -> list[str]:
    """Rows in columns two blanks apart; the first `left` columns flush left, numbers flush right."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if k < left else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _piped(rows: Sequence[Sequence[str]], left: int) -> list[str]:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    rule = " | ".join("---" if k < left else "---:" for k in range(len(rows[0])))
    return [lines[0], f"| {rule} |", *lines[1:]]


def _text(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} %"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
