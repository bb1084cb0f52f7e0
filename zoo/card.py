"""The README.md beside a checkpoint: a model card for the Hugging Face Hub."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ..evaluation import markdown_table
from ..metrics import Metric

if TYPE_CHECKING:
    from .surrogate import Surrogate

_BEGIN = "<!-- emuloss: begin of the generated section; text outside it is kept -->"
_END = "<!-- emuloss: end of the generated section -->"
_HEADER = re.compile(r"\A\s*---[ \t]*\n.*?^---[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_SECTION = re.compile(re.escape(_BEGIN) + ".*?" + re.escape(_END), re.DOTALL)
_USE = re.compile(r'emuloss\.load\("[^"]*"\)')
_TASK = "image-feature-extraction"
"""The Hub's task that comes nearest to curves of a field."""
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


def card(config: dict[str, Any], surrogate: Surrogate, pictures: Iterable[str] = ()) -> str:
    """Markdown with a YAML header: what a checkpoint emulates, where it is valid, how good it is, its use.

    Args:
        config: of the checkpoint; its evaluation is empty or what `emuloss.evaluation.evaluate` measures.
        surrogate: what it describes.
        pictures: names of the pictures beside the card.

    Raises:
        KeyError, TypeError: an evaluation of another form.
    """
    sections = [
        f"---\n{_header(config)}\n---",
        f"# {_title(config)}",
        "A frozen, differentiable stand-in for a metric that has no gradient, made with emuloss: fields in "
        "physical units in, curves in physical units out, and a training loss in one call.",
        _usage(config),
        "## The metric",
        _definition(surrogate.metric),
        "## Where it is valid",
        "\n".join(f"- {fact}" for fact in _domain(config, surrogate)),
    ]
    if config["evaluation"]:
        sections += ["## Measured on held-out fields", markdown_table(config["evaluation"])]
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
    parts = (_unmarked(before).strip(), f"{_BEGIN}\n{body}\n{_END}", _unmarked("".join(after)).strip())
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
    return text.replace(_BEGIN, "").replace(_END, "")


def _title(config: dict[str, Any]) -> str:
    return f"{config['metric']['name']}, {config['architecture']['name']} surrogate"


def _header(config: dict[str, Any]) -> str:
    """The YAML that the Hub reads."""
    from huggingface_hub import ModelCardData  # slow to import

    data = ModelCardData(
        license=config["license"] or None,
        library_name="emuloss",
        pipeline_tag=_TASK,
        tags=[
            "emuloss",
            config["metric"]["name"],
            config["architecture"]["name"],
            "differentiable-metric",
            "loss",
        ],
        datasets=_sources(config) or None,
        model_name=_title(config),
        eval_results=list(_results(config)) or None,
    )
    return data.to_yaml().strip()


def _sources(config: dict[str, Any]) -> list[str]:
    """Names of the kinds of fields trained and tested on."""
    training = config["training"]
    found = [training[key].get("name", "") for key in ("source", "synthetic") if key in training]
    return [name for name in found if name]


def _results(config: dict[str, Any]) -> Iterator[Any]:
    """Figures for the Hub's model index; those that are not defined are left out."""
    from huggingface_hub import EvalResult

    if not config["evaluation"]:
        return
    fidelity = config["evaluation"]["fidelity"]
    measured = {
        f"{what} of {name}": found[key]
        for name, found in fidelity["outputs"].items()
        for what, key in (("R2", "r2_mean"), ("distance", "distance"))
    }
    measured["share of the exact distance removed in descent, %"] = config["evaluation"]["descent"]["removed"]
    source = (_sources(config) or ["fields"])[0]
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


def _usage(config: dict[str, Any]) -> str:
    unit = f", in {config['unit']}" if config["unit"] else ""
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


def _domain(config: dict[str, Any], surrogate: Surrogate) -> Iterator[str]:
    metric, arguments = config["metric"], config["metric"]["arguments"]
    yield (
        "Outputs: "
        + ", ".join(f"{name} ({unit})" for name, unit in zip(config["outputs"], config["units"], strict=True))
        + f", of `{metric['name']}` with {', '.join(_short(*item) for item in arguments.items())}."
    )
    shape = config["field_shape"]
    unit = f"Fields: unit {config['unit'] or 'not stated'}; NaN marks pixels that were not measured."
    if surrogate.threshold_free:
        yield (
            f"{unit} Nothing was trained: shape, thresholds and pixel size are run-time choices "
            "(`surrogate.with_thresholds`)."
        )
    else:
        made_for = "" if shape is None else f" Trained on {' x '.join(map(str, shape))} pixels."
        yield f"{unit}{made_for} Elsewhere it extrapolates: measure it there with `emuloss evaluate`."
    if config["architecture"]["name"] == "relaxed":
        yield "An analytical relaxation: constraints hold as the temperature goes to 0."
    elif config["constraints"]:
        yield f"Constraints that hold on every input: {'; '.join(config['constraints'])}."
    training = config["training"]
    for key in ("source", "synthetic"):
        if key in training:
            yield f"Data ({key}): " + ", ".join(_short(*item) for item in training[key].items()) + "."
    rest = {key: fact for key, fact in training.items() if key not in ("source", "synthetic")}
    if rest:
        what = "Fields" if surrogate.threshold_free else "Training"
        yield f"{what}: " + ", ".join(_short(*item) for item in rest.items()) + "."


def _short(name: str, value: Any) -> str:
    if isinstance(value, dict):
        return f"{name} " + " ".join(f"{key} {inner}" for key, inner in value.items())
    if isinstance(value, list):
        value = ", ".join(f"{each:g}" if isinstance(each, float) else str(each) for each in value)
        return f"{name} [{value}]"
    return f"{name} {value}"
