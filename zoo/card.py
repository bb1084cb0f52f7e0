"""The README.md beside a checkpoint: a model card for the Hugging Face Hub."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any, cast

from ..findings.figures import Figures
from ..findings.tables import markdown_table, markdown_verdict
from ..metrics import Metric
from .manifest import Manifest

BEGIN = "<!-- emuloss: begin of the generated section; text outside it is kept -->"
END = "<!-- emuloss: end of the generated section -->"
_HEADER = re.compile(r"\A\s*---[ \t]*\n.*?^---[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_SECTION = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
_USE = re.compile(r'emuloss\.load\("[^"]*"\)')
_TASK = "image-feature-extraction"
"""The Hub's task that comes nearest to curves of a field."""
_SOURCES = ("source", "synthetic")
"""Facts of the training that say where fields came from."""
_CITATION = """\
```bibtex
@article{quarenghi2026emulating,
  title   = {Emulating Non-Differentiable Metrics via Knowledge-Guided Learning:
             Introducing the Minkowski Image Loss},
  author  = {Quarenghi, Filippo and Cotsakis, Ryan and Beucler, Tom},
  journal = {arXiv preprint arXiv:2604.11422},
  year    = {2026}
}
```"""


def card(manifest: Manifest, metric: Metric, *, trained: bool, pictures: Iterable[str] = ()) -> str:
    """Markdown with a YAML header: what a checkpoint emulates, where it is valid, how good it is, its use.

    Args:
        manifest: of the checkpoint; its evaluation is empty or what `emuloss.evaluation.evaluate` measures.
        metric: the exact teacher.
        trained: whether the surrogate has weights, so that it is for what it was trained on.
        pictures: names of the pictures beside the card.

    Raises:
        KeyError, TypeError: an evaluation of another form.
    """
    sections = [
        f"---\n{_header(manifest)}\n---",
        f"# {_title(manifest)}",
        "A frozen, differentiable stand-in for a metric that has no gradient, made with emuloss: fields in "
        "physical units in, curves in physical units out, and a training loss in one call.",
        _usage(manifest.unit),
        "## The metric",
        _definition(metric),
        "## Where it is valid",
        "\n".join(f"- {fact}" for fact in _domain(manifest, metric, trained)),
    ]
    if manifest.evaluation:
        figures = cast(Figures, manifest.evaluation)  # those of another form raise, as is told above
        sections += ["## Verdict", markdown_verdict(figures)]
        sections += ["## Measured on held-out fields", markdown_table(figures)]
    sections += [f"![{name.partition('.')[0]}]({name})" for name in pictures]
    sections += ["## Citation", _CITATION]
    return "\n\n".join(sections) + "\n"


def placed(card: str, name: str) -> str:
    """A card that says under which name `emuloss.load` finds the checkpoint."""
    return _USE.sub(f'emuloss.load("{name}")', card, count=1)


def merged_card(existing: str, generated: str) -> str:
    """A model card whose generated parts are new and whose own text is kept.

    Args:
        existing: the card that is published, or "". Its generated section (between two HTML comments) is
            replaced; all else is somebody's own text and stays where it is, and so do those keys of its
            YAML header that the new one has not. A card without such a section gets it at the end.
        generated: the new card, YAML header first; of one that was published, the generated section alone
            counts.

    Returns:
        The card to publish; merging the same again changes nothing.
    """
    generated, existing = (text.replace("\r\n", "\n") for text in (generated, existing))
    inside = _SECTION.search(generated)
    body = _unmarked(inside.group() if inside else _HEADER.sub("", generated, count=1)).strip()
    before, *after = _SECTION.split(_HEADER.sub("", existing, count=1))
    parts = (_unmarked(before).strip(), f"{BEGIN}\n{body}\n{END}", _unmarked("".join(after)).strip())
    header = _merged_header(existing, generated)
    return header + "\n" * bool(header) + "\n\n".join(part for part in parts if part) + "\n"


def _merged_header(existing: str, generated: str) -> str:
    """The YAML header of the new card, and what the old one has besides."""
    from huggingface_hub.utils import yaml_dump

    ours, theirs = _metadata(generated), _metadata(existing)
    kept = {key: value for key, value in theirs.items() if key not in ours}
    besides = yaml_dump(kept, sort_keys=False) if kept else ""
    match = _HEADER.match(generated)
    start = match.group().strip().removesuffix("---") if match else "---\n" if kept else ""
    return f"{start}{besides}---\n" if start else ""


def _metadata(card: str) -> dict[str, Any]:
    """The YAML header of a card; empty where there is none that can be read."""
    import yaml

    match = _HEADER.match(card)
    try:
        found = yaml.safe_load(match.group().strip().strip("-")) if match else None
    except yaml.YAMLError:
        found = None
    return found if isinstance(found, dict) else {}


def _unmarked(text: str) -> str:
    """Text without stray markers of a generated section."""
    return text.replace(BEGIN, "").replace(END, "")


