"""Frozen surrogates on disk: round trips, the contract, and every way in which a checkpoint can be bad."""

import copy
import hashlib
import json
import random
import re
import shutil
from functools import partial
from pathlib import Path

import drawn
import emuloss
import pytest
import torch
from emuloss.emulators import ARCHITECTURES
from emuloss.errors import ArgumentError, CheckpointError, EmulossError
from emuloss.foundation.files import unfinished
from emuloss.losses import Provenance
from emuloss.zoo import Surrogate, checkpoint, contract, schema
from torch import nn

FILES = ["README.md", "config.json", "golden.safetensors", "model.safetensors"]


def teacher(**arguments):
    return emuloss.metric(
        "minkowski", **{"thresholds": [0.105, 0.5, 1, 5], "pixel_size": 2.0, "length_unit": "km"} | arguments
    )


def emulated(arch="hybrid", seed=0, provenance=None, **arguments):
    torch.manual_seed(seed)
    emulator = ARCHITECTURES[arch](teacher(), **{"widths": (8, 16), "hidden": 16} | arguments)
    with torch.no_grad():
        for parameter in emulator.parameters():  # the last layer starts at 0, which would hide it
            parameter.add_(0.05 * torch.randn_like(parameter))
        emulator(torch.rand(2, 32, 32))  # a step of the power iteration, as in training
    return Surrogate(emulator, arch, Provenance(**provenance or {}))


rain = partial(drawn.rain, law="peaked")


SURROGATES = {
    "relaxed": lambda: emuloss.relax(teacher()),
    "relaxed, one temperature each": lambda: emuloss.relax(
        teacher(boundary="open", connectivity=2), temperature=[0.1, 0.05, 0.02, 0.01], forward="exact"
    ),
    "relaxed, with a tail": lambda: emuloss.relax(teacher(), tail=(0.1, 0.5)),
    "excursion": lambda: Surrogate(ARCHITECTURES["excursion"](teacher()), "excursion"),
    "baseline": lambda: emulated("baseline"),
    "constrained": lambda: emulated("constrained"),
    "constrained by exact norms": lambda: emulated("constrained", spectral="exact"),
    "constrained by the textbook": lambda: emulated("constrained", isoperimetric="textbook"),
    "hybrid": emulated,
}


@pytest.fixture(params=SURROGATES)
def surrogate(request):
    return SURROGATES[request.param]()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A checkpoint that no test changes."""
    folder = tmp_path_factory.mktemp("saved")
    emulated(provenance={"unit": "mm/h", "field_shape": [32, 32]}).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """A copy of it to spoil."""
    return Path(shutil.copytree(saved, tmp_path / "checkpoint"))


def rewrite(folder, change):
    """Change a configuration and seal it again, as one who forges a checkpoint would."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    change(config)
    config["config_sha256"] = contract.digest(config)
    path.write_text(json.dumps(config))


def refusal(folder) -> str:
    with pytest.raises(CheckpointError) as caught:
        emuloss.load(folder)
    message = str(caught.value)
    assert message.strip()
    assert "\n" not in message
    assert len(message) < 700
    return message


# What survives the trip


def test_round_trip_gives_the_same_curves(surrogate, tmp_path):
    surrogate.save_pretrained(tmp_path / "new" / "folder")
    loaded = emuloss.load(tmp_path / "new" / "folder")
    fields = rain()
    fields[0, :4] = torch.nan
    assert torch.equal(loaded(fields), surrogate(fields))
    assert loaded.metric == surrogate.metric
    assert loaded.architecture == surrogate.architecture
    assert loaded.module.arguments() == surrogate.module.arguments()
    assert (loaded.outputs, loaded.units, loaded.thresholds) == (
        surrogate.outputs, surrogate.units, surrogate.thresholds
    )  # fmt: skip


def test_round_trip_gives_the_same_gradient(surrogate, tmp_path):
    surrogate.save_pretrained(tmp_path)
    gradients = []
    for one in (surrogate, emuloss.load(str(tmp_path))):
        fields = rain().requires_grad_()
        one(fields).sum().backward()
        gradients.append(fields.grad)
    assert torch.equal(*gradients)
    assert gradients[0].abs().sum() > 0


def test_weights_in_channels_last_come_back_equal(tmp_path):
    trained = emulated()
    trained.module.to(memory_format=torch.channels_last)
    trained.save_pretrained(tmp_path)
    loaded = emuloss.load(tmp_path)
    for name, tensor in trained.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    # Convolutions sum in another order in another memory format.
    torch.testing.assert_close(loaded(rain()), trained(rain()), rtol=1e-4, atol=1e-2)


