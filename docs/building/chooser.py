"""The page "Which loss?": what one has, and what to paste; `tests/project/test_site.py` runs all of it."""

import html
import json

from . import put

MODELS = {
    "one": "It predicts one field",
    "members": "It draws an ensemble",
    "generator": "It is a generator, trained already",
}
METRICS = {
    "minkowski": "Area, perimeter, number of objects and holes",
    "relaxed": "Another metric with a relaxation: FSS, CSI, box counts, spectrum",
    "trained": "A built-in metric without one: sizes of clusters, percolation, shapes",
    "own": "A Python function of mine",
}
FIELDS = {"rain": "Rain in mm/h, pixels of 2 km", "other": "Anything else"}
QUESTIONS = {"model": MODELS, "metric": METRICS, "fields": FIELDS}

_RAIN = {
    "minkowski": 'surrogate = emuloss.load("minkowski-opera")',
    "trained": 'surrogate = emuloss.load("clusters-opera")',
}
_OWN = """\
def peaks(field):
    \"\"\"Local maxima.\"\"\"
    inner = field[1:-1, 1:-1]
    around = np.max([field[:-2, 1:-1], field[2:, 1:-1], field[1:-1, :-2], field[1:-1, 2:]], axis=0)
    return float((inner > around).sum())
"""
_MOVING = 'reduction="none", slopes="measured"'
"""What losses are told that move fields themselves."""
WEIGHTS = {"minkowski": 0.002, "relaxed": 0.03, "trained": 0.01}
"""Where to begin, of losses; those measured: docs/super_resolution.md and docs/live_figures.md."""
SHARE = 0.5
"""Of the gradient, where to begin with live losses: slopes differ much from metric to metric."""


def recipe(model: str, metric: str, fields: str) -> str:
    """What to paste. It expects `prediction`, `target`, `fields`, and what the model is."""
    imports = "import emuloss\nimport numpy as np" if metric == "own" else "import emuloss"
    return f"{imports}\n\n{_made(model, metric, fields)}\n\n{_used(model, metric, fields)}\n"


def _live(metric: str, fields: str) -> bool:
    """Whether a network has to learn first."""
    return metric == "own" or (metric == "trained" and fields == "other")


def _made(model: str, metric: str, fields: str) -> str:
    """The lines that make a surrogate, or a live loss."""
    if _live(metric, fields):
        named = "peaks" if metric == "own" else "metric"
        thresholds = "thresholds=[0.5, 2.0])  # in the unit of your fields"
        first = f"{_OWN}\n" if metric == "own" else f'metric = emuloss.metric("clusters", {thresholds}'
        lessons = "a sample (N, H, W): it learns on them first"
        if model == "generator":
            # Samples are moved themselves, where slopes that the metric measures lead best.
            return f"{first}\n# fields: {lessons}\nloss = emuloss.live({named}, fields, {_MOVING})"
        made = f"{first}\nloss = emuloss.live({named}, fields)  # {lessons}"
        return made if model == "one" else f"{made}\nsurrogate = loss.surrogate"
    if fields == "rain" and metric in _RAIN:
        return f"{_RAIN[metric]}  # ships with the package"
    if metric == "relaxed":
        asked = (
            '"spectrum", bins=16'
            if model == "members"
            else '"fss", thresholds=[0.5, 2.0], windows=[1, 5, 17]'
        )
        return f"metric = emuloss.metric({asked})\nsurrogate = emuloss.relax(metric)  # nothing is trained"
    return (
        'metric = emuloss.metric("minkowski", thresholds=[0.1, 0.5, 1, 5])  # in the unit of your fields\n'
        "surrogate = emuloss.relax(metric, fields=fields)  # a sample (N, H, W); nothing is trained"
    )


def _used(model: str, metric: str, fields: str) -> str:
    """The lines of a step of training, or of a sampler."""
    if model == "members":
        return (
            "score = surrogate.as_score()\n\n"
            "# in your training step: members (N, M, H, W), target (N, H, W)\n"
            "value = crps(members, target) + 0.005 * score(members, target)\nvalue.backward()"
        )
    if model == "generator":
        told = f'forward="exact", {_MOVING}' if metric == "trained" else 'reduction="none"'
        made = "" if _live(metric, fields) else f"loss = surrogate.as_loss({told})\n"
        return (
            f"{made}guidance = emuloss.Guidance(loss, target=target)\n\n"
            "# in a step of your sampler: noisy fields x, the clean ones that it expects, and how far it is\n"
            "clean = clean + guidance(x, clean, progress)  # both (N, 1, H, W)"
        )
    if _live(metric, fields):
        return (
            f'combined = emuloss.Combined({{"mse": mse, "metric": loss}}, metric=emuloss.Share({SHARE}))\n\n'
            "# in your training step\n"
            "combined.step(step / steps)  # the share rises\n"
            "combined(prediction, target).backward()\n"
            "combined.learn()  # after optimizer.step()"
        )
    lines = ["loss = surrogate.as_loss()", "", "# in your training step"]
    if metric in ("minkowski", "relaxed"):
        lines.append("loss.anneal(step / steps)  # from a wide step to a narrow one")
    lines += [
        f"value = mse(prediction, target) + {WEIGHTS[metric]} * loss(prediction, target)",
        "value.backward()",
    ]
    return "\n".join(lines)


