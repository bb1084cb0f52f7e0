"""Rain by a small flow-matching network, steered to curves of one's choice.

    python examples/generation [--out FOLDER] [--page FILE]

The network is trained first, on synthetic rain, and then frozen. Samples are steered to the exact curves of
fields held out, one each, with gradients through the model, without, too strongly, and by particles; coarse
means become fine fields by guidance alone; and a copy of the network is fine-tuned by the score of curves.
The folder --out holds the weights and all figures; what was interrupted goes on, and what is finished is not
repeated. Guidance by persistence needs `pip install torch-topological 'gudhi<3.12' pot`, and is left out
without.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "super_resolution"))  # its files, pages and terms

import numpy as np
from emuloss.errors import ArgumentError
from files import check_asked, whole, write_json
from flow import Flow
from learning import rain, train
from page import write
from steering import (
    METRIC,
    best_of,
    by_persistence,
    coarse,
    curves_of,
    distances,
    drawn,
    early_and_late,
    energy,
    measured,
    to_curves,
    to_means,
    wishes,
)
from torch import Tensor
from tuning import tuned

_HELD_OUT = 100_000
"""Seed of the fields held out, far from those of the training."""
_PARTICLES = 8
_TURNS = 4
_EACH = 5
"""Samples of each asked curve in the picture."""


def main() -> None:
    """Train, steer, measure, and write the page."""
    parser = argparse.ArgumentParser(
        description="Steer a flow of rain.", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--fields", type=int, default=4096, help="to train on")
    parser.add_argument("--size", type=int, default=64, help="side of fields in pixels, a multiple of 8")
    parser.add_argument("--steps", type=int, default=3600, help="of the training")
    parser.add_argument("--batch", type=int, default=16, help="fields in a step of training")
    parser.add_argument("--count", type=int, default=96, help="fields held out, and samples of each kind")
    parser.add_argument("--few", type=int, default=16, help="of these, for guidance by persistence")
    parser.add_argument("--tuning", type=int, default=120, help="steps of fine-tuning")
    parser.add_argument("--classifier", type=int, default=150, help="steps of each two-sample network")
    parser.add_argument("--out", type=Path, default=Path("runs/generation"), help="folder of the run")
    parser.add_argument("--page", type=Path, help="default: generation.md in --out")
    arguments = parser.parse_args()
    flow = train(
        arguments.out,
        fields=arguments.fields,
        size=arguments.size,
        steps=arguments.steps,
        batch=arguments.batch,
    ).requires_grad_(False)
    run(flow, arguments)
    write(arguments.page or arguments.out / "generation.md", arguments.out)


def run(flow: Flow, arguments: argparse.Namespace) -> None:
    """Measure what is not measured yet, into results.json and samples.npz."""
    count, size, out = arguments.count, arguments.size, arguments.out
    asked = {name: getattr(arguments, name) for name in ("count", "size", "few", "tuning", "classifier")}
    held = rain(count, size, _HELD_OUT)
    curves = curves_of(held)
    path = out / "results.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"asked": asked, "rows": {}}
    check_asked(results["asked"], asked, out)

    def keep(name: str, draw: Callable[[], tuple[Tensor, float]], few: int = count, **more: Any) -> None:
        if name in results["rows"]:
            return
        samples, seconds = draw()
        steps = arguments.classifier if few == count else 0
        row = measured(samples, seconds, curves[:few], held[:few], steps)
        if name.startswith("means"):
            row["means"] = float((coarse(samples) - coarse(held)).square().mean().sqrt())
        if name in ("unguided", "fine-tuned"):
            row["energy"] = energy(samples, held)
        results["rows"][name] = row
        print(name, {k: v for k, v in row.items() if k != "energy"}, flush=True)
        with whole(out / f"{name}.npz") as part, part.open("wb") as file:
            np.savez_compressed(file, rain=samples.numpy())
        write_json(path, results)

    def plain(
        correct: Any = None, few: int = count, model: Flow = flow
    ) -> Callable[[], tuple[Tensor, float]]:
        return lambda: drawn(model, few, size, 1, correct)

    # What is compiled on first use is not timed.
    drawn(flow, 2, size, 1, early_and_late(*to_curves(curves[:2], held)))
    early, late = to_curves(curves, held)
    first, then = to_means(coarse(held))
    few = arguments.few
    keep("unguided", plain())
    keep("guided", plain(early_and_late(early, late)))
    keep("without the model", plain(early_and_late(early, late, through=False)))
    keep("too strong", plain(early_and_late(*to_curves(curves, held, strength=5.0))))
    keep("means alone", plain(early_and_late(first, then)))
    keep("means and curves", plain(early_and_late(first + early, then + late)))
    keep("few unguided", plain(few=few), few)
    keep("few guided", plain(early_and_late(*to_curves(curves[:few], held)), few), few)
    try:
        keep("few by persistence", plain(early_and_late(*by_persistence(held[:few])), few), few)
    except ArgumentError as error:
        print(f"no guidance by persistence: {error}")
    keep("best of particles", lambda: best_of(flow, few, size, 1, curves[:few], _PARTICLES), few)
    if "times" not in results:
        guide = early_and_late(*to_curves(curves[:few], held))
        # By turns, and the fastest of each, as the machine has other work.
        turns = [[drawn(flow, few, size, 1, how)[1] for how in (None, guide)] for _ in range(_TURNS)]
        results["times"] = np.min(turns, axis=0).tolist()
        write_json(path, results)
    if "wishes" not in results:
        results["wishes"] = _granted(flow, held, size, out)
        write_json(path, results)
    if "fine-tuned" not in results["rows"]:
        data = rain(min(1024, arguments.fields), size, 0)
        model = tuned(flow, data, steps=arguments.tuning, batch=16, pool=256 if size >= 64 else 16)
        keep("fine-tuned", plain(model=model))


def _granted(flow: Flow, held: Tensor, size: int, out: Path) -> list[dict[str, Any]]:
    """Samples for curves of one's choice, into wishes.npz, and what was asked and what they have."""
    # A field with a wet share in the middle of the wetter half.
    wet = (held >= METRIC.thresholds[0]).flatten(1).sum(1)
    chosen = held[wet.argsort()[3 * len(held) // 4]]
    asked = wishes(curves_of(chosen[None])[0])
    free, _ = drawn(flow, _EACH, size, 2, None)
    found, kept = [], []
    for title, curves in asked.items():
        curves = curves.expand(_EACH, -1, -1)
        samples, _ = drawn(flow, _EACH, size, 2, early_and_late(*to_curves(curves, held)))
        kept.append(samples.numpy())
        distance = float(distances(samples, curves).sum(1).mean())
        found.append(
            {
                "title": title,
                "asked": curves[0].tolist(),
                "has": curves_of(samples).tolist(),
                "distance": distance,
            }
        )
    with whole(out / "wishes.npz") as part, part.open("wb") as file:
        np.savez_compressed(file, rain=np.stack(kept), free=free.numpy())
    return found


if __name__ == "__main__":
    main()
