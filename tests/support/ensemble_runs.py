"""Folders of runs as the ensembles of the super-resolution example leave them, without any training."""

import json

import numpy as np
from safetensors.numpy import save_file
from super_resolution import rain

OUTPUTS = ("area", "perimeter", "euler", "components")
TOLD = {  # crps, energy, distance; AUC, spectrum error, harmonics, p of the axes, spread/skill
    "mse": (0.030, 5.1, 5.1, 1.00, 1.20, 1.5, 0.001, None),
    "mse+relaxed": (0.031, 1.0, 1.0, 0.93, 0.40, 2.0, 0.002, None),
    "crps": (0.0236, 2.3, 2.6, 0.95, 0.20, 1.1, 0.3, 0.5),
    "crps+relaxed": (0.0237, 0.9, 1.5, 0.85, 0.10, 1.1, 0.02, 0.8),
    "crps+relaxed+spectra": (0.0238, 0.5, 1.2, 0.65, 0.05, 1.1, 0.4, 1.05),
    "crps+patches": (0.0300, 0.4, 1.1, 0.62, 0.05, 1.1, 0.4, 1.0),
}
"""What each objective's figures are, as told by hand: the last is best but for its CRPS."""


def fabricated(folder, objectives=tuple(TOLD), seeds=(0, 1, 2), composites=4, fields=24, size=64):
    """Write a folder of runs whose figures are those of `TOLD`, to a percent or so by seed and composite."""
    rng = np.random.default_rng(0)
    groups = np.arange(fields) % composites
    facts = {"asked": {"source": "rain", "factor": 12.5}, "pixel_size": 2.0}
    counts = {"train": 100, "validation": 10, "test": fields, "test_composites": composites}
    _write(folder / "fields.json", facts | counts)
    observed = rain(6, size=size).numpy()
    hard = 1 + 0.3 * rng.standard_normal(composites)  # of composites, the same to all
    for name in objectives:
        for seed in seeds:
            _run(folder / f"{name}-seed{seed}", name, seed, groups, hard, observed, rng)
    return folder


def _run(folder, name, seed, groups, hard, observed, rng):
    crps, energy, distance, auc, spectrum, harmonics, axes, spread = TOLD[name]
    members = 1 if spread is None else 8
    asked = {"name": name, "seed": seed, "budget": 6000}
    _write(folder / "training.json", {"asked": asked, "seconds": 60.0})
    save_file({"weight": np.zeros((30, 40), np.float32)}, folder / "weights.safetensors")
    own = hard[groups] * (1 + 0.003 * rng.standard_normal(len(groups))) / hard[groups].mean()
    by_field = {
        key: value * own for key, value in (("crps", crps), ("energy", energy), ("distance", distance))
    }
    skill = np.where(np.arange(len(groups)) % 5 == 0, np.nan, 0.5)
    by_field |= {f"fss {rate}": skill for rate in (0.5, 2, 10)}
    np.savez(folder / "scores.npz", groups=groups, **by_field)
    drawn = np.stack([np.roll(observed, 3 * k, 2) for k in range(members)], 1)
    np.savez(folder / "samples.npz", members=drawn.astype(np.float16), observed=observed.astype(np.float16))
    truth = -np.linspace(0, 4, observed.shape[1] // 2)
    slant = np.linspace(0, 2 * spectrum, len(truth))
    ranks = np.linspace(80, 120, members + 1).round().astype(int).tolist()
    told = {
        "members": members,
        "spectrum": spectrum,
        "spectrum_of_halves": 0.04,
        "rain_spectrum": 4 * spectrum,
        "rain_spectrum_of_halves": 0.21,
        "q99.99": 1.2,
        "log_spectra": [(truth - slant).tolist(), truth.tolist()],
        "auc": auc + 0.01 * (seed - 1),
        "harmonics": [1.0, harmonics, 1.05, 0.98],
        "axes": axes,
        "strength": 0.9,
        "q99": 0.95,
        "wet": 1.02,
        "spread_to_skill": None if spread is None else dict.fromkeys(OUTPUTS, spread),
        "ranks": None if spread is None else dict.fromkeys(OUTPUTS, ranks),
        "ranks_of_member": None if spread is None else {output: [90, 100, 110] for output in OUTPUTS},
    }
    _write(folder / "scores.json", told)


def _write(path, facts):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(facts))
