"""The family of emulators on one data set with one budget: the tables of docs/ablation.md.

    python benchmarks/ablation.py --opera FOLDER --out runs/ablation [--only NAME ...]

Each variant is trained on the same radar patches and synthetic rain with the same number of fields seen,
evaluated on the composites after the training period, and certified. Its folder then is a checkpoint like any
other. Finished variants are kept in the folder and not run again; an interrupted one goes on where it was.
The tables in docs/ablation.md, between its markers, are then drawn anew from the folder; with --only, the
rows of these variants, and the others stay.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from emuloss.datasets import LabelledFields, Rain, assign_splits, label, open_source
from emuloss.emulators import ARCHITECTURES, spreads_in
from emuloss.emulators.certificates import certify
from emuloss.evaluation import evaluate, write_report
from emuloss.findings.figures import CLASSES
from emuloss.losses import Provenance
from emuloss.metrics import WET_LEVELS, Minkowski
from emuloss.training import Trainer, Training
from emuloss.zoo import Surrogate, list_models, load

THRESHOLDS = (0.105, 0.115, 0.125, 0.145, 0.165, 0.185, 0.215, 0.245, 0.285, 0.325, 0.385)
THRESHOLDS += (0.455, 0.545, 0.655, 0.795, 0.985, 1.245, 1.645, 2.305, 3.685, 8.865)
"""The quantiles WET_LEVELS of the wet pixels of an evening, moved between the steps of the data."""
OUTPUTS = ("area", "perimeter", "euler", "components")
STRIDE = 48
"""Step between training patches, in pixels."""
RAIN = {"count": 3072, "regimes": ("showers", "widespread")}
"""Synthetic rain trained on. Regimes that `emuloss.evaluation.shift` asks about are left to it."""
VALIDATIONS = 30
"""Of each training, and its patience: none may stop before its budget is spent."""
SHARES = (1 / 8, 1 / 4, 1 / 2, 1.0)
"""Of a training, at which its progress is shown."""
REVISION = 2
"""Of what is measured: figures of an older one are measured again. 2: inversions are annealed."""
BUDGET = 16000
"""Fields that each network on the page has seen."""
PAGE = Path(__file__).resolve().parent.parent / "docs" / "ablation.md"


@dataclass(frozen=True)
class Variant:
    """An architecture, its arguments, and what differs in its training."""

    arch: str
    arguments: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)


VARIANTS = {
    "baseline": Variant("baseline"),
    "lipschitz": Variant("lipschitz"),
    "constrained": Variant("constrained"),
    "constrained, textbook": Variant("constrained", {"isoperimetric": "textbook"}),
    "constrained, no spectral": Variant("constrained", {"spectral": "none"}),
    "constrained, one-sided": Variant("constrained", {}, {"penalty": "one-sided"}),
    "constrained, two-sided": Variant("constrained", {}, {"penalty": "two-sided"}),
    "constrained, jacobian": Variant("constrained", {}, {"penalty": "jacobian"}),
    "constrained, sobolev": Variant("constrained", {}, {"sobolev": 1.0}),
    "certified": Variant("certified"),
    "hybrid": Variant("hybrid"),
    "relaxed, 0.2": Variant("relaxed", {"temperature": 0.2}),
    "relaxed, 0.05": Variant("relaxed", {"temperature": 0.05}),
    "relaxed, 0.01": Variant("relaxed", {"temperature": 0.01}),
    "excursion": Variant("excursion"),
}


class Data:
    """The patches of all composites, split in time, and synthetic rain, with their exact curves."""

    def __init__(self, opera: str, out: Path) -> None:
        out.mkdir(parents=True, exist_ok=True)
        source = open_source(f"opera:{opera}", stride=STRIDE)
        self.metric = Minkowski(
            THRESHOLDS, source.pixel_size, OUTPUTS, length_unit=source.length_unit, levels=WET_LEVELS
        )
        store = label(source, self.metric, out / "labels.h5", splits=assign_splits(source))
        rain = Rain(size=source.field_shape, pixel_size=source.pixel_size, **RAIN)
        synthetic = label(rain, self.metric, out / "rain.h5", splits=assign_splits(rain, test=0))
        self.quantum, self.unit = store.quantum, source.unit
        self.facts = {
            "source": store.source_config,
            "synthetic": synthetic.source_config,
            "fields": {role: store.counts[role] + synthetic.counts[role] for role in ("train", "validation")},
        }
        self.training = joined(store, synthetic, "train")
        self.validation = joined(store, synthetic, "validation")
        self.test = store.split("test")


def joined(first: LabelledFields, second: LabelledFields, role: str) -> tuple[np.ndarray, np.ndarray]:
    """Fields and curves of two stores."""
    fields, curves = zip(first.split(role), second.split(role), strict=True)
    return np.concatenate(fields), np.concatenate(curves)


def trained(variant: Variant, data: Data, folder: Path, budget: int) -> Surrogate:
    """The variant's surrogate, trained if it has weights."""
    torch.manual_seed(0)
    spreads = spreads_in(data.training[0][::16], data.metric.thresholds)
    module = ARCHITECTURES[variant.arch](data.metric, spreads=spreads, **variant.arguments)
    facts: dict[str, Any] = {**data.facts}
    if any(True for _ in module.parameters()):
        facts["weights"] = sum(p.numel() for p in module.parameters())
        options = Training(
            minutes=None, fields=budget, validations=VALIDATIONS, patience=VALIDATIONS, **variant.training
        )
        trainer = Trainer(
            module,
            data.training,
            data.validation,
            options,
            folder,
            quantum=data.quantum,
        )
        trainer.run()
        facts |= {"fields_seen": trainer.seen, "seconds": round(trainer.seconds)}
    provenance = Provenance(
        unit=data.unit,
        field_shape=list(data.test[0].shape[1:]),
        license="apache-2.0",
        training=facts,
    )
    surrogate = Surrogate(module, variant.arch, provenance)
    surrogate.save_pretrained(folder)
    return surrogate