def notes(model: str, metric: str, fields: str) -> list[str]:
    """What to know of weight, temperature and cost, in HTML."""
    found = []
    if model == "one" and _live(metric, fields):
        found.append(
            f"<b>Weight.</b> Begin with a share of {SHARE:g} of the gradient beside the squared error of "
            "log(1 + x): slopes differ much from metric to metric."
        )
    elif model == "one":
        found.append(
            f"<b>Weight.</b> Begin with {WEIGHTS[metric]} beside the squared error of log(1 + x). Double "
            f"it until pixels "
            'get worse than you can bear: <a href="super_resolution.html">fronts</a> show what to expect.'
        )
    if model == "members":
        found.append(
            "<b>Weight.</b> 0.005 beside the CRPS of log(1 + x), from two members on. A score of curves "
            "and one of "
            'spectra together gave members that look like rain: <a href="ensembles.html">ensembles</a>.'
        )
    if model == "generator":
        found.append(
            "<b>Strength.</b> <code>strength=</code> says how far it may go, as a share of what the model "
            "itself still goes. Let <code>clean</code> have a graph to <code>x</code>: through the model, "
            "samples come to 12 % of the distance, without it to 51 % and with more texture: "
            '<a href="generation.html">figures</a>, and <a '
            'href="_generated/tutorials/plot_06_steering.html">a tutorial</a>.'
        )
    if metric == "relaxed" and model == "members":
        found.append(
            "<b>Which metric.</b> Scores of pairs, such as FSS, are no distances of negative type, and "
            "make no proper "
            "score of an ensemble. Hence the spectrum, whose gradient is its own: it has no temperature."
        )
    elif metric in ("minkowski", "relaxed"):
        found.append(
            "<b>Temperature.</b> Annealing leads from 0.2, which is felt far from a threshold, to 0.05."
            if model == "one"
            else "<b>Temperature.</b> Leave it; <code>surrogate.temperature = 0.2</code> reaches further."
        )
    if metric in ("minkowski", "relaxed"):
        found.append(
            "<b>Cost.</b> Minkowski curves: about a tenth of the training step of a small U-Net, where "
            "those of the "
            "targets are computed once (<code>target_curves=</code>); by size: <a "
            'href="speed.html">speed</a>.'
        )
    elif _live(metric, fields):
        found.append(
            "<b>Cost.</b> First lessons of half a minute on two cores (64 x 64 pixels; "
            "<code>budget=</code>), then a step "
            'of learning beside each of yours: <a href="live.html">live losses</a>.'
        )
    else:
        found.append(
            "<b>Cost.</b> A network as a loss, on a quarter of each batch, added 29 to 60 % to the step "
            "of a small U-Net "
            '(<a href="super_resolution.html">measured</a>).'
        )
    if metric == "relaxed" and model != "members":
        found.append(
            "<b>Value.</b> Of FSS and CSI the loss is <code>1 - score</code>, averaged over thresholds."
        )
    if metric == "trained":
        found.append(
            "<code>percolation</code>, <code>morphology</code> and <code>betti-error</code> go the same way."
        )
    return found


def write(app, config) -> None:
    """The page: every answer as a section, of which a script shows the one that is asked for."""
    forms, panels = [], []
    for name, options in QUESTIONS.items():
        title = {"model": "Your model", "metric": "What it should get right", "fields": "Your fields"}[name]
        inputs = "".join(
            f'<label><input type="radio" name="{name}" value="{key}"{" checked" if k == 0 else ""}> '
            f"{text}</label>"
            for k, (key, text) in enumerate(options.items())
        )
        forms.append(f"<fieldset><legend>{title}</legend>{inputs}</fieldset>")
    for model in MODELS:
        for metric in METRICS:
            for fields in FIELDS:
                key = json.dumps([model, metric, fields])
                hidden = "" if (model, metric, fields) == ("one", "minkowski", "rain") else " hidden"
                listed = "".join(f"<li>{note}</li>" for note in notes(model, metric, fields))
                panels.append(
                    f"<section class='answer' data-answer='{html.escape(key)}'{hidden}>\n\n"
                    f"```python\n{recipe(model, metric, fields)}```\n\n<ul>{listed}</ul>\n</section>"
                )
    put(
        "chooser.md",
        "<form class='chooser' aria-label='What do you have?'>" + "".join(forms) + "</form>\n\n"
        "<div class='answers' aria-live='polite'>\n\n" + "\n\n".join(panels) + "\n\n</div>\n",
    )