def _title(manifest: Manifest) -> str:
    """What a checkpoint is, in a few words."""
    return f"{manifest.metric.name}, {manifest.architecture.name} surrogate"


def _header(manifest: Manifest) -> str:
    """The YAML that the Hub reads."""
    from huggingface_hub import ModelCardData  # slow to import

    data = ModelCardData(
        license=manifest.license or None,
        library_name="emuloss",
        pipeline_tag=_TASK,
        tags=[
            "emuloss",
            manifest.metric.name,
            manifest.architecture.name,
            "differentiable-metric",
            "loss",
        ],
        datasets=_sources(manifest.training) or None,
        model_name=_title(manifest),
        eval_results=list(_results(manifest)) or None,
    )
    return data.to_yaml().strip()


def _sources(training: dict[str, Any]) -> list[str]:
    """Names of the kinds of fields trained and tested on."""
    found = [training[key].get("name", "") for key in _SOURCES if key in training]
    return [name for name in found if name]


def _results(manifest: Manifest) -> Iterator[Any]:
    """Figures for the Hub's model index; those that are not defined are left out."""
    from huggingface_hub import EvalResult

    if not manifest.evaluation:
        return
    fidelity = manifest.evaluation["fidelity"]
    measured = {
        f"{what} of {name}": found[key]
        for name, found in fidelity["outputs"].items()
        for what, key in (("R2", "r2_mean"), ("distance", "distance"))
    }
    descent = manifest.evaluation.get("descent")  # a quick evaluation has none
    if descent is not None:
        measured["share of the exact distance removed in descent, %"] = descent["removed"]
    source = (_sources(manifest.training) or ["fields"])[0]
    for name, value in measured.items():
        if value is not None:
            yield EvalResult(
                task_type=_TASK,
                dataset_type=source,
                dataset_name=f"{source}, held out",
                metric_type=name.partition(" ")[0].lower().partition(",")[0],
                metric_name=name,
                metric_value=round(float(value), 6),
            )


def _usage(unit: str) -> str:
    """A few lines of Python; unit: of the fields."""
    unit = f", in {unit}" if unit else ""
    return textwrap.dedent(
        f"""\
        ```python
        import emuloss

        surrogate = emuloss.load("DIRECTORY")
        loss = surrogate.as_loss()
        loss(prediction, target).backward()  # fields (N, H, W){unit}
        ```"""
    )


def _definition(metric: Metric) -> str:
    """What the docstring of a metric says before it comes to its arguments."""
    text = inspect.getdoc(type(metric)) or f"The metric `{metric.name}`."
    return text.partition("\nArgs:")[0].strip()


def _domain(manifest: Manifest, metric: Metric, trained: bool) -> Iterator[str]:
    """Facts about where a surrogate may be used, a sentence or two each."""
    units = zip(manifest.outputs, manifest.units, strict=True)
    yield (
        "Outputs: "
        + ", ".join(f"{name} ({unit})" for name, unit in units)
        + f", of `{manifest.metric.name}` with {_listed(manifest.metric.arguments)}."
    )
    shape = manifest.field_shape
    unit = f"Fields: unit {manifest.unit or 'not stated'}; NaN marks pixels that were not measured."
    if not trained:
        choices = (
            "shape, thresholds and pixel size are run-time choices (`surrogate.with_thresholds`)"
            if metric.thresholds
            else "the shape is a run-time choice"
        )
        yield f"{unit} Nothing was trained: {choices}."
    else:
        made_for = "" if shape is None else f" Trained on {' x '.join(map(str, shape))} pixels."
        yield f"{unit}{made_for} Elsewhere it extrapolates: measure it there with `emuloss evaluate`."
    if manifest.architecture.name == "relaxed":
        yield (
            "An analytical relaxation: constraints hold as the temperature goes to 0."
            if "temperature" in manifest.architecture.arguments
            else "An analytical relaxation without temperature: values are the metric's, within rounding."
        )
    elif manifest.constraints:
        yield f"Constraints that hold on every input: {'; '.join(manifest.constraints)}."
    training = manifest.training
    for key in _SOURCES:
        if key in training:
            yield f"Data ({key}): {_listed(training[key])}."
    rest = {key: fact for key, fact in training.items() if key not in _SOURCES}
    if rest:
        yield f"{'Training' if trained else 'Fields'}: {_listed(rest)}."


def _listed(facts: dict[str, Any]) -> str:
    """Facts by name, in one line."""
    return ", ".join(_short(*item) for item in facts.items())


def _short(name: str, value: Any) -> str:
    """A fact and its name, in a few words."""
    if isinstance(value, dict):
        return f"{name} " + " ".join(f"{key} {inner}" for key, inner in value.items())
    if isinstance(value, list):
        value = ", ".join(f"{each:g}" if isinstance(each, float) else str(each) for each in value)
        return f"{name} [{value}]"
    return f"{name} {value}"