def test_saving_what_was_loaded_changes_nothing(folder, tmp_path):
    emuloss.load(folder).save_pretrained(tmp_path / "again")
    for name in FILES:
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_surrogate_is_frozen(surrogate, tmp_path):
    surrogate.save_pretrained(tmp_path)
    for one in (surrogate, emuloss.load(tmp_path), copy.deepcopy(surrogate)):
        parent = nn.Sequential(nn.Conv2d(1, 1, 1), one)
        parent.train()
        assert parent[0].training
        assert not any(module.training for module in one.modules())
        assert not any(parameter.requires_grad for parameter in one.parameters())
        fields = rain().requires_grad_()
        one(fields).sum().backward()
        assert fields.grad is not None
        assert all(parameter.grad is None for parameter in one.parameters())


def test_temperature_of_a_relaxed_surrogate():
    surrogate = emuloss.load("minkowski-opera")
    fields = torch.rand(1, 16, 16, requires_grad=True)

    def slopes():
        return torch.autograd.grad(surrogate(fields).sum(), fields)[0]

    cold = slopes()
    surrogate.temperature = 0.2
    assert surrogate.temperature == 0.2
    assert not torch.equal(slopes(), cold)
    for bad in (0.0, -1.0, "hot"):
        with pytest.raises(ArgumentError, match="temperature"):
            surrogate.temperature = bad
    trained = emuloss.load("components-opera")
    with pytest.raises(ArgumentError, match="'hybrid' has no temperature; leave it out"):
        trained.temperature = 0.2
    with pytest.raises(ArgumentError, match="'hybrid' has no temperature; leave it out"):
        _ = trained.temperature


def test_weights_of_a_trained_emulator_are_plain(saved):
    assert not [name for name in emuloss.load(saved).state_dict() if "parametrizations" in name]


def test_provenance_survives(tmp_path):
    training = {"source": {"name": "rain", "seed": 3}, "fields": {"train": 10}, "seconds": 1.5}
    emulated(provenance={"unit": "mm/h", "field_shape": [32, 32], "training": training}).save_pretrained(
        tmp_path
    )
    loaded = emuloss.load(tmp_path)
    assert loaded.trained_on == training
    assert loaded.evaluation == {}
    assert loaded.provenance.unit == "mm/h"
    assert loaded.provenance.field_shape == [32, 32]


def test_configuration_is_the_whole_contract(saved):
    config = json.loads((saved / "config.json").read_text())
    metric = teacher()
    assert config.keys() == schema.SCHEMA.keys()
    assert config["metric"] == metric.config()
    assert config["metric"]["arguments"]["thresholds"] == [0.105, 0.5, 1.0, 5.0]
    assert config["metric"]["arguments"]["pixel_size"] == 2.0
    arguments = {
        "widths": [8, 16], "hidden": 16, "backbone": "residual", "depth": 1, "readout": "all",
        "spectral": "power", "heads": "constrained", "isoperimetric": "valid", "masks": 7,
        "mask_temperature": 0.1, "prior": 0.05,
    }  # fmt: skip
    arguments["spreads"] = list(emulated().module.arguments()["spreads"])
    assert config["architecture"] == {"name": "hybrid", "arguments": arguments}
    assert config["outputs"] == ["area", "perimeter", "euler"]
    assert config["units"] == ["km^2", "km", "1"]
    assert config["constraints"] == [c.label for c in metric.constraints]
    assert config["unit"] == "mm/h"
    assert config["field_shape"] == [32, 32]
    assert (config["training"], config["evaluation"]) == ({}, {})
    assert config["package_version"] == emuloss.__version__
    weights = (saved / "model.safetensors").read_bytes()
    assert config["weights_sha256"] == hashlib.sha256(weights).hexdigest()


def test_card_tells_what_the_checkpoint_is(saved, tmp_path):
    card = (saved / "README.md").read_text()
    for fact in ("emuloss.load(", "minkowski", "area (km^2)", "0.105", "mm/h", "32 x 32", "area non-incr"):
        assert fact in card
    emuloss.relax(teacher()).save_pretrained(tmp_path)
    assert "analytical relaxation" in (tmp_path / "README.md").read_text()


def test_only_these_files_are_left_and_none_is_a_pickle(saved):
    assert sorted(path.name for path in saved.iterdir()) == FILES
    package = Path(checkpoint.__file__).parent
    source = "".join(path.read_text() for path in package.glob("*.py"))
    assert not re.search(r"pickle|torch\.(load|save)\b", source)


