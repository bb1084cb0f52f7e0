"""The declared form of the figures: what is measured has it, and what was stored."""

from __future__ import annotations

import json
import types
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints, is_typeddict

import emuloss
import numpy as np
import pytest
from drawn import pairs_of_rain, rain_array
from emuloss.emulators import Differentiable, relaxation
from emuloss.evaluation import evaluate
from emuloss.findings.figures import Figures, ShiftFigures
from emuloss.metrics import FSS, Metric, Minkowski

MODELS = sorted((Path(emuloss.__file__).parent / "zoo" / "models").glob("*/config.json"))


def misfits(value: Any, form: Any, place: str = "") -> list[str]:
    """Places where a JSON value departs from the form that a type declares."""
    kind, inner = get_origin(form) or form, get_args(form)
    if kind in (Union, types.UnionType):
        return min((misfits(value, each, place) for each in inner), key=len)
    if is_typeddict(kind):
        hints = get_type_hints(form)
        if not isinstance(value, dict):
            return [place]
        wrong = (form.__required_keys__ - value.keys()) | (value.keys() - hints.keys())
        parts = [(f".{key}", value[key], hints[key]) for key in value if key in hints]
        return [f"{place}.{key}" for key in sorted(wrong)] + _of_parts(parts, place)
    if not isinstance(value, (int, float) if kind is float else kind):
        return [place]
    if kind is dict:
        return _of_parts([(f".{key}", each, inner[1]) for key, each in value.items()], place)
    if kind is list:
        return _of_parts([("[]", each, inner[0]) for each in value], place)
    return []


def _of_parts(parts: list[tuple[str, Any, Any]], place: str) -> list[str]:
    return [misfit for name, value, form in parts for misfit in misfits(value, form, place + name)]


def test_misfits_are_found() -> None:
    fits: dict[str, Any] = {"fields": 1, "field_shape": [2, 3]}
    assert misfits(fits, ShiftFigures) == []
    assert misfits(fits | {"refused": 3}, ShiftFigures) == [".refused"]
    assert misfits(fits | {"field_shape": [2, "3"]}, ShiftFigures) == [".field_shape[]"]
    assert misfits(fits | {"more": 1}, ShiftFigures) == [".more"]
    assert misfits({"fields": 1}, ShiftFigures) == [".field_shape"]


@pytest.mark.parametrize("config", MODELS, ids=lambda path: path.parent.name)
def test_stored_evaluations_have_the_declared_form(config: Path) -> None:
    assert misfits(json.loads(config.read_text())["evaluation"], Figures) == []


def test_measured_figures_have_the_declared_form() -> None:
    def measured(metric: Metric, fields: np.ndarray) -> Figures:
        surrogate: Differentiable = relaxation(metric)
        curves = metric(*metric.parts(fields))
        return evaluate(
            surrogate, fields, curves, descent_fields=1, descent_steps=2, thorough=True, progress=False
        ).figures

    of_fields = measured(Minkowski((0.1, 1.0)), rain_array(6, 32, 32))
    assert of_fields.keys() == get_type_hints(Figures).keys()
    of_pairs = measured(FSS((0.1, 1.0), windows=(1, 3)), pairs_of_rain(6))
    assert of_pairs.keys() == of_fields.keys() - {"inversion", "shift"}
    fields, metric = rain_array(6, 32, 32), Minkowski((0.1, 1.0))
    quick = evaluate(relaxation(metric), fields, metric(fields), quick=True, progress=False).figures
    assert quick.keys() == Figures.__required_keys__ | {"reached", "verdict"}
    for figures in (of_fields, of_pairs, quick):
        assert misfits(json.loads(json.dumps(figures, allow_nan=False)), Figures) == []
