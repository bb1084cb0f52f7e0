"""Golden outputs: what they hold, that they replay, and what makes them fail."""

import hashlib
import json
import shutil
from pathlib import Path

import emuloss
import pytest
import torch
from emuloss.emulators import ARCHITECTURES, signed_log1p
from emuloss.errors import CheckpointError, CorruptedError
from emuloss.losses import Provenance
from emuloss.zoo import Surrogate, contract, golden
from safetensors.torch import load_file, save

ALL = ("area", "perimeter", "euler", "components", "holes")


def teacher(**arguments):
    return emuloss.metric(
        "minkowski", **{"thresholds": [0.105, 0.5, 1, 5], "pixel_size": 2.0, "outputs": ALL} | arguments
    )


def tiny(arch, provenance=None, **arguments):
    torch.manual_seed(0)
    if arch not in ("excursion", "relaxed"):
        arguments = {"widths": (8, 16), "hidden": 16} | arguments
    module = ARCHITECTURES[arch](teacher(), **arguments)
    with torch.no_grad():
        for parameter in module.parameters():  # last layers start at 0, which would hide the others
            parameter.add_(0.05 * torch.randn_like(parameter))
    return Surrogate(module, arch, Provenance(**provenance or {}))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A checkpoint that no test changes."""
    folder = tmp_path_factory.mktemp("saved")
    tiny("hybrid", {"unit": "mm/h", "field_shape": [32, 40]}).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """A copy of it to spoil."""
    return Path(shutil.copytree(saved, tmp_path / "checkpoint"))


def reseal(folder, content):
    """Put other golden outputs in, and vouch for them, as one who forges a checkpoint would."""
    (folder / golden.GOLDEN).write_bytes(content)
    config = json.loads((folder / "config.json").read_text())
    config["golden_sha256"] = hashlib.sha256(content).hexdigest()
    config["config_sha256"] = contract.digest(config)
    (folder / "config.json").write_text(json.dumps(config))


def refusal(surrogate, folder, kind=CorruptedError) -> str:
    with pytest.raises(kind) as caught:
        golden.verify(surrogate, folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# The fields


@pytest.mark.parametrize(
    "thresholds", [[0.105, 0.5, 1, 5], [273.0], [-3.0, 0.0, 2.0], [1e-20, 1e-19], [1e8, 2e30]], ids=str
)
def test_fields_see_every_interval(thresholds):
    fields = golden.golden_fields(teacher(thresholds=thresholds, levels=None), (24, 32))
    assert (fields.shape, fields.dtype) == ((3, 24, 32), torch.float32)
    assert not fields.isinf().any()
    bins = torch.bucketize(fields[0].double(), torch.tensor(thresholds, dtype=torch.float64))
    if thresholds[-1] < 1e30:
        assert torch.bincount(bins.flatten()).min() > 24 * 32 // 2 // (len(thresholds) + 1) - 2
    assert 0.01 < fields[1].isnan().float().mean() < 0.5
    assert len(fields[2].unique()) == 1
    assert fields[2].max() < thresholds[0]


def test_first_field_has_no_ties():
    assert len(golden.golden_fields(teacher(), (64, 64))[0].unique()) == 64 * 64


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 3)])
def test_smallest_fields(shape):
    assert golden.golden_fields(teacher(), shape).shape == (3, *shape)


def test_a_day_of_rain_looks_the_same_in_any_unit():
    fields = golden.golden_fields(teacher(thresholds=[1, 2]), (16, 16))
    other = golden.golden_fields(teacher(thresholds=[1000, 2000]), (16, 16))
    torch.testing.assert_close(1000 * fields, other, equal_nan=True)


# What is written


def test_file_holds_what_the_surrogate_gives(saved):
    surrogate, tensors = emuloss.load(saved), load_file(saved / golden.GOLDEN)
    fields = tensors["fields"]
    assert fields.shape == (3, 32, 40)
    torch.testing.assert_close(surrogate(fields), tensors["curves"])
    one = fields[:1].clone().requires_grad_()
    (tensors["direction"] * signed_log1p(surrogate(one))).sum().backward()
    assert 0 < (one.grad - tensors["gradient"]).norm() < 1e-3 * one.grad.norm()
    content = (saved / golden.GOLDEN).read_bytes()
    config = json.loads((saved / "config.json").read_text())
    assert config["golden_sha256"] == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("given", "shape"),
    [(None, (64, 64)), ([32, 48], (32, 48)), ([2200, 1900], (256, 256)), ([2, 300], (4, 256))],
)
def test_shape_is_the_one_trained_on_within_reason(given, shape, tmp_path):
    tiny("lipschitz", {"field_shape": given}).save_pretrained(tmp_path)
    assert load_file(tmp_path / golden.GOLDEN)["fields"].shape == (3, *shape)


def test_writing_is_reproducible(saved, tmp_path):
    torch.manual_seed(5)
    emuloss.load(saved).save_pretrained(tmp_path)
    assert (tmp_path / golden.GOLDEN).read_bytes() == (saved / golden.GOLDEN).read_bytes()


def test_random_numbers_of_the_caller_stay_as_they_are(saved, tmp_path):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    surrogate = emuloss.load(saved)
    surrogate.save_pretrained(tmp_path)
    golden.verify(surrogate, tmp_path)
    assert torch.equal(torch.rand(4), expected)


def test_broken_weights_are_not_saved(tmp_path):
    surrogate = tiny("constrained")
    next(surrogate.parameters()).data[0] = torch.nan
    with pytest.raises(CheckpointError, match="finite"):
        surrogate.save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_what_would_not_load_again_is_not_saved(tmp_path):
    module = ARCHITECTURES["relaxed"](teacher())
    with pytest.raises(CheckpointError, match="unknown architecture 'mine'"):
        Surrogate(module, "mine").save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new").exists()


# What replays


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_architecture_replays(arch, tmp_path):
    surrogate = tiny(arch)
    surrogate.save_pretrained(tmp_path)
    golden.verify(emuloss.load(tmp_path), tmp_path)
    golden.verify(surrogate, str(tmp_path))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_surrogates_of_another_precision(dtype, tmp_path):
    """They are saved in single precision, and what was saved replays."""
    surrogate = tiny("constrained").to(dtype)
    surrogate.save_pretrained(tmp_path)
    loaded = emuloss.load(tmp_path)
    assert {tensor.dtype for tensor in loaded.parameters()} == {torch.float32}
    golden.verify(loaded, tmp_path)


def test_other_circumstances(saved):
    surrogate = emuloss.load(saved)
    before = {name: tensor.clone() for name, tensor in surrogate.state_dict().items()}
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        golden.verify(surrogate, saved)
    golden.verify(surrogate.to(memory_format=torch.channels_last), saved)
    golden.verify(surrogate.double(), saved)
    assert {tensor.dtype for tensor in surrogate.parameters()} == {torch.float64}  # it was left as it was
    for name, tensor in surrogate.state_dict().items():
        assert torch.equal(tensor.float(), before[name])


@pytest.mark.gpu
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_surrogate_on_another_device(arch, tmp_path):
    surrogate = tiny(arch).to("cuda")
    surrogate.save_pretrained(tmp_path)
    loaded = emuloss.load(tmp_path, device="cuda")
    golden.verify(loaded, tmp_path)
    tensors = (*loaded.parameters(), *loaded.buffers())
    assert {tensor.device.type for tensor in tensors} == {"cuda"}


# What does not


def test_other_weights(saved):
    surrogate = emuloss.load(saved)
    heads = surrogate.module.fc[-1].bias
    heads.data += 1e-7
    golden.verify(surrogate, saved)
    heads.data += 0.01
    message = refusal(surrogate, saved)
    for output in ("perimeter", "components"):
        assert f"curves of {output} by " in message
    assert "0.0001" in message


@pytest.mark.parametrize("name", [f"module.backbone.stages.{k}.0.convs.0.weight" for k in range(2)])
def test_any_layer(saved, name):
    surrogate = emuloss.load(saved)
    surrogate.state_dict()[name].mul_(1.05)
    refusal(surrogate, saved)


def test_not_a_number_fails(saved):
    surrogate = emuloss.load(saved)
    surrogate.module.fc[-1].bias.data[:] = torch.nan
    assert "by nan" in refusal(surrogate, saved)


def test_gradient_alone(tmp_path):
    """Exact values whatever the temperature, on which only the gradient depends."""
    emuloss.relax(teacher(), forward="exact", temperature=0.05).save_pretrained(tmp_path)
    other = emuloss.relax(teacher(), forward="exact", temperature=0.06)
    message = refusal(other, tmp_path)
    assert "input gradient by" in message
    assert "curves" not in message


def test_another_surrogate(saved):
    other = emuloss.relax(teacher(thresholds=[1.0, 2.0]))
    assert "not one that this surrogate wrote" in refusal(other, saved)
    assert "not give what it gave" in refusal(emuloss.relax(teacher()), saved)


def test_missing_file(folder):
    surrogate = emuloss.load(folder)
    (folder / golden.GOLDEN).unlink()
    assert golden.GOLDEN in refusal(surrogate, folder, CheckpointError)
    with pytest.raises(CheckpointError, match=r"golden\.safetensors"):
        emuloss.load(folder)


def test_flipped_bit(folder):
    surrogate, path = emuloss.load(folder), folder / golden.GOLDEN
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert "not the file that config.json describes" in refusal(surrogate, folder)
    with pytest.raises(CorruptedError, match=r"golden\.safetensors"):
        emuloss.load(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.pop("curves"),
        lambda t: t.update(more=torch.zeros(1)),
        lambda t: t.update(fields=t["fields"].double()),
        lambda t: t.update(curves=t["curves"].int()),
        lambda t: t.update(curves=t["curves"][:2]),
        lambda t: t.update(fields=t["fields"][:2]),
        lambda t: t.update(fields=t["fields"][None]),
        lambda t: t.update(fields=torch.zeros(3, 1000, 32), gradient=torch.zeros(1, 1000, 32)),
        lambda t: t.update(fields=torch.zeros(3, 0, 32), gradient=torch.zeros(1, 0, 32)),
        lambda t: t.update(direction=-t["direction"]),
        lambda t: t.update(curves=t["curves"] * 1.01),
        lambda t: t.clear(),
    ],
    ids=str,
)
def test_forged_outputs(folder, change):
    tensors = load_file(folder / golden.GOLDEN)
    change(tensors)
    reseal(folder, save(tensors))
    refusal(emuloss.load(folder), folder)


@pytest.mark.parametrize("content", [b"", b"\xff" * 64, b"\0" * 2**16])
def test_files_of_another_format(folder, content):
    reseal(folder, content)
    assert "damaged" in refusal(emuloss.load(folder), folder)