def test_saving_replaces_an_older_checkpoint(folder):
    newer = emulated(seed=1)
    newer.save_pretrained(folder)
    assert torch.equal(emuloss.load(folder)(rain()), newer(rain()))
    assert sorted(path.name for path in folder.iterdir()) == FILES


# What is refused


@pytest.mark.parametrize("place", ["", "missing", "a file", "x" * 300, "nul\0byte"])
def test_missing_folder(place, tmp_path):
    (tmp_path / "a file").write_text("")
    assert "no directory" in refusal(tmp_path / place) if place else refusal(tmp_path)


@pytest.mark.parametrize("name", FILES[1:])
def test_missing_file(folder, name):
    (folder / name).unlink()
    assert name in refusal(folder)
    (folder / name).mkdir()
    assert name in refusal(folder)


def test_missing_card_does_not_matter(folder):
    (folder / "README.md").unlink()
    emuloss.load(folder)


def test_flipped_bit_of_the_weights(folder):
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert "model.safetensors" in refusal(folder)


@pytest.mark.parametrize("content", [b"", b"\0" * 8, b"\xff" * 64, b"\x80\x04\x95 pickled"])
def test_weights_of_another_format(folder, content):
    (folder / "model.safetensors").write_bytes(content)
    rewrite(folder, lambda config: config.update(weights_sha256=hashlib.sha256(content).hexdigest()))
    refusal(folder)


def test_weights_of_another_network(folder, tmp_path):
    emulated(hidden=24).save_pretrained(tmp_path / "other")
    content = (tmp_path / "other" / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content)
    assert "fetch" in refusal(folder)
    rewrite(folder, lambda config: config.update(weights_sha256=hashlib.sha256(content).hexdigest()))
    assert "size mismatch" in refusal(folder)


def deep(levels):
    value: list = []
    for _ in range(levels):
        value = [value]
    return value


