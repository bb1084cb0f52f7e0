"""
On a cluster
============

Several processes train one network on the same batches as one would: on GPUs, on CPUs, on machines that
share a folder. Here two processes on this CPU, started as you would start them.
"""

# %%
# Started by accelerate
# ---------------------
# ``accelerate launch`` starts the processes; ``--batch-size`` counts the fields of all of them together.
# With ``--budget`` in place of a time, and single precision, the end is that of one process, within
# rounding.

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import emuloss
import matplotlib.pyplot as plt
import numpy as np
import torch
from emuloss.datasets import Rain

place = Path(tempfile.mkdtemp())
script = next(
    each for each in (Path("../../train_surrogate.py"), Path("train_surrogate.py")) if each.exists()
)
settings = [
    "--fields",
    "rain",
    "--count",
    "96",
    "--size",
    "32",
    "--metric",
    "clusters",
    "--thresholds",
    "0.5",
]
settings += ["--widths", "8,16", "--learning-rate", "0.004", "--budget", "1920", "--batch-size", "16"]
settings += ["--precision", "float32", "--descents", "0", "--quick", "--no-progress"]
launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines=1"]
launcher += ["--num_processes=2", "--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0"]
# No GPU is to be seen: processes then talk by gloo, on CPUs.
environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}


def start(count):
    """A run of so many processes; where it is."""
    out = place / f"{count} processes"
    command = [*(launcher if count > 1 else [sys.executable]), str(script.resolve())]
    ended = subprocess.run(
        [*command, *settings, "--out", str(out)], cwd=place, env=environment, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    return out


runs = {count: start(count) for count in (1, 2)}

# %%
# The same end
# ------------
# Curves of both networks on fields that neither has seen.

source = Rain(64, size=32, seed=7)
fields = np.concatenate([source.read(k, "train") for k in range(len(source))])
curves = {count: emuloss.load(out)(torch.from_numpy(fields)) for count, out in runs.items()}
difference = float((curves[1] - curves[2]).abs().max() / curves[1].abs().max())
print(f"largest difference of the curves, relative to the largest value: {difference:.1e}")
assert difference < 1e-2
assert curves[1][:, 0, 0].std() > 5  # and the network has learnt to tell fields apart

figure, axis = plt.subplots(figsize=(4.2, 3.4), layout="constrained")
axis.scatter(curves[1][:, 0, 0], curves[2][:, 0, 0], s=14)
axis.set(xlabel="largest cluster, by one process", ylabel="by two")

# %%
# On your machines
# ----------------
# On one node with four GPUs, and by SLURM on two of them:
#
# .. code-block:: bash
#
#    accelerate launch --multi_gpu --num_processes 4 \
#        train_surrogate.py --fields opera:FOLDER --out runs/four
#
#    srun --nodes 2 --ntasks-per-node 1 bash -c 'accelerate launch --multi_gpu --num_machines 2 \
#        --num_processes 8 --machine_rank $SLURM_NODEID \
#        --main_process_ip $(scontrol show hostnames | head -1) \
#        --main_process_port 29500 train_surrogate.py --fields opera:FOLDER --out runs/eight'
#
# ``--out`` lies on storage that all machines share. A job that ends by a signal leaves a usable run, and
# the same command goes on with it, also in the next job. In your own training the loss is a module like
# others: it lives in the model under DDP, a live one keeps equal networks in all processes, and
# ``as_score`` takes ``across_processes=True`` where each process draws some of the members.
