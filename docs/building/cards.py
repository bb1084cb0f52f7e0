"""Cards: a page for each metric and for each surrogate that ships, made of what they declare and measured."""

import inspect
import os
import re
import time
from pathlib import Path

import emuloss
import matplotlib
import numpy as np
import torch
from emuloss.datasets import Rain
from emuloss.errors import EmulossError
from emuloss.metrics.constraints import FRAME, AtLeast, AtMost

from . import GENERATED, put
from .docstrings import as_restructured_text
from .running import STYLE

_WHEN_NOT = Path(__file__).with_name("when_not.md")
THRESHOLDS = (0.5, 2.0, 8.0)
"""Of the cards' examples, in mm/h; the second is shown."""
NOT_FOR = dict(
    re.findall(r"^## (\S+)\n\n(.+?)\n(?=\n##|\Z)", _WHEN_NOT.read_text(encoding="utf-8"), re.M | re.S)
)
"""When not to take a metric: the one thing that its code does not say."""


def write(app, config) -> None:
    """All cards, and the pages that list them."""
    matplotlib.use("Agg")
    matplotlib.rcParams.update(STYLE)
    fields = Rain(32, size=48, seed=3, regimes=("convective", "stratiform")).read(0, "train")
    field = min(fields, key=lambda each: abs((each >= THRESHOLDS[1]).mean() - 0.2))
    for name in emuloss.list_metrics():
        put(f"metrics/{name}.rst", _metric_card(name, field, app))
    put("metrics/index.rst", _list_of_metrics())
    for name in emuloss.list_models():
        put(f"surrogates/{name}.md", _surrogate_card(name))
    put("surrogates/index.md", _list_of_surrogates())


def example(name: str) -> emuloss.Metric:
    """A metric as its card shows it."""
    try:
        return emuloss.metric(name, thresholds=THRESHOLDS)
    except EmulossError:  # it has no thresholds
        return emuloss.metric(name)


def guide(metric: emuloss.Metric) -> tuple[torch.nn.Module | None, str]:
    """What gives a gradient of the metric without training, and what it is called."""
    for outputs in (None, *((each,) for each in metric.outputs)):
        try:
            asked = metric if outputs is None else metric.with_arguments(outputs=outputs)
            which = "" if outputs is None else f", of {outputs[0]} alone"
            return emuloss.relax(asked), f"an analytical relaxation, `emuloss.relax`{which}"
        except EmulossError:
            continue
    for name in emuloss.list_models():
        if emuloss.info(name).metric == metric.name:
            return emuloss.load(name), f"a trained network that ships with the package, `{name}`"
    return None, ""


def _metric_card(name: str, field: np.ndarray, app) -> str:
    metric = example(name)
    surrogate, described = guide(metric)
    lines = (inspect.getdoc(type(metric)) or "").partition("\nArgs:")[0].splitlines()
    as_restructured_text(app, "class", name, metric, None, lines)
    picture = f"{name}.png"
    (GENERATED / "metrics").mkdir(parents=True, exist_ok=True)
    shown = _draw(metric, surrogate, field, GENERATED / "metrics" / picture)
    caption = _caption(metric, shown, surrogate)
    if name not in NOT_FOR:
        raise ValueError(f"docs/building/when_not.md says nothing of {name!r}")
    kind = "a field" if metric.arity == 1 else "a prediction and an observation"
    if surrogate is None:
        described = "none without training: ``emuloss.live`` and ``emuloss.train`` make a network of it"
    described = re.sub(r"(?<!`)`([^`]+)`(?!`)", r"``\1``", described)
    facts = {
        "Of": kind,
        "Gradient": described,
        "Cost": _cost(metric, surrogate),
        "Turning and mirroring": "changes nothing" if metric.invariant else "changes it",
    }
    if metric.arity == 2:
        facts["Better is"] = {True: "smaller", False: "larger", None: "not said"}[metric.lower_better]
        facts["As a score of ensembles"] = "proper" if metric.negative_type else "not proper, and refused"
    rules = [
        s
        for s in re.split(r"(?<=[.;])\s+", " ".join(lines))
        if "NaN" in s or "not measured" in s or "not finite" in s
    ]
    parts = [
        _title(name, "="),
        ".. list-table::\n   :class: facts\n   :widths: 24 76\n\n"
        + "".join(f"   * - {key}\n     - {value}\n" for key, value in facts.items()),
        f".. container:: panels\n\n   .. image:: {picture}\n      :alt: {caption}\n\n*{caption}*\n",
        _title("Formula", "-") + "\n".join(lines),
        _title("Outputs", "-") + _outputs(metric),
        _title("What is missing", "-") + (" ".join(rules) if rules else "See above."),
        _title("Constraints", "-")
        + "What its exact values obey: labels are checked against it, and networks cannot break it.\n\n"
        + "".join(f"- ``{c.label}``\n" for c in (*metric.constraints, *metric.pair_constraints)),
        _title("When not to use it", "-") + NOT_FOR[name].replace("`", "``"),
        _title("In Python", "-")
        + f".. code-block:: python\n\n   metric = emuloss.metric({_call(metric)})\n   curves = metric("
        + ("fields" if metric.arity == 1 else "predictions, observations")
        + ")  # (N, H, W) -> (N, C, Q)\n\n"
        + f"All arguments: :doc:`../api/emuloss.metrics`, class ``{type(metric).__name__}``.\n",
    ]
    return "\n\n".join(parts)