CHANGES = {
    "another format": (lambda c: c.update(format="other\n" * 1000), "format"),
    "a later version": (lambda c: c.update(format_version=schema.FORMAT_VERSION + 1), "version"),
    "version true": (lambda c: c.update(format_version=True), "format_version"),
    "an unknown key": (lambda c: c.update({"new\nkey": 1}), "unknown keys: new key"),
    "a missing key": (lambda c: c.pop("units"), "missing: units"),
    "wrong type": (lambda c: c.update(outputs="area"), "outputs"),
    "null": (lambda c: c.update(training=None), "training"),
    "unknown architecture": (lambda c: c["architecture"].update(name="other"), "architecture 'other'"),
    "architecture a list": (lambda c: c["architecture"].update(name=["relaxed"]), ""),
    "architecture without arguments": (lambda c: c["architecture"].pop("arguments"), "architecture"),
    "arguments a list": (lambda c: c["architecture"].update(arguments=[1]), "architecture"),
    "unknown argument": (lambda c: c["architecture"]["arguments"].update(colour=3), "colour"),
    "other depth": (lambda c: c["architecture"]["arguments"].update(depth=2), "in state_dict"),
    "negative depth": (lambda c: c["architecture"]["arguments"].update(depth=-1), "depth"),
    "fractional depth": (lambda c: c["architecture"]["arguments"].update(depth=1.5), ""),
    "absurd depth": (lambda c: c["architecture"]["arguments"].update(depth=2**40), "from 1 to 8"),
    "unknown backbone": (lambda c: c["architecture"]["arguments"].update(backbone="other"), "backbone"),
    "unhashable backbone": (lambda c: c["architecture"]["arguments"].update(backbone=["plain"]), "backbone"),
    "absurd masks": (lambda c: c["architecture"]["arguments"].update(masks=2**40), "from 0 to 1024"),
    "other readout": (lambda c: c["architecture"]["arguments"].update(readout="last"), "size mismatch"),
    "no widths": (lambda c: c["architecture"]["arguments"].update(widths=[]), "widths"),
    "odd widths": (lambda c: c["architecture"]["arguments"].update(widths=[7, 16]), "widths"),
    "widths of text": (lambda c: c["architecture"]["arguments"].update(widths="816"), ""),
    "fractional hidden": (lambda c: c["architecture"]["arguments"].update(hidden=16.5), ""),
    "negative hidden": (lambda c: c["architecture"]["arguments"].update(hidden=-1), "hidden"),
    "absurd widths": (lambda c: c["architecture"]["arguments"].update(widths=[2**40]), "from 1 to 4096"),
    "many wide stages": (lambda c: c["architecture"]["arguments"].update(widths=[512] * 8), "too large"),
    "many narrow stages": (lambda c: c["architecture"]["arguments"].update(widths=[8] * 5000), "list"),
    "absurd hidden": (lambda c: c["architecture"]["arguments"].update(hidden=2**31), "from 1 to 16384"),
    "cold prior": (lambda c: c["architecture"]["arguments"].update(prior=1e-12), "prior"),
    "negative prior": (lambda c: c["architecture"]["arguments"].update(prior=-1.0), "prior"),
    "unknown metric": (lambda c: c["metric"].update(name="other"), "metric 'other'"),
    "metric a list": (lambda c: c["metric"].update(name=["minkowski"]), ""),
    "metric of another form": (lambda c: c["metric"].update(more=1), "metric"),
    "metric argument unknown": (lambda c: c["metric"]["arguments"].update(colour="red"), "colour"),
    "metric argument of the factory": (lambda c: c["metric"]["arguments"].update(wet=1.0), "wet"),
    "no thresholds": (lambda c: c["metric"]["arguments"].update(thresholds=[]), "thresholds"),
    "thresholds out of order": (
        lambda c: c["metric"]["arguments"].update(thresholds=[5, 1, 0.5, 0.1]), "increasing"
    ),
    "other thresholds": (
        lambda c: c["metric"]["arguments"].update(thresholds=[1, 2], levels=[0.5, 0.6]), "of 2 thresholds"
    ),
    "many thresholds": (
        lambda c: c["metric"]["arguments"].update(thresholds=list(range(1, 5001))), "1 to 1024 entries"
    ),
    "thresholds far apart": (
        lambda c: c["metric"]["arguments"].update(thresholds=[1e-300, 1, 2, 1e300]), ""
    ),
    "pixel size of text": (lambda c: c["metric"]["arguments"].update(pixel_size="2"), "pixel_size"),
    "outputs unlike the metric's": (lambda c: c.update(outputs=["euler", "perimeter", "area"]), "outputs"),
    "units unlike the metric's": (lambda c: c.update(units=["m^2", "m", "1"]), "units"),
    "constraints unlike the metric's": (lambda c: c["constraints"].pop(), "constraints"),
    "a huge whole number": (lambda c: c["training"].update(seed=10**400), "2^53"),
    "deep nesting": (lambda c: c["training"].update(deep=deep(20)), "deep"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_forged_configuration(folder, name):
    change, word = CHANGES[name]
    rewrite(folder, change)
    assert word in refusal(folder)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", "null", '{"format": NaN}', '{"format": Infinity}', '{"format": -Infinity}', "\xff",
     '{"format": 1e999}', "[" * 100_000, "9" * 100_000, '{"a": ' * 5000, '"' + "x" * 10_000, "\0", "{}"],
    ids=lambda text: repr(text[:16]),
)  # fmt: skip
def test_configuration_that_is_not_one(folder, text):
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    refusal(folder)


def test_configuration_beyond_all_size(folder):
    with (folder / "config.json").open("wb") as file:
        file.truncate(2**40)  # sparse: reading it would fill the memory
    assert "bytes" in refusal(folder)


def test_hand_edited_configuration(folder):
    path = folder / "config.json"
    path.write_text(path.read_text().replace("0.105", "0.106", 1))
    assert "changed" in refusal(folder)


def mutated(content: bytes, chance: random.Random) -> bytes:
    kind = chance.choice(("flip", "cut", "double", "swap"))
    place = chance.randrange(len(content))
    if kind == "flip":
        return content[:place] + bytes([content[place] ^ 1 << chance.randrange(8)]) + content[place + 1 :]
    if kind == "cut":
        return content[:place]
    if kind == "double":
        return content[:place] + content[place : place + 40] + content[place:]
    lines = content.split(b"\n")
    one, other = chance.randrange(len(lines)), chance.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]
    return b"\n".join(lines)


def test_damaged_checkpoints_load_equal_or_not_at_all(folder):
    chance = random.Random(0)
    reference = emuloss.load(folder)
    fields = rain(1)
    curves = reference(fields)
    loads, messages = 0, []
    for _ in range(300):
        path = folder / chance.choice(["config.json", "config.json", "model.safetensors"])
        content = path.read_bytes()
        path.write_bytes(mutated(content, chance))
        try:
            loaded = emuloss.load(folder)
        except EmulossError as error:
            messages.append(str(error))
        else:
            loads += 1
            assert torch.equal(loaded(fields), curves)
            assert loaded.metric == reference.metric
            assert loaded.provenance == reference.provenance
        path.write_bytes(content)
    assert loads < 100
    assert not [message for message in messages if "\n" in message]


