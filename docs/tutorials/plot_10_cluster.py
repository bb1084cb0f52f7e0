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
settings = ["--fields", "rain", "--count", "96", "--size", "32", "--metric", "clusters"]
settings += ["--thresholds", "0.5"]
settings += ["--widths", "8,16", "--learning-rate", "0.004", "--budget", "320", "--batch-size", "16"]
settings += ["--precision", "float32", "--descents", "0", "--quick", "--no-progress"]
launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines=1"]
launcher += ["--num_processes=2", "--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0"]
# No GPU is to be seen: processes then talk by gloo, on CPUs.
environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}


command = [*launcher, str(script.resolve()), *settings, "--out", str(place / "run")]
ended = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)
assert ended.returncode == 0, ended.stderr[-2000:]
print(ended.stdout.partition("violation")[0].replace(str(place), "FOLDER").strip())

# %%
# One run came of it
# ------------------
# The processes shared the batches, added their gradients up, and wrote one checkpoint.

surrogate = emuloss.load(place / "run")
print("fields seen:", surrogate.trained_on["fields_seen"])
assert surrogate.trained_on["fields_seen"] <= 320
assert ended.stdout.count("\nVerdict") == 1  # one table, not two

source = Rain(64, size=32, seed=7)
fields = torch.from_numpy(np.concatenate([source.read(k, "train") for k in range(len(source))]))
exact = surrogate.metric(fields.numpy())[:, 0, 0]
figure, axis = plt.subplots(figsize=(4.2, 3.4), layout="constrained")
axis.loglog(1 + exact, 1 + surrogate(fields)[:, 0, 0], ".")
axis.set(xlabel="1 + largest cluster", ylabel="after 20 steps", title="begun by two processes")

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