def _title(text: str, line: str) -> str:
    return f"{text}\n{line * len(text)}\n\n"


def _call(metric: emuloss.Metric) -> str:
    thresholds = f", thresholds={list(metric.thresholds)}" if metric.thresholds else ""
    return f'"{metric.name}"{thresholds}'


def _outputs(metric: emuloss.Metric) -> str:
    rows = ""
    for output, unit in zip(metric.outputs, metric.units, strict=True):
        bounds = [c for c in metric.constraints if c.output == output and isinstance(c, AtLeast | AtMost)]
        low = [f"{c.bound():g}" for c in bounds if isinstance(c, AtLeast) and not c.of]
        high = [f"{c.bound():g}" for c in bounds if isinstance(c, AtMost) and not c.of]
        frame = [
            c.label.partition("<=")[2].strip() for c in bounds if isinstance(c, AtMost) and c.of == (FRAME,)
        ]
        least, most = (low or [r"\-"])[0], (high or frame or [r"\-"])[0]
        rows += f"   * - ``{output}``\n     - {unit}\n     - {least}\n     - {most}\n"
    return (
        ".. list-table::\n   :header-rows: 1\n\n   * - output\n     - unit\n     - at least\n     - at most\n"
        f'{rows}\n"field" is the area of the whole field; bounds by other outputs stand under the '
        f"constraints.\n"
    )


def _cost(metric: emuloss.Metric, surrogate: torch.nn.Module | None) -> str:
    """Milliseconds for a field of 128 x 128, of the exact values and of a loss with its gradient."""
    fields = Rain(16, size=128, seed=0).read(0, "train")[:8]
    parts = [fields] if metric.arity == 1 else [fields, fields[::-1].copy()]
    said = f"exact {_milliseconds(lambda: metric(*parts), len(fields)):.2g} ms"
    if surrogate is not None:
        loss, target = surrogate.as_loss(), torch.from_numpy(fields[::-1].copy())
        prediction = torch.from_numpy(fields).requires_grad_()
        step = _milliseconds(lambda: loss(prediction, target).backward(), len(fields))
        said += f"; loss and gradient {step:.2g} ms"
    return f"{said}, a field of 128 x 128 (when this page was built, on {os.cpu_count()} cores)"


def _milliseconds(call, count: int) -> float:
    call()
    times = []
    for _ in range(3):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times) * 1000 / count


def _caption(metric: emuloss.Metric, shown: str, surrogate: torch.nn.Module | None) -> str:
    what = f"what the exact {shown} changes by as one pixel at a time is raised to 20 mm/h"
    start = "Synthetic rain" if metric.arity == 1 else "A prediction (an observation, moved by 5 pixels)"
    end = (
        "; and the gradient of its stand-in there, blue where more rain raises it."
        if surrogate is not None
        else "."
    )
    return f"{start}; {what}{end}"


def _shown(metric: emuloss.Metric) -> str:
    """The output that pictures show: the second, since an area is too plain to tell anything."""
    return metric.outputs[min(1, len(metric.outputs) - 1)]


def _raised(metric: emuloss.Metric, rain: np.ndarray, others: list[np.ndarray]) -> np.ndarray:
    """What the exact curves change by as one pixel at a time is raised to 20 mm/h, (H, W, C, Q)."""
    raised = np.repeat(rain[None], rain.size, 0)
    np.fill_diagonal(raised.reshape(rain.size, rain.size), 20.0)
    before = metric(rain[None], *(each[None] for each in others))
    changed = metric(raised, *(np.broadcast_to(each, raised.shape) for each in others))
    return (changed - before).reshape(*rain.shape, *before.shape[1:])


