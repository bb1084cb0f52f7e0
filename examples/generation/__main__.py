"""Rain by a small flow-matching network, steered to curves of one's choice.

    python examples/generation [--out FOLDER] [--page FILE]

The network is trained first, on synthetic rain, and then frozen. Samples are steered to the exact curves of
fields held out, one each, with gradients through the model, without, too strongly, more cheaply, and by
particles; to counts of a plain Python function, by a network that learns it; coarse means become fine fields
by guidance alone; and a copy of the network is fine-tuned by the score of curves.
The folder --out holds the weights and all figures; what was interrupted goes on, and what is finished is not
repeated. Guidance by persistence needs `pip install torch-topological 'gudhi<3.12' pot`, and is left out
without.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "super_resolution"))  # its files, pages and terms

from learning import train
from page import write
from run import Run


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
    parser.add_argument(
        "--lessons", type=int, default=6400, help="fields of the first lessons of a live loss"
    )
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
    run = Run(flow, arguments)
    run.steer()
    run.steer_at_less_cost()
    run.refine()
    run.choose()
    run.count_peaks()
    run.grant()
    run.tune()
    write(arguments.page or arguments.out / "generation.md", arguments.out)


if __name__ == "__main__":
    main()
