"""The page to play with: static files, a relaxation and its gradient exported to ONNX, and what runs them.

The loss, its gradient and the curves are those of `emuloss.relax`, traced into one graph of operators that
ONNX has. Browsers run it by onnxruntime-web, which `npm ci` brings at the hash of
docs/play/package-lock.json. It has 15 MB, too many for git. Pages of a folder (file://) may fetch nothing:
for them everything stands in `embedded.js` as text, too.
"""

import base64
import json
import logging
import shutil
import warnings
from pathlib import Path
from unittest import mock

import emuloss
import numpy as np
import torch
from emuloss.datasets import Rain
from torch.fx.experimental.proxy_tensor import make_fx

from . import DOCS, GENERATED

SIDE = 64
THRESHOLDS = tuple(round(2 ** (k / 2), 4) for k in range(-4, 9))
"""From 0.25 to 16 mm/h."""
OUTPUTS = ("area", "perimeter", "euler", "components", "holes")
PIXEL_SIZE = 2.0
TEMPERATURE = 0.1
_PAGE = DOCS / "play"
_RUNTIME = ("ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")


def surrogate() -> emuloss.Surrogate:
    """What the page plays with."""
    metric = emuloss.metric(
        "minkowski", thresholds=THRESHOLDS, pixel_size=PIXEL_SIZE, outputs=OUTPUTS, length_unit="km"
    )
    return emuloss.relax(metric, temperature=TEMPERATURE)


def examples() -> np.ndarray:
    """Fields of synthetic rain (4, SIDE, SIDE) to begin with, in steps of 0.01 mm/h."""
    source = Rain(96, size=SIDE, seed=11, regimes=("convective", "stratiform"))
    fields = np.concatenate([source.read(k, "train") for k in range(len(source))])
    wet = (fields >= 2).mean((1, 2))
    chosen = [np.abs(wet - share).argmin() for share in (0.2, 0.1, 0.05, 0.35)]
    return np.nan_to_num(fields[chosen]).round(2)


def descent():
    """A function of fields and targets (1, SIDE, SIDE): loss, gradient, and the curves of both (1, 5, Q)."""
    relaxed = surrogate()
    loss = relaxed.as_loss()

    def step(field: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, ...]:
        field = field.requires_grad_()
        value = loss(field, target)
        (gradient,) = torch.autograd.grad(value, field)
        return value.detach(), gradient, relaxed(field.detach()), relaxed(target)

    return step


def export(path: Path) -> None:
    """The function above as a file of ONNX."""
    import onnx

    example = torch.from_numpy(examples()[:1]), torch.from_numpy(examples()[1:2])
    with warnings.catch_warnings(), mock.patch("torch.onnx.is_in_onnx_export", return_value=True):
        warnings.simplefilter("ignore")  # what the exporter and its libraries warn of is theirs
        graph = make_fx(descent())(*example)
        # The exporter tells of rules of opsets that it has not, which this graph does not need.
        logging.getLogger("onnxscript").setLevel(logging.ERROR)
        torch.onnx.export(
            graph,
            example,
            str(path),
            optimize=False,
            dynamo=True,
            verbose=False,
            external_data=False,
            input_names=["field", "target"],
            output_names=["loss", "gradient", "curves", "target_curves"],
        )
    model = onnx.load(path)
    for node in model.graph.node:  # where in Python each comes from, which is most of the file
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
    for value in model.graph.value_info:
        value.ClearField("metadata_props")
    onnx.save(model, path)


def write(app, config) -> None:
    """All files of the page."""
    folder = GENERATED / "extra" / "play"
    folder.mkdir(parents=True, exist_ok=True)
    runtime = _PAGE / "node_modules" / "onnxruntime-web"
    if not runtime.exists():
        raise FileNotFoundError(f"{runtime} is missing: run `make docs`, or `npm ci` in {_PAGE}")
    for name in ("index.html", "play.css", "exact.js", "play.js"):
        shutil.copyfile(_PAGE / name, folder / name)
    for name in _RUNTIME:
        shutil.copyfile(runtime / "dist" / name, folder / name)
    export(folder / "descent.onnx")
    given = {
        "side": SIDE,
        "pixelSize": PIXEL_SIZE,
        "thresholds": THRESHOLDS,
        "outputs": OUTPUTS,
        "units": list(surrogate().metric.units),
        "examples": [[float(f"{x:.2f}") for x in field.ravel()] for field in examples()],
    }
    (folder / "given.js").write_text(f"const GIVEN = {json.dumps(given)};\n", encoding="utf-8")
    embedded = {
        name: base64.b64encode((folder / name).read_bytes()).decode()
        for name in (*_RUNTIME[1:], "descent.onnx")
    }
    (folder / "embedded.js").write_text(f"const EMBEDDED = {json.dumps(embedded)};\n", encoding="utf-8")
