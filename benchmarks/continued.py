"""A bundled surrogate that goes on learning, a share of it on its own descents: is it the better loss?

    python benchmarks/continued.py minkowski-opera-constrained --fields opera:FOLDER --out runs/continued
    python examples/super_resolution --fields opera:FOLDER --losses own own-live --surrogate runs/continued

It is evaluated before and after, in the same descents, and saved with its evaluation, for `emuloss.load`.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import emuloss
from emuloss.emulators.differentiable import Trainable
from emuloss.losses import Provenance
from emuloss.pipeline.measuring import measured, write_evaluation
from emuloss.training import Trainer, Training
from emuloss.training.state import LOG
from emuloss.zoo import Surrogate

_RATE = 3e-4
"""Learning rate: it has learnt before."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("name", help="of a bundled surrogate with weights")
    parser.add_argument("--fields", required=True, help="opera:DIR, or what else emuloss label takes")
    parser.add_argument("--stride", type=int, default=48, help="of the patches, in pixels")
    parser.add_argument("--minutes", type=float, default=22.0, help="of learning")
    parser.add_argument("--descents", type=float, default=0.25, help="share of each batch")
    parser.add_argument("--out", type=Path, default=Path("runs/continued"), help="folder of the run")
    arguments = parser.parse_args()

    before = emuloss.load(arguments.name)
    shape = before.provenance.field_shape
    arguments.out.mkdir(parents=True, exist_ok=True)
    store = emuloss.label(
        fields=arguments.fields,
        size=shape,
        stride=arguments.stride,
        metric=before.metric,
        out=arguments.out / "labels.h5",
    )
    module = copy.deepcopy(before.module).requires_grad_(True)
    if not isinstance(module, Trainable):
        raise SystemExit(f"{arguments.name} has nothing to learn with")
    options = Training(minutes=arguments.minutes, descents=arguments.descents, learning_rate=_RATE)
    trainer = Trainer(
        module,
        store.split("train"),
        store.split("validation"),
        options,
        arguments.out,
        quantum=store.quantum,
        fresh=False,
    )
    trainer.run()
    went_on = {"fields_seen": trainer.seen, "minutes": arguments.minutes, "descents": arguments.descents}
    provenance = Provenance(unit=before.provenance.unit, field_shape=shape, license=before.license)
    provenance.training = before.trained_on | {"went_on": went_on}
    after = Surrogate(module, before.architecture, provenance)
    test = store.split("test")
    for title, surrogate in (("before", before), ("after", after)):
        evaluation = measured(surrogate, *test)
        removed = (evaluation.figures[name]["removed"] for name in ("descent", "descent_noisy"))
        print(f"{title}: removed from blurred and noisy fields {' and '.join(f'{x:.1f} %' for x in removed)}")
    provenance.evaluation = dict(evaluation.figures)
    write_evaluation(arguments.out, after, evaluation, *test, arguments.out / LOG)
    after.save_pretrained(arguments.out)


if __name__ == "__main__":
    main()
