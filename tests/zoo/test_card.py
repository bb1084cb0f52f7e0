"""The model card: what it says of how good a surrogate is."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
from emuloss.evaluation import headline, verdict_of
from emuloss.zoo import checkpoint
from emuloss.zoo.card import card
from emuloss.zoo.names import MODELS


def written(evaluation: dict[str, Any]) -> str:
    """The card of a bundled checkpoint with another evaluation."""
    module, manifest = checkpoint.load(MODELS / "components-opera")
    manifest = replace(manifest, evaluation=evaluation)
    return card(manifest, module.metric, trained=False)


@pytest.fixture(scope="module")
def stored() -> dict[str, Any]:
    return checkpoint.load(MODELS / "components-opera")[1].evaluation


def test_the_verdict_stands_above_the_figures(stored: dict[str, Any]) -> None:
    text = written(stored)
    assert f"- **Verdict**: {headline(verdict_of(stored))}." in text
    assert text.index("## Verdict") < text.index("## Measured on held-out fields")


def test_a_surrogate_that_learnt_nothing_says_so_first(stored: dict[str, Any]) -> None:
    figures = copy.deepcopy(stored)
    figures.pop("verdict", None)
    figures["fidelity"]["outputs"]["components"]["r2_mean"] = -0.08
    figures["descent"]["removed"] = -60.0
    text = written(figures)
    said = text[text.index("## Verdict") :].splitlines()[2]
    assert said.startswith("- **Verdict**: UNFIT, do not train with it: worse than a constant (components:")
    assert "-60.0 % of the exact distance removed" in said


def test_a_quick_evaluation_has_a_card(stored: dict[str, Any]) -> None:
    figures = copy.deepcopy(stored)
    for key in ("descent", "descent_noisy", "gradients"):
        del figures[key]
    figures.pop("verdict", None)
    text = written(figures)
    assert "- **unmeasured**: training, from smooth predictions" in text
    assert "removed in descent" not in text
