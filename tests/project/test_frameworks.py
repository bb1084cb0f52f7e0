"""The page of frameworks: what it pastes runs, and trains, against the real packages."""

import re
import warnings

import emuloss
import pytest
import torch
from frame import ROOT
from torch import nn
from torch.nn import functional as F

PAGE = (ROOT / "docs" / "frameworks.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^#+ (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))


def pasted(section: str) -> dict:
    """What the code of the page's head and of a section defines."""
    names: dict = {"__name__": "pasted"}
    for title in (next(iter(SECTIONS)), section):
        (code,) = re.findall(r"```python\n(.*?)```", SECTIONS[title], re.DOTALL)
        exec(compile(code, f"frameworks.md, {title}", "exec"), names)
    return names


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1), nn.Softplus()
    )


def pairs(count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Fields (1, H, W), smoothed and as they are."""
    generator = torch.Generator().manual_seed(0)
    target = 6 * torch.rand(count, 1, 16, 16, generator=generator) ** 4
    return list(zip(F.avg_pool2d(target, 3, 1, 1), target, strict=True))


def moved(network: nn.Module) -> bool:
    """Whether a network has learnt something, and stayed finite."""
    changes = [
        bool((one != other).any() and one.isfinite().all())
        for one, other in zip(network.parameters(), model().parameters(), strict=True)
    ]
    return all(changes)


def balanced(combined: emuloss.Combined, share: float) -> bool:
    return abs(float(combined.shares["geometry"].detach()) - share) < 0.01


def test_every_section_is_tested():
    tested = {"Plain PyTorch", "Lightning", "accelerate", "MONAI", "anemoi-training"}
    assert set(list(SECTIONS)[1:]) == tested


def test_plain_pytorch():
    names, network = pasted("Plain PyTorch"), model()
    batches = torch.utils.data.DataLoader(pairs(32), batch_size=4)
    names["fit"](network, batches, 8)
    assert moved(network)
    assert balanced(names["combined"], 0.5)
    assert names["surrogate"].temperature < 0.06


def test_accelerate():
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        names, network = pasted("accelerate"), model()
        loader = torch.utils.data.DataLoader(pairs(32), batch_size=4)
        names["fit_accelerated"](network, loader, 8, Accelerator(cpu=True))
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)  # it outlives its Accelerator
    assert moved(network)
    assert balanced(names["combined"], 0.5)


def test_lightning(tmp_path):
    lightning = pytest.importorskip("lightning")
    names, network = pasted("Lightning"), model()
    module = names["Downscaling"](network)
    loader = torch.utils.data.DataLoader(pairs(32), batch_size=4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Lightning tells of workers and logs
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = lightning.Trainer(
            max_epochs=1, accelerator="cpu", enable_checkpointing=False, default_root_dir=tmp_path, **quiet
        )
        trainer.fit(module, loader)
    assert moved(network)
    assert balanced(names["combined"], 0.5)
    assert {"mse", "geometry_weight", "geometry_share"} <= set(trainer.callback_metrics)
    assert {"combined.norms", "combined.counts"} <= set(module.state_dict())


def test_monai():
    monai = pytest.importorskip("monai")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names = pasted("MONAI")
        generator = torch.Generator().manual_seed(0)
        logits = torch.randn(2, 3, 16, 16, generator=generator).requires_grad_()
        labels = torch.randint(3, (2, 1, 16, 16), generator=generator)
        combined = names["segmentation"]
        combined(logits, labels).backward()
        assert float(combined.shares["topology"].detach()) == pytest.approx(0.3, abs=1e-3)
        assert logits.grad.abs().sum() > 0
        meta = monai.data.MetaTensor(logits.detach()).requires_grad_()
        again = combined(meta, monai.data.MetaTensor(labels))
    assert torch.isfinite(again.detach().as_tensor() if hasattr(again, "as_tensor") else again)


def test_anemoi():
    pytest.importorskip("anemoi.training.losses")
    from anemoi.training.losses import CombinedLoss, MSELoss

    names = pasted("anemoi-training")
    geometry = names["GeometryLoss"](variable=1, shape=(16, 16), mean=1.0, std=2.0)
    generator = torch.Generator().manual_seed(0)
    prediction, target = torch.rand(2, 2, 1, 1, 256, 3, generator=generator)
    prediction.requires_grad_()
    value = geometry(prediction, target)
    fields = [x[:, 0, 0, :, 1].reshape(2, 16, 16) * 2 + 1 for x in (prediction, target)]
    assert float(value.detach()) == pytest.approx(
        float(names["surrogate"].as_loss()(*fields).detach()), rel=1e-6
    )
    combined = CombinedLoss(losses=[MSELoss(), geometry], loss_weights=(1.0, 0.01))
    combined(prediction, target).backward()
    assert prediction.grad[..., 1].any()
