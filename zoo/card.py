"""The README.md beside a checkpoint, written from its configuration."""

from __future__ import annotations

from typing import Any

from ..evaluation import markdown_table


def card(config: dict[str, Any]) -> str:
    """Markdown: what a checkpoint emulates, how to load it, what it was trained on, how good it is."""
    metric = config["metric"]
    thresholds = metric["arguments"].get("thresholds", [])
    outputs = ", ".join(
        f"{name} ({unit})" for name, unit in zip(config["outputs"], config["units"], strict=True)
    )
    lines = [
        "---",
        "library_name: emuloss",
        f"tags: [emuloss, {metric['name']}, differentiable-metric, loss]",
        "---",
        "",
        f"# {metric['name']}, {config['architecture']['name']} surrogate",
        "",
        f"A frozen, differentiable surrogate of the metric `{metric['name']}`: {outputs}.",
        "",
        "```python",
        "import emuloss",
        "",
        'surrogate = emuloss.load("DIRECTORY")',
        "loss = surrogate.as_loss()",
        "loss(prediction, target).backward()  # fields (N, H, W) in physical units",
        "```",
        "",
        f"- Fields: unit {config['unit'] or 'not stated'}, shape {config['field_shape'] or 'any'}, "
        f"pixel size {metric['arguments'].get('pixel_size')} {metric['arguments'].get('length_unit', '')}.",
        f"- Thresholds: {', '.join(f'{u:g}' for u in thresholds)}.",
    ]
    if config["architecture"]["name"] == "relaxed":
        lines.append("- An analytical relaxation: constraints hold as the temperature goes to 0.")
    elif config["constraints"]:
        lines.append(f"- Constraints that hold on every input: {'; '.join(config['constraints'])}.")
    source = config["training"].get("source", {})
    if source:
        lines.append("- Training data: " + ", ".join(f"{key} {value}" for key, value in source.items()) + ".")
    if config["evaluation"]:
        lines += ["", "## Evaluation on held-out fields", "", markdown_table(config["evaluation"])]
    return "\n".join(lines) + "\n"