def _draw(metric: emuloss.Metric, surrogate: torch.nn.Module | None, field: np.ndarray, path) -> str:
    """A field, what a pixel changes of the exact value, and the gradient of the stand-in; which output."""
    import matplotlib.pyplot as plt

    rain = np.nan_to_num(field)
    observation = np.roll(rain, (3, -4), (0, 1))
    others = [] if metric.arity == 1 else [observation]
    level = len(metric.levels) // 2
    changes = _raised(metric, rain, others)[..., level]
    if metric.thresholds and not changes.any():
        # Just above a value at which a curve jumps, the pixel that has it makes the difference.
        found = metric.with_arguments(thresholds=np.unique(rain).tolist(), levels=None)
        row = metric.outputs.index(_shown(metric))
        jump = np.flatnonzero(np.diff(found(rain[None])[0, row]))[-1] + 1
        metric, level = metric.with_arguments(thresholds=[found.thresholds[jump]], levels=None), 0
        changes = _raised(metric, rain, others)[..., level]
    name = next(
        each for each in (_shown(metric), *metric.outputs) if changes[..., metric.outputs.index(each)].any()
    )
    change = changes[..., metric.outputs.index(name)]
    shown = [(rain, "field, mm/h" if metric.arity == 1 else "prediction, mm/h", "Blues", (0, 12))]
    shown.append((change, f"exact change of {name}", "RdBu", None))
    if surrogate is not None:
        x = torch.from_numpy(rain[None]).float().requires_grad_()
        batch = x if metric.arity == 1 else torch.stack([x, torch.from_numpy(observation[None]).float()], 1)
        output = _shown(surrogate.metric)
        row = surrogate.metric.outputs.index(output)
        surrogate(batch)[0, row, min(level, len(surrogate.metric.levels) // 2)].backward()
        shown.append((x.grad[0].numpy(), f"gradient of {output}", "RdBu", None))
    size = (3.1 * len(shown), 2.7)
    figure, axes = plt.subplots(1, len(shown), figsize=size, squeeze=False, layout="constrained")
    for axis, (values, title, colours, limits) in zip(axes[0], shown, strict=True):
        most = np.quantile(np.abs(values), 0.995) or np.abs(values).max() or 1.0
        low, high = limits or (-most, most)
        image = axis.imshow(values, cmap=colours, vmin=low, vmax=high)
        if metric.thresholds:
            axis.contour(rain, [metric.thresholds[level]], colors="0.25", linewidths=0.6)
        axis.set(xticks=[], yticks=[], title=title)
        figure.colorbar(image, ax=axis, fraction=0.05, pad=0.02)
    figure.savefig(path)
    plt.close(figure)
    return name


def _list_of_metrics() -> str:
    grid = ".. grid:: 1 2 2 3\n   :gutter: 3\n\n"
    for name in emuloss.list_metrics():
        first = inspect.getdoc(type(example(name))).partition("\n")[0].replace("|", r"\|")
        grid += (
            f"   .. grid-item-card:: {name}\n      :link: {name}\n      :link-type: doc\n      :img-top: "
            f"{name}.png\n"
            f"      :img-alt: The gradient of {name}\n\n      {first}\n\n"
        )
    names = "".join(f"   {name}\n" for name in emuloss.list_metrics())
    return (
        _title("Metrics", "=")
        + "A card for each built-in metric: formula, units, range, constraints, cost, and when not to use "
        "it. Made from the code, as the site is built.\n\n" + grid + f"\n.. toctree::\n   :hidden:\n\n{names}"
    )


_HEADER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)


def _surrogate_card(name: str) -> str:
    """The model card that the checkpoint brings."""
    from emuloss.zoo.names import MODELS

    text = _HEADER.sub("", (MODELS / name / "README.md").read_text(encoding="utf-8"), count=1).strip()
    title, _, rest = text.partition("\n")
    return f"# {name}\n\n*{title.removeprefix('# ')}*\n{rest}\n"


def _list_of_surrogates() -> str:
    rows = ""
    for name in emuloss.list_models():
        found = emuloss.info(name)
        scores = found.evaluation.get("fidelity", {}).get("outputs", {})
        r2 = ", ".join(
            f"{output} {each['r2_mean']:.3f}"
            for output, each in scores.items()
            if each["r2_mean"] is not None
        )
        cells = (f"[{name}]({name}.md)", found.metric, found.architecture, r2, f"{found.size / 1e6:.1f} MB")
        rows += f"| {' | '.join(cells)} |\n"
    names = "".join(f"{name}\n" for name in emuloss.list_models())
    return (
        "# Bundled surrogates\n\nThey ship with the package and need no network: `emuloss.load(NAME)`. R2 "
        "is over held-out "
        "fields, the mean over thresholds; each card says what else was measured, and ends with a "
        "verdict.\n\n"
        f"| name | metric | architecture | R2 | weights |\n| --- | --- | --- | --- | --- |\n{rows}\n"
        f"```{{toctree}}\n:hidden:\n\n{names}```\n"
    )