def measured(name: str, variant: Variant, data: Data, folder: Path, budget: int) -> dict[str, Any]:
    """All figures of a variant, kept in its folder."""
    path = folder / "figures.json"
    settings = {"variant": asdict(variant), "budget": budget, "data": data.facts, "revision": REVISION}
    if path.exists():
        figures = json.loads(path.read_text())
        if figures["settings"] == json.loads(json.dumps(settings)):
            return figures
    print(f"== {name}", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    surrogate = trained(variant, data, folder, budget)
    fields, curves = data.test
    evaluation = evaluate(surrogate, fields, curves, field_unit=data.unit, thorough=True)
    bound = evaluation.figures["certificate"]["bound"]
    reloaded = certify(load(folder), fields.shape[1:]).bound
    if reloaded != bound:
        raise RuntimeError(f"{folder}: the certificate changed from {bound} to {reloaded} on reload")
    log = folder / "log.csv"
    surrogate.provenance.evaluation = dict(evaluation.figures)
    write_report(
        folder / "report.png",
        surrogate,
        evaluation,
        fields,
        curves,
        training_log=log if log.exists() else None,
    )
    surrogate.save_pretrained(folder)  # after the picture, which its card shows
    figures = {
        "settings": settings,
        "training": surrogate.trained_on,
        "learning": learning(log) if log.exists() else None,
        **evaluation.figures,
    }
    path.write_text(json.dumps(figures, indent=1))
    return figures


def learning(log: Path) -> list[float]:
    """Distance on the validation fields, least so far, once each of `SHARES` of the budget was spent."""
    with log.open(newline="") as file:
        found = [float(row["validation_loss"]) for row in csv.DictReader(file)]
    return [min(found[: max(1, round(share * len(found)))]) for share in SHARES]


Column = tuple[str, Callable[[dict[str, Any]], str]]
"""Header and text of a cell, given a variant's figures."""


def shown(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def score(value: float | None, form: str) -> str:
    """An R2; how far it is below any use does not matter."""
    return "< -1" if value is not None and value < -1 else shown(value, form)


def r_squared(figures: dict[str, Any], output: str) -> str:
    found = figures["fidelity"]["outputs"][output]
    return f"{score(found['r2_mean'], '.4f')} / {score(found['r2_worst'], '.3f')}"


def training_cost(facts: dict[str, Any]) -> float | None:
    """Milliseconds of training for each field seen."""
    return 1e3 * facts["seconds"] / facts["fields_seen"] if "seconds" in facts else None


def violations(figures: dict[str, Any]) -> str:
    """The most broken constraint, in %."""
    return shown(max(figures["fidelity"]["violations"].values()), ".2f")


def bound_of(figures: dict[str, Any]) -> str:
    return shown(figures["certificate"]["bound"], ".3g")


def inverted(target: str) -> Callable[[dict[str, Any]], str]:
    return lambda figures: shown(figures["inversion"]["targets"][target]["rmse"], ".2f")


def over_outputs(found: dict[str, Any]) -> str:
    """The mean over outputs of R2 means; where it is undefined or refused, a dash."""
    values = [each["r2_mean"] for each in found.get("outputs", {}).values()]
    values = [value for value in values if value is not None]
    return score(float(np.mean(values)), ".3f") if values else "-"


FIDELITY: tuple[Column, ...] = (
    *((f"R2 {name}", lambda figures, name=name: r_squared(figures, name)) for name in OUTPUTS),
    (
        "distance",
        lambda f: shown(sum(f["fidelity"]["outputs"][name]["distance"] for name in OUTPUTS), ".3f"),
    ),
    ("violations, %", violations),
    ("textbook, %", lambda f: shown(f["fidelity"]["textbook_isoperimetry"]["emulated"], ".1f")),
)
GRADIENTS: tuple[Column, ...] = (
    ("bound", bound_of),
    ("slope found", lambda f: shown(f["certificate"]["largest_slope"], ".3g")),
    ("cosine", lambda f: shown(f["gradients"]["total"]["cosine"], ".2f")),
    ("near zero, %", lambda f: shown(f["gradients"]["sizes"]["near_zero"], ".0f")),
    ("descent, %", lambda f: shown(f["descent"]["removed"], ".1f")),
    ("of components", lambda f: shown(f["descent"]["outputs"]["components"]["removed"], ".1f")),
    ("RMSE after", lambda f: shown(f["descent"]["rmse_after"], ".2f")),
    ("noisy, %", lambda f: shown(f["descent_noisy"]["removed"], ".1f")),
)
LONGER: tuple[Column, ...] = (
    ("fields seen", lambda f: shown(f["training"].get("fields_seen"), ",d")),
    *FIDELITY[:-1],
    ("descent, %", lambda f: shown(f["descent"]["removed"], ".1f")),
    ("noisy, %", lambda f: shown(f["descent_noisy"]["removed"], ".1f")),
)
LEARNING: tuple[Column, ...] = tuple(
    (f"{share:.3g}", lambda f, k=k: shown(f["learning"][k] if f["learning"] else None, ".3f"))
    for k, share in enumerate(SHARES)
)
COSTS: tuple[Column, ...] = (
    ("weights", lambda f: shown(f["training"].get("weights"), ",d")),
    ("ms forward", lambda f: shown(f["timing"]["forward"], ".2f")),
    ("ms with gradient", lambda f: shown(f["timing"]["gradient"], ".2f")),
    ("training, min", lambda f: shown(f["training"].get("seconds", 0) / 60, ".1f")),
    ("ms a field", lambda f: shown(training_cost(f["training"]), ".0f")),
)


def by_class() -> tuple[Column, ...]:
    def cell(name: str) -> Callable[[dict[str, Any]], str]:
        return lambda f: (
            f"{over_outputs(f['classes'][name])} / "
            + shown(sum(f["classes"][name]["outputs"][output]["distance"] or 0 for output in OUTPUTS), ".3f")
        )

    return tuple((name, cell(name)) for name in CLASSES)


def by_shift(figures: dict[str, dict[str, Any]]) -> tuple[Column, ...]:
    names = max((list(found["shift"]) for found in figures.values()), key=len)
    return tuple((name, lambda f, name=name: over_outputs(f["shift"].get(name, {}))) for name in names)


def by_target(figures: dict[str, dict[str, Any]]) -> tuple[Column, ...]:
    names = next(iter(figures.values()))["inversion"]["targets"]
    return tuple((name, inverted(name)) for name in names)


def table(figures: dict[str, dict[str, Any]], columns: tuple[Column, ...]) -> list[str]:
    """Lines of a table: header, rule, and a row a variant."""
    rows = [["", *(header for header, _ in columns)], ["---", *("---:" for _ in columns)]]
    rows += [[name, *(cell(found) for _, cell in columns)] for name, found in figures.items()]
    return [f"| {' | '.join(row)} |" for row in rows]


def merged(old: list[str], new: list[str]) -> list[str]:
    """A table with the rows of a new one in place of its own, and rows of others as they were."""
    if old[:1] != new[:1]:
        raise RuntimeError(f"the page's columns are {old[:1]}, not {new[:1]}; run all variants")
    rows = {line.split("|")[1].strip(): line for line in (*old[2:], *new[2:])}
    return new[:2] + [rows[name] for name in VARIANTS if name in rows]


def bundled() -> dict[str, dict[str, Any]]:
    """Figures of the Minkowski surrogates that the package brings, trained for longer, on radar alone."""
    surrogates = {name: load(name) for name in list_models("minkowski-opera*")}
    return {name: {"training": each.trained_on, **each.evaluation} for name, each in surrogates.items()}


def write_page(figures: dict[str, dict[str, Any]], *, partly: bool = False) -> None:
    """Put the tables between their markers; the text around them stays, and partly the rows of others."""
    tables = {
        "fidelity": FIDELITY,
        "gradients": GRADIENTS,
        "inversion": by_target(figures),
        "classes": by_class(),
        "shift": by_shift(figures),
        "learning": LEARNING,
        "costs": COSTS,
    }
    text = PAGE.read_text()
    for name, columns in tables.items():
        text = put(text, name, table(figures, columns), partly=partly)
    PAGE.write_text(put(text, "longer", table(bundled(), LONGER)))


def put(text: str, name: str, lines: list[str], *, partly: bool = False) -> str:
    """A page with a table between the markers of that name."""
    found = re.search(f"<!-- {name} -->\n(.*?)<!-- end -->", text, re.DOTALL)
    if not found:
        raise RuntimeError(f"{PAGE} has no place marked <!-- {name} -->")
    if partly:
        lines = merged(found[1].splitlines(), lines)
    return text[: found.start(1)] + "\n".join(lines) + "\n" + text[found.end(1) :]


def main() -> None:
    parser = argparse.ArgumentParser(description="Train, evaluate and certify the family of emulators.")
    parser.add_argument("--opera", required=True, help="folder of ODIM-HDF5 composites")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument(
        "--budget", type=int, default=BUDGET, help="fields seen by each; the page has the default"
    )
    parser.add_argument("--only", nargs="+", choices=VARIANTS, help="variants to run; default: all")
    arguments = parser.parse_args()
    data = Data(arguments.opera, arguments.out)
    figures = {}
    for name in arguments.only or VARIANTS:
        folder = arguments.out / f"{re.sub(r'[^a-z0-9.]+', '-', name)}-{arguments.budget}"
        figures[name] = measured(name, VARIANTS[name], data, folder, arguments.budget)
    if arguments.budget == BUDGET:
        write_page(figures, partly=bool(arguments.only))


if __name__ == "__main__":
    main()
