"""The verdict: what figures are told to be good for, and what not."""

from __future__ import annotations

import copy
import json
import math
import warnings
from pathlib import Path
from typing import Any

import emuloss
import pytest
import torch
from drawn import rain_array
from emuloss.emulators import ARCHITECTURES, Differentiable, relaxation
from emuloss.evaluation import evaluate, headline, markdown_verdict, summary_table, verdict, verdict_of
from emuloss.findings.criteria import CRITERIA, FAIR, GOOD, POOR, UNMEASURED, WORSE
from emuloss.findings.figures import Figures
from emuloss.losses import Provenance, UnfitWarning
from emuloss.metrics import Metric, Minkowski
from emuloss.zoo import Surrogate
from stand_ins import Bare

PACKAGE = Path(emuloss.__file__).parent
MODELS = sorted((PACKAGE / "zoo" / "models").glob("*/config.json"))
METRIC = Minkowski((0.1, 0.5, 2.0), outputs=("area", "components"))
CRITERION = {criterion.name: criterion for criterion in CRITERIA}


def evaluated(surrogate: Differentiable, **options: Any) -> Figures:
    fields = rain_array(40, 32, 32, law="cells")
    metric = surrogate.metric
    return evaluate(
        surrogate, fields, metric(fields), descent_fields=2, descent_steps=60, progress=False, **options
    ).figures


class Faulty(Bare):
    """A relaxation with faults: a share of its curves is left, and its gradient has another sign."""

    def __init__(self, share: float, sign: float = 1.0, metric: Metric = METRIC) -> None:
        super().__init__()
        self.metric, self.share, self.sign = metric, share, sign
        self.relaxed = relaxation(metric)

    def forward(self, fields: torch.Tensor) -> torch.Tensor:
        x = (1 - self.sign) * fields.detach() + self.sign * fields
        return self.share * self.relaxed(x)


@pytest.fixture(scope="module")
def sound() -> Figures:
    return evaluated(relaxation(METRIC))


def test_a_relaxation_is_fit(sound: Figures) -> None:
    found = sound["verdict"]
    assert found["fit"] == "fit"
    assert headline(found) == "fit for use"
    assert found["not_for"] == found["advice"] == []
    assert any(phrase.startswith("training, from smooth predictions (") for phrase in found["good_for"])
    assert {check["criterion"] for check in found["checks"]} == CRITERION.keys()


def test_a_surrogate_that_gives_nothing_is_unfit() -> None:
    """Zeros are worse than the mean of the exact values."""
    found = evaluated(Faulty(0.0))["verdict"]
    assert found["fit"] == "unfit"
    assert any(phrase.startswith("worse than a constant (area, components: ") for phrase in found["why"])
    assert any(phrase.startswith("values (") for phrase in found["not_for"])
    assert headline(found).startswith("UNFIT, do not train with it: gradient steps do nothing: its gradient")
    assert "; worse than a constant" in headline(found)
    assert "give fields in which the metric varies" not in " ".join(found["advice"])  # it does


def test_a_descent_that_makes_things_worse_is_unfit_whatever_the_values() -> None:
    figures = evaluated(Faulty(1.0, sign=-1.0))
    assert min(found["r2_mean"] or 0 for found in figures["fidelity"]["outputs"].values()) > 0.9
    assert (figures["descent"]["removed"] or 0) < 0
    found = figures["verdict"]
    assert found["fit"] == "unfit"
    assert any(phrase.startswith("gradient steps make blurred fields worse (-") for phrase in found["why"])
    assert any(phrase.startswith("gradients point away") for phrase in found["why"])
    assert any(phrase.startswith("values (area, components: ") for phrase in found["good_for"])


def test_the_verdict_ends_the_summary_and_is_data(sound: Figures) -> None:
    bad = evaluated(Faulty(0.0))
    for figures in (sound, bad):
        lines = summary_table(figures).splitlines()
        start = next(k for k, line in enumerate(lines) if line.startswith("Verdict "))
        assert lines[start].startswith(f"Verdict     {headline(figures['verdict'])[:20]}")
        assert max(map(len, lines[start:])) < 100
        assert not any(line.startswith(("Time", "Global")) for line in lines[start:])
        assert json.loads(json.dumps(figures, allow_nan=False)) == figures
        assert markdown_verdict(figures).startswith("- **Verdict**: ")


