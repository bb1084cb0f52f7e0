"""Loading, relaxing, measuring and publishing leave the caller's random numbers and settings as they are."""

import os
import random
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import emuloss
import numpy as np
import pytest
import torch
from emuloss.emulators import ARCHITECTURES, certify
from emuloss.emulators.drawing import DrawnFrom
from emuloss.evaluation import evaluate, largest_slope
from emuloss.losses import Provenance
from emuloss.zoo import Surrogate, publish, verify


def teacher():
    return emuloss.metric("minkowski", thresholds=[0.105, 0.5, 1, 5], pixel_size=2.0)


def tiny(arch):
    arguments = {} if arch in ("excursion", "relaxed") else {"widths": (8, 16), "hidden": 16}
    module = ARCHITECTURES[arch](teacher(), **arguments)
    with torch.no_grad():
        for parameter in module.parameters():  # last layers start at 0, which would hide the others
            parameter.add_(0.05 * torch.randn_like(parameter))
    return Surrogate(module, arch)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """A checkpoint of each architecture."""
    folder = tmp_path_factory.mktemp("states")
    for arch in ARCHITECTURES:
        tiny(arch).save_pretrained(folder / arch)
    return folder


def state():
    """All of the caller's that a library might move."""
    return {
        "torch": torch.random.get_rng_state().tolist(),
        "numpy": (np.random.get_state()[1].tolist(), np.random.get_state()[2]),  # noqa: NPY002  the state of callers of old
        "python": random.getstate(),
        "cuda": [s.tolist() for s in torch.cuda.get_rng_state_all()] if torch.cuda.is_available() else [],
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "gradients": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "filters": list(warnings.filters),
        "errors": np.geterr(),
        "environment": {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"},
        "folder": os.getcwd(),
    }


@contextmanager
def unmoved():
    torch.manual_seed(1)
    np.random.seed(2)  # noqa: NPY002  likewise
    random.seed(3)
    before = state()
    yield
    after = state()
    assert [key for key in before if before[key] != after[key]] == []


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_loading_and_saving(arch, checkpoints, tmp_path):
    with unmoved():
        surrogate = emuloss.load(checkpoints / arch)
        emuloss.info(checkpoints / arch)
        verify(checkpoints / arch)
        surrogate.save_pretrained(tmp_path)


@pytest.mark.parametrize("arch", ["hybrid", "certified", "lipschitz"])
def test_loading_in_threads(arch, checkpoints):
    with unmoved(), ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: emuloss.load(checkpoints / arch), range(8)))


def test_a_thread_that_draws_meanwhile_gets_its_own_numbers(checkpoints):
    """Setting the state back would hide what was drawn, and give it to others twice."""
    torch.manual_seed(7)
    expected = torch.rand(4000)
    torch.manual_seed(7)
    done = threading.Event()

    def load():
        while not done.is_set():
            emuloss.load(checkpoints / "hybrid")

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    found = [torch.rand(40) for _ in range(100)]
    done.set()
    for thread in threads:
        thread.join()
    assert torch.equal(torch.cat(found), torch.cat([expected[40 * k : 40 * (k + 1)] for k in range(100)]))


def test_relaxing_and_losses():
    with unmoved():
        loss = emuloss.relax(teacher()).as_loss()
        fields = torch.linspace(0, 6, 2 * 16 * 16).reshape(2, 16, 16)
        loss(fields[:1].requires_grad_(), fields[1:].detach()).backward()


def test_measuring_and_publishing(tmp_path, standin):
    metric = teacher()
    fields = np.linspace(0, 6, 4 * 16 * 16, dtype=np.float32).reshape(4, 16, 16) % 5
    surrogate = emuloss.relax(metric)
    with unmoved():
        figures = evaluate(
            surrogate, fields, metric(fields), descent_fields=1, descent_steps=2, progress=False
        )
    surrogate.provenance = Provenance(evaluation=dict(figures.figures))
    surrogate.save_pretrained(tmp_path)
    with unmoved():
        publish(tmp_path, "org/repo", dry_run=True)


def test_certifying(checkpoints):
    surrogate = emuloss.load(checkpoints / "certified")
    fields = np.linspace(0, 6, 2 * 16 * 16, dtype=np.float32).reshape(2, 16, 16)
    with unmoved():
        certify(surrogate, (16, 16))
        largest_slope(surrogate, fields, steps=2, seed=0)


# The caller's settings do not reach what is loaded, either


@contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_another_default_dtype(arch, dtype, checkpoints):
    expected = emuloss.load(checkpoints / arch)
    with default_dtype(dtype):
        found = emuloss.load(checkpoints / arch)
    assert {tensor.dtype for tensor in found.parameters()} <= {torch.float32}
    fields = torch.linspace(0, 6, 2 * 16 * 16).reshape(2, 16, 16)
    assert torch.equal(found(fields), expected(fields))


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_another_default_device_and_inference_mode(arch, checkpoints):
    with torch.device("meta"), torch.inference_mode():
        found = emuloss.load(checkpoints / arch)
    tensors = [*found.parameters(), *found.buffers()]
    assert {tensor.device.type for tensor in tensors} <= {"cpu"}
    assert not any(tensor.is_inference() for tensor in tensors)
    fields = torch.linspace(0, 6, 16 * 16).reshape(1, 16, 16).requires_grad_()
    found(fields).sum().backward()
    assert fields.grad.abs().sum() > 0


# Where the random numbers come from

DRAWS = {
    "randn": lambda: torch.randn(5),
    "rand": lambda: torch.rand(5),
    "randint": lambda: torch.randint(3, 9, (5,)),
    "randint from 0": lambda: torch.randint(9, (5,)),
    "randperm": lambda: torch.randperm(5),
    "like": lambda: torch.randn_like(torch.rand_like(torch.ones(5))),
    "normal": lambda: torch.normal(torch.zeros(5), torch.ones(5)),
    "in place": lambda: torch.empty(5).uniform_().normal_().exponential_().log_normal_(),
    "bernoulli": lambda: torch.bernoulli(torch.rand(9)),
    "multinomial": lambda: torch.multinomial(torch.ones(5), 2),
    "dropout": lambda: torch.nn.functional.dropout(torch.ones(9)),
    "orthogonal": lambda: torch.nn.init.orthogonal_(torch.empty(4, 4)),
    "truncated": lambda: torch.nn.init.trunc_normal_(torch.empty(5)),
    "layers": lambda: torch.cat([p.flatten() for p in torch.nn.Conv2d(2, 3, 3).parameters()]),
    "spectral": lambda: torch.nn.utils.parametrizations.spectral_norm(torch.nn.Linear(4, 5)).weight.detach(),
}


OLD = pytest.mark.xfail(
    "generator" not in torch.ops.aten.rand_like.overloads(), strict=True, reason="it takes no generator"
)
"""Of what torch draws from its own generator alone in versions such as 2.8."""


@pytest.mark.parametrize(
    "draw", [pytest.param(draw, marks=OLD) if draw == "like" else draw for draw in DRAWS]
)
def test_numbers_of_its_own_are_those_of_its_seed(draw):
    torch.manual_seed(5)
    expected = DRAWS[draw]()
    with unmoved(), DrawnFrom(5):
        found = DRAWS[draw]()
    assert torch.equal(found, expected)
    with DrawnFrom(6):
        assert not torch.equal(DRAWS[draw](), expected)


def test_a_generator_that_is_given_is_used():
    with unmoved(), DrawnFrom(5):
        found = torch.rand(5, generator=torch.Generator().manual_seed(9))
    assert torch.equal(found, torch.rand(5, generator=torch.Generator().manual_seed(9)))
