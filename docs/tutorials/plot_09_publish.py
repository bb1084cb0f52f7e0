"""
Publishing to the Hub
=====================

A surrogate is a folder of four files: what it is, its weights, outputs to replay, and a card. This page
makes one, checks what would be sent, publishes it, and loads it as anyone else would. No request leaves
this machine: a small stand-in of the Hugging Face Hub, the one that the tests use, answers on 127.0.0.1.
With an account of yours, leave its lines out.
"""

# %%
# A run to publish
# ----------------
# What ``emuloss train`` writes. Here for a few seconds, on synthetic rain; only what was evaluated is
# published.

import os
import sys
import tempfile
from pathlib import Path

import emuloss
import matplotlib.pyplot as plt
from emuloss.zoo import publish, verify

place = Path(tempfile.mkdtemp())
emuloss.train(
    fields="rain", count=96, size=32, thresholds=[0.5, 2.0], quick=True, out=place / "run", progress=False
)
print(*sorted(path.name for path in (place / "run").iterdir()))

figure, axis = plt.subplots(figsize=(9, 6), layout="constrained")
axis.imshow(plt.imread(place / "run" / "report.png"))
axis.axis("off")

# %%
# What would be sent
# ------------------
# Nothing is asked and nothing is sent by a dry run. Its files are whole, and its outputs replay.

verify(place / "run")
said = publish(place / "run", "org/first", dry_run=True)
print(said)
assert "model.safetensors" in said

# %%
# A Hub on this machine
# ---------------------

support = next(each for each in (Path("../../tests/support"), Path("tests/support")) if each.exists())
sys.path.insert(0, str(support))
from hub_standin import TOKEN, HubStandIn
from huggingface_hub import constants

constants.HF_URL_HOSTS = constants.HF_URL_HOSTS | {"127.0.0.1"}
hub = HubStandIn().__enter__()
os.environ["HF_ENDPOINT"] = hub.url

# %%
# Publish, and load
# -----------------

where = publish(place / "run", "org/first", tag="v1", token=TOKEN)
print(where.replace(hub.url, "https://huggingface.co"))
surrogate = emuloss.load("org/first@v1", token=False, cache_dir=place / "cache")
print(surrogate.metric.name, surrogate.thresholds, surrogate.units)
assert surrogate.thresholds == (0.5, 2.0)
assert set(hub.files("org/first")) >= {"config.json", "model.safetensors", "golden.safetensors", "README.md"}

hub.close()
del os.environ["HF_ENDPOINT"]

# %%
# Files are checked against their hashes as they arrive, nothing of them is executed, and the card keeps
# what others wrote into it when you publish anew.