def test_what_was_not_measured_is_said(sound: Figures) -> None:
    figures = copy.deepcopy(sound)
    for key in ("descent", "descent_noisy", "gradients", "verdict"):
        del figures[key]
    found = verdict(figures)
    assert found["fit"] == "fit"
    unmeasured = ("training, from smooth predictions", "training, from noisy predictions", "gradients")
    assert set(unmeasured) < set(found["not_measured"])
    assert "measure what gradient steps do, by emuloss evaluate without --quick" in found["advice"]
    for output in figures["fidelity"]["outputs"].values():
        output |= {"r2_mean": None, "r2_worst": None}
    assert verdict(figures)["fit"] == "unknown"


@pytest.mark.parametrize("config", MODELS, ids=lambda path: path.parent.name)
def test_evaluations_of_earlier_versions_get_a_verdict(config: Path) -> None:
    figures = json.loads(config.read_text())["evaluation"]
    figures.pop("verdict", None)
    found = verdict_of(figures)
    assert found["fit"] in ("fit", "limited")
    values = {name: fit["r2_mean"] for name, fit in figures["fidelity"]["outputs"].items()}
    checked = {c["of"]: c["value"] for c in found["checks"] if c["criterion"] == "values"}
    assert checked == values
    noisy = figures["descent_noisy"]["removed"]
    assert (noisy < -1) == any("make noisy fields worse" in phrase for phrase in found["why"])


@pytest.mark.parametrize(
    ("name", "value", "grade"),
    [
        ("values", 0.9, GOOD),
        ("values", 0.89, FAIR),
        ("values", 0.3, POOR),
        ("values", -0.08, WORSE),
        ("values", None, UNMEASURED),
        ("values", math.nan, UNMEASURED),
        ("descent", 50.0, GOOD),
        ("descent", 49.0, FAIR),
        ("descent", 0.0, POOR),
        ("descent", -60.0, WORSE),
        ("constraints", 1.0, GOOD),
        ("constraints", 5.0, FAIR),
        ("constraints", 50.0, POOR),
        ("worst threshold", -3.0, POOR),
    ],
)
def test_grades(name: str, value: float | None, grade: str) -> None:
    assert CRITERION[name].grade(value) == grade


def altered(figures: Figures, **outputs: float) -> Figures:
    """Figures with another mean R2 in some outputs."""
    found = copy.deepcopy(figures)
    for name, r2 in outputs.items():
        found["fidelity"]["outputs"][name]["r2_mean"] = r2
    return found


def test_one_output_that_learnt_nothing_is_named(sound: Figures) -> None:
    found = verdict(altered(sound, components=-0.08))
    assert found["fit"] == "limited"
    assert found["why"] == ["worse than a constant (components: R2 -0.080)"]
    assert "leave out components" in found["advice"]
    assert "values (area: R2" in " ".join(found["good_for"])
    assert "R2 below -9" in headline(verdict(altered(sound, area=-1e9, components=-1.2)))


def test_advice_fits_the_surrogate(sound: Figures) -> None:
    bad = altered(sound, area=-0.5, components=-1.0)

    def advice(**known: bool) -> str:
        return " ".join(verdict(bad, **known)["advice"])

    assert "train for longer" in advice(trained=True, relaxable=False)
    assert "temperature" not in advice(trained=True, relaxable=False)
    assert "needs no training" in advice(trained=True, relaxable=True)
    assert "train for longer" not in advice(trained=False)
    assert "temperature" in advice(trained=False)
    assert "temperature" in advice(trained=False, tempered=True)
    assert "temperature" not in advice(trained=False, tempered=False)
    few = copy.deepcopy(sound)
    few["fidelity"]["fields"] = 12
    assert any("more than 12 fields" in line for line in verdict(few)["advice"])


def poorly(figures: Figures, blurred: float, noisy: float) -> Figures:
    """Figures with R2 of 0.4, and such shares of the distance removed."""
    found = altered(figures, area=0.4, components=0.4)
    for descent, removed in ((found["descent"], blurred), (found["descent_noisy"], noisy)):
        descent["removed"] = removed
        for output in descent["outputs"].values():
            output["removed"] = removed
    return found


def test_what_is_good_for_nothing_that_matters_is_unfit(sound: Figures) -> None:
    worse = poorly(sound, 9.2, -7.9)
    assert verdict(worse)["why"][0].startswith("gradient steps make noisy fields worse")
    assert any(phrase.startswith("values (area, components: ") for phrase in verdict(worse)["why"])
    found = verdict(poorly(sound, 9.2, 7.9), trained=True)
    assert found["fit"] == verdict(worse)["fit"] == "unfit"
    assert headline(found).startswith(
        "UNFIT, do not train with it: values (area, components: at worst R2 0.4"
    )
    assert found["advice"][0].startswith("let the exact metric tell where it leads: as_loss(live=True)")
    assert verdict(poorly(sound, 30.0, 7.9))["fit"] == "limited"
    quick = poorly(sound, 9.2, 7.9)
    del quick["descent"], quick["descent_noisy"]
    assert verdict(quick)["fit"] == "limited"


