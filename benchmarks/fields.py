"""One surrogate for every kind of field: python benchmarks/fields.py --opera FOLDER.

For each kind `emuloss.train(fields=..., metric="minkowski")` is run with its defaults: thresholds at
quantiles of the data, the excursion surrogate, evaluation on held-out fields. Its figures and a picture of
each kind are written to docs/fields.md, between the markers.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import emuloss
import numpy as np
from emuloss.datasets import open_source
from emuloss.evaluation import Descent, descent
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter
from skimage import data

ROOT = Path(__file__).resolve().parent.parent
PAGE, PICTURES = ROOT / "docs" / "fields.md", ROOT / "docs" / "fields"
OUTPUTS = ("area", "perimeter", "euler", "components", "holes")
AIMS = {"area": 0.999, "perimeter": 0.999, "euler": 0.998, "components": 0.998, "removed": 95.0}
"""Least mean R2 of each output, and least share of the exact distance that 200 steps remove, in %."""
_PHOTOGRAPHS = (data.camera, data.moon, data.coins, data.brick, data.grass, data.gravel)
_SIDE, _NUMBER = 128, 96


class Kind(NamedTuple):
    """A kind of field: fields (T, H, W) in no particular order, their unit, and what they are."""

    fields: np.ndarray
    unit: str
    what: str


def gaussian(seed: int = 0) -> np.ndarray:
    """Gaussian fields, power falling as k^-3, of mean 0 and standard deviation 1."""
    noise = np.fft.rfft2(np.random.default_rng(seed).standard_normal((_NUMBER, _SIDE, _SIDE)))
    frequency = np.hypot(np.fft.fftfreq(_SIDE)[:, None], np.fft.rfftfreq(_SIDE))
    frequency[0, 0] = np.inf
    fields = np.fft.irfft2(noise / frequency**1.5, (_SIDE, _SIDE))
    return (fields / fields.std()).astype(np.float32)


def smooth(seed: int = 0) -> np.ndarray:
    """Smoothed noise, to mean 0 and standard deviation 1: fields that differ little from one another."""
    noise = np.random.default_rng(seed).standard_normal((_NUMBER, _SIDE, _SIDE))
    fields = gaussian_filter(noise, (0, 3, 3), mode="wrap")
    return (fields / fields.std()).astype(np.float32)


def photographs() -> np.ndarray:
    """Tiles of pictures that come with scikit-image, shuffled, 8 bits."""
    tiles = []
    for picture in _PHOTOGRAPHS:
        image = picture()
        rows, columns = (side // _SIDE for side in image.shape)
        tiled = image[: rows * _SIDE, : columns * _SIDE].reshape(rows, _SIDE, columns, _SIDE)
        tiles.extend(tiled.swapaxes(1, 2).reshape(-1, _SIDE, _SIDE))
    return np.random.default_rng(0).permutation(np.stack(tiles))[:_NUMBER]


def radar(opera: Path) -> np.ndarray:
    """Patches of rain in mm/h, without overlap, in order of time."""
    source = open_source(f"opera:{opera}", size=_SIDE)
    return np.concatenate([source.read(k, "test") for k in range(len(source))])


def reflectivity(rain: np.ndarray) -> np.ndarray:
    """Rain in dBZ by Z = 200 R^1.6, -32 where it is dry."""
    with np.errstate(divide="ignore"):
        return np.maximum(10 * np.log10(200 * rain**1.6), -32).astype(np.float32)


def masks() -> np.ndarray:
    """Binary blobs, of which more or less of the field is covered, blurred."""
    shares = np.random.default_rng(0).uniform(0.1, 0.6, _NUMBER)
    blobs = [data.binary_blobs(_SIDE, 0.12, volume_fraction=share, rng=k) for k, share in enumerate(shares)]
    return gaussian_filter(np.stack(blobs).astype(np.float32), (0, 1, 1))


def kinds(opera: Path) -> Iterator[tuple[str, Kind]]:
    """The kinds of fields by name."""
    rain = radar(opera)
    yield "radar rain", Kind(rain, "mm/h", "OPERA composites, patches of 128 x 128")
    yield "radar reflectivity", Kind(reflectivity(rain), "dBZ", "the same, Z = 200 R^1.6, dry -32")
    yield "gaussian", Kind(gaussian(), "", "power falling as k^-3, mean 0, standard deviation 1")
    yield "temperature", Kind(285 + 8 * gaussian(), "K", "the same, 285 + 8 z")
    yield "smoothed noise", Kind(smooth(), "", "white noise smoothed over 3 pixels")
    yield "photographs", Kind(photographs(), "", "8-bit pictures of scikit-image, tiled")
    yield "grey", Kind(photographs() / np.float32(255), "", "the same in [0, 1]")
    yield "masks", Kind(masks(), "", "binary blobs of scikit-image, blurred by a pixel")


def measured(kind: Kind, folder: Path) -> tuple[dict[str, Any], Descent]:
    """Figures of the default surrogate for a kind, and a descent to some of its fields."""
    surrogate = emuloss.train(
        fields=kind.fields,
        metric="minkowski",
        metric_options={"outputs": list(OUTPUTS)},
        out=folder,
        progress=False,
    )
    figures = json.loads((folder / "evaluation.json").read_text())
    return figures, descent(surrogate.as_loss(), surrogate.metric, liveliest(kind.fields))


def liveliest(fields: np.ndarray, number: int = 4) -> np.ndarray:
    """Those of the last fields, which are held out, with the most going on."""
    late = fields[-max(number, len(fields) // 10) :].astype(np.float32)
    return late[np.nanstd(late, (1, 2)).argsort()[: -number - 1 : -1]]


def row(name: str, kind: Kind, figures: dict[str, Any]) -> str:
    """A line of the table."""
    outputs = figures["fidelity"]["outputs"]
    cells = [f"{outputs[output]['r2_mean']:.4f}" for output in OUTPUTS]
    gone = [figures[each]["removed"] for each in ("descent", "descent_noisy")]
    return f"| {name} | {kind.what} | {' | '.join(cells)} | {gone[0]:.1f} | {gone[1]:.1f} |"


def short_of(name: str, figures: dict[str, Any]) -> list[str]:
    """What does not reach its aim, said in words."""
    outputs = figures["fidelity"]["outputs"]
    found = {output: each["r2_mean"] for output, each in outputs.items()}
    found["removed"] = figures["descent"]["removed"]
    missed = {what: aim for what, aim in AIMS.items() if found[what] < aim}
    return [f"{name}: {what} {found[what]:.4g}, aim {aim:g}" for what, aim in missed.items()]


def draw(name: str, kind: Kind, run: Descent, path: Path) -> None:
    """A field, its blur, and what the descent makes of that."""
    figure = Figure(figsize=(9, 3.1), layout="constrained")
    axes = figure.subplots(1, 3)
    fields = [each[0] for each in (run.truth, run.start, run.final)]
    low, high = np.nanquantile(fields[0], [0.01, 0.99])
    titles = ("held-out field", "blurred", f"after {run.figures['steps']} steps")
    for place, field, title in zip(axes, fields, titles, strict=True):
        image = place.imshow(field, vmin=low, vmax=high)
        place.set(title=title, xticks=[], yticks=[])
    figure.colorbar(image, ax=axes, label=kind.unit or "value", shrink=0.9)
    figure.suptitle(name)
    figure.savefig(path, dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(description="The default surrogate on many kinds of fields.")
    parser.add_argument("--opera", type=Path, required=True, help="folder of ODIM composites")
    arguments = parser.parse_args()
    PICTURES.mkdir(exist_ok=True)
    rows, missed = [], []
    for name, kind in kinds(arguments.opera):
        with tempfile.TemporaryDirectory() as folder:
            figures, run = measured(kind, Path(folder) / "run")
        rows.append(row(name, kind, figures))
        missed += short_of(name, figures)
        draw(name, kind, run, PICTURES / f"{name.replace(' ', '_')}.png")
        print(rows[-1], flush=True)
    short = "Short of its aim: " + "; ".join(missed) + "." if missed else "Every aim is reached."
    table = "\n".join([*HEAD, *rows, "", short])
    between = re.compile(r"(<!-- rows -->\n).*?(<!-- end -->)", re.DOTALL)
    PAGE.write_text(between.sub(lambda match: f"{match[1]}{table}\n{match[2]}", PAGE.read_text()))


HEAD = (
    "| field | what it is | R2 area | perimeter | euler | components | holes | descent, % | noisy, % |",
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
)

if __name__ == "__main__":
    main()