def test_forged_checkpoints_raise_nothing_else(folder):
    chance = random.Random(0)
    path = folder / "config.json"
    original = path.read_text()
    odd = [None, True, -1, 0, 1.5, 2**53, 1e300, "", "x", [], [1], {}, {"a": 1}, [[1.0]], 1e-300]

    def spoil(config):
        place = config
        while True:
            key = chance.choice(list(place) if isinstance(place, dict) else list(range(len(place))))
            if isinstance(place[key], dict | list) and place[key] and chance.random() < 0.8:
                place = place[key]
            else:
                break
        place[key] = chance.choice(odd)

    messages = []
    for _ in range(200):
        path.write_text(original)
        rewrite(folder, spoil)
        try:
            emuloss.load(folder)
        except EmulossError as error:
            messages.append(str(error))
    assert messages
    assert not [message for message in messages if "\n" in message]


# What is not written


@pytest.mark.parametrize(
    "provenance",
    [
        {"training": {"when": object()}},
        {"training": {"loss": float("nan")}},
        {"evaluation": {"r2": float("inf")}},
        {"evaluation": {"unheard": "of"}},
        {"training": [1]},
        {"unit": 3},
        {"training": {"deep": deep(50)}},
        {"training": {"deep": deep(5000)}},
        {"training": {"seed": 2**60}},
    ],
    ids=["object", "nan", "infinity", "foreign", "list", "number", "deep", "bottomless", "huge"],
)
def test_unusable_provenance_is_not_written(provenance, tmp_path):
    with pytest.raises(CheckpointError, match="provenance") as caught:
        emulated(provenance=provenance).save_pretrained(tmp_path)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_numbers_as_keys_come_back_as_text(tmp_path):
    emulated(provenance={"training": {"n": {2: "a", 10: "b"}}}).save_pretrained(tmp_path)
    assert emuloss.load(tmp_path).trained_on == {"n": {"2": "a", "10": "b"}}


def test_unwritable_place(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot write") as caught:
        emulated().save_pretrained(tmp_path / "file")
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
@pytest.mark.parametrize("name", FILES)
def test_full_disk_leaves_the_older_checkpoint(folder, name):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    unfinished(folder / name).symlink_to("/dev/full")
    with pytest.raises(CheckpointError, match="No space left"):
        emulated(seed=1).save_pretrained(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


# The surrogate itself


def test_deepcopy_is_independent_and_equal(surrogate):
    twin = copy.deepcopy(surrogate)
    assert torch.equal(twin(rain()), surrogate(rain()))
    assert twin.metric == surrogate.metric
    for name, tensor in twin.state_dict().items():
        assert tensor.data_ptr() != surrogate.state_dict()[name].data_ptr()


@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 32, 32), (2, 1, 32, 32), (2, 37, 45)])
def test_shapes(surrogate, shape):
    assert surrogate(torch.rand(shape)).shape == (shape[0], 3, 4)


def test_channel_axis_changes_nothing(surrogate):
    assert torch.equal(surrogate(rain()), surrogate(rain()[:, None]))


@pytest.mark.parametrize(
    "fields",
    [torch.rand(32, 32), torch.rand(2, 2, 32, 32), torch.ones(2, 32, 32, dtype=torch.int64), [[1.0]], None,
     torch.rand(2, 0, 32)],
    ids=lambda fields: type(fields).__name__,
)  # fmt: skip
def test_fields_of_another_kind(surrogate, fields):
    with pytest.raises(ArgumentError, match="fields") as caught:
        surrogate(fields)
    assert "\n" not in str(caught.value)


def test_double_precision(surrogate):
    single = surrogate(rain())
    double = copy.deepcopy(surrogate).double()(rain(dtype=torch.float64))
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), single, rtol=1e-3, atol=1e-2)


def test_constraints_hold_on_any_input():
    surrogate = emulated()
    fields = torch.cat([rain(), torch.zeros(1, 32, 32), torch.full((1, 32, 32), 50.0), -rain(1)])
    fields[0, 3] = torch.nan
    fields[1, 5] = torch.inf
    shares = surrogate.metric.check(surrogate(fields).double().numpy(), (32, 32))
    assert set(shares.values()) == {0.0}


def test_description(surrogate):
    assert surrogate.architecture in repr(surrogate)
    assert "minkowski" in repr(surrogate)


@pytest.mark.parametrize("temperature", [1e-12, 0.0, -1.0, float("nan")])
def test_temperature_out_of_range(temperature):
    with pytest.raises(ArgumentError, match="temperature"):
        emuloss.relax(teacher(), temperature=temperature)