def test_a_loss_of_what_is_unfit_warns(sound: Figures) -> None:
    def judged(figures: Figures) -> Surrogate:
        provenance = Provenance(evaluation={**figures, "verdict": verdict(figures)})
        network = ARCHITECTURES["constrained"](METRIC, widths=(8, 16), hidden=16)
        return Surrogate(network, "constrained", provenance)

    good, bad = judged(sound), judged(poorly(sound, 9.2, 7.9))
    for use in (bad.as_loss, bad.as_score):
        with pytest.warns(UnfitWarning, match="found unfit") as told:
            use()
        assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        good.as_loss()
        good.as_score()
        bad.as_loss(slopes="checked", forward="exact")
        bad.as_loss(forward="exact")
        bad.as_loss(live=True)


def test_the_advice_against_noise_fits_the_surrogate(sound: Figures) -> None:
    def advice(tempered: bool | None) -> list[str]:
        found = verdict(poorly(sound, 60.0, -5.0), trained=True, tempered=tempered)
        return [line for line in found["advice"] if line.startswith("begin a training without it")]

    assert advice(False) == ["begin a training without it until predictions are smooth"]
    assert ["high temperature" in line for line in (*advice(True), *advice(None))] == [True, True]


def test_gradients_at_one_field_say_nothing_of_others(sound: Figures) -> None:
    of = {}
    for fields in (1, 2):
        found = copy.deepcopy(sound)
        found["gradients"]["defined"] = fields
        found["gradients"]["total"]["cosine_smoothed"] = 0.7
        of[fields] = verdict(found)
    assert "gradients" in of[1]["not_measured"]
    assert any(phrase.startswith("gradients (") for phrase in of[2]["good_for"])


def test_a_purpose_is_named_once_however_badly_it_is_served(sound: Figures) -> None:
    found = verdict(altered(sound, area=0.3, components=-0.2))
    assert found["not_for"] == ["values (area, components: at worst R2 -0.200)"]
    assert found["why"] == ["worse than a constant (components: R2 -0.200)"]


def test_an_output_does_not_hide_the_whole(sound: Figures) -> None:
    figures = copy.deepcopy(sound)
    figures["descent"]["removed"] = 9.2
    figures["descent"]["outputs"]["area"]["removed"] = -30.0
    found = verdict(figures)
    phrase = "(9.2 % of the exact distance removed; area: -30.0 % of the exact distance removed)"
    assert found["not_for"] == [f"training, from smooth predictions {phrase}"]


def test_where_nothing_varies_nothing_is_known(sound: Figures) -> None:
    """Fields that are all dry say nothing against a surrogate."""
    dry = copy.deepcopy(sound)
    for output in dry["fidelity"]["outputs"].values():
        output |= {"r2_mean": None, "r2_worst": None}
    for descent in (dry["descent"], dry["descent_noisy"]):
        descent |= {"removed": None, "outputs": {}}
    dry["gradients"]["sizes"]["norm"]["max"] = 0.0
    found = verdict(dry, trained=True)
    assert found["fit"] == "unknown"
    assert found["advice"] == ["give fields in which the metric varies: in these it hardly does"]


def test_shifted_data_on_which_it_fails_are_named(sound: Figures) -> None:
    figures = copy.deepcopy(sound)
    fit = {"r2_worst": 0.0, "distance": 1.0}
    figures["shift"] = {
        name: {"fields": 4, "field_shape": [8, 8], "outputs": {"area": {"r2_mean": r2, **fit}}}
        for name, r2 in (("unshifted", 0.99), ("x 3", 0.95), ("coarse", -0.4))
    }
    figures["shift"]["smaller"] = {"fields": 4, "field_shape": [4, 4], "refused": "fields must be larger"}
    found = verdict(figures)
    assert found["fit"] == "limited"
    assert found["why"] == ["worse than a constant on other data (coarse: R2 -0.400)"]
    assert "data unlike the held-out fields (x 3: R2 0.950)" in found["good_for"]


def test_the_criteria_are_those_of_the_docs() -> None:
    page = (PACKAGE / "docs" / "verdict.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if "|" in line]

    def bound(criterion: Any, value: float | None) -> str:
        return "-" if value is None else f"{'' if criterion.rising else 'at most '}{value:g}"

    assert rows[2:] == [
        [
            criterion.name,
            criterion.figure,
            bound(criterion, criterion.good),
            bound(criterion, criterion.fair),
            bound(criterion, criterion.worse),
        ]
        for criterion in CRITERIA
    ]
