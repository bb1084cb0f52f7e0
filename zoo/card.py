"""The README.md beside a checkpoint, written from its configuration."""

from __future__ import annotations

from typing import Any


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
        "license: apache-2.0",
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
        f"- Constraints that hold on every input: {'; '.join(config['constraints'])}.",
    ]
    if config["architecture"]["name"] == "relaxed":
        lines[-1] = "- An analytical relaxation: constraints hold as the temperature goes to 0."
    source = config["training"].get("source", {})
    if source:
        lines.append("- Training data: " + ", ".join(f"{key} {value}" for key, value in source.items()) + ".")
    summary = config["evaluation"].get("summary")
    if summary:
        lines += ["", "## Evaluation on held-out fields", "", "```", *summary.splitlines(), "```"]
    return "\n".join(lines) + "\n"
