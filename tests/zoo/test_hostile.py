"""Thousands of damaged and forged checkpoints: each loads as it was or raises an error of this package.

A worker process (this file, run as a script) loads and verifies them under limits of time and memory,
so that a crash or a hang is found as well; case k is the same whatever the others are.
"""

import hashlib
import json
import math
import os
import random
import shutil
import struct
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import emuloss
import pytest
import torch
from emuloss.emulators import ARCHITECTURES, signed_log1p
from emuloss.errors import EmulossError
from emuloss.losses import Provenance
from emuloss.zoo import Surrogate, contract, golden

ALL = ("area", "perimeter", "euler", "components", "holes")
FILES = ("config.json", "model.safetensors", "golden.safetensors")
SECONDS, MEMORY = 2.0, 2**30
"""Limits of a case: processor time of load and verify, and memory beyond that of the process before."""

# The victims


def write_victims(folder):
    """A tiny checkpoint of each architecture, and one of exact spectral norms."""
    metric = emuloss.metric("minkowski", thresholds=[0.105, 0.5, 1, 5], pixel_size=2.0, outputs=ALL)
    for name in (*ARCHITECTURES, "exact"):
        arch = "constrained" if name == "exact" else name
        arguments = {} if arch in ("excursion", "relaxed") else {"widths": (8, 16), "hidden": 16}
        if name == "exact":
            arguments["spectral"] = "exact"
        torch.manual_seed(0)
        module = ARCHITECTURES[arch](metric, **arguments)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        training = {"source": {"name": "rain", "seed": 3}, "fields": {"train": 10}, "seconds": 1.5}
        provenance = Provenance(unit="mm/h", field_shape=[32, 32], training=training)
        Surrogate(module, arch, provenance).save_pretrained(folder / name)


def probe(surrogate):
    """Log curves of fields other than the golden ones."""
    generator = torch.Generator().manual_seed(7)
    return signed_log1p(surrogate(torch.rand(4, 32, 32, generator=generator) ** 4 * 12))


# Mutations of bytes


def flip(content, chance):
    return flips(content, chance, 1)


def flips(content, chance, number=20):
    content = bytearray(content)
    for _ in range(number):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    return bytes(content)


def flip_in_head(content, chance):
    return flip(content[:400], chance) + content[400:]


def truncate(content, chance):
    return content[: chance.choice((chance.randrange(len(content)), len(content) - 1, 8, 0))]


def extend(content, chance):
    return content + chance.choice((b"\0", b"}", b"\n", b" " * 4096, content, bytes(range(256))))


def double(content, chance):
    place = chance.randrange(len(content))
    return content[: place + 40] + content[place:]


def wipe(content, chance):
    start = chance.randrange(len(content))
    length = min(chance.choice((1, 8, 200, 4096)), len(content) - start)
    return (
        content[:start]
        + chance.choice((b"\0", b"\xff", b" ", b"9", b"[")) * length
        + content[start + length :]
    )


def swap_lines(content, chance):
    lines = content.split(b"\n")
    one, other = chance.randrange(len(lines)), chance.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]
    return b"\n".join(lines)


BYTES = (flip, flips, flip_in_head, truncate, extend, double, wipe, swap_lines)

# Mutations of configurations, as text: what JSON can say, and what it cannot


def deep(levels):
    return "[" * levels + "]" * levels


ODD = (
    "null", "true", "false", "-1", "0", "-0.0", "1.5", "1e30", "1e999", "-1e999", "NaN", "Infinity",
    "-Infinity", "9007199254740993", "1e-300", "2147483648", "4294967296", "-9223372036854775808",
    "1" + "0" * 400, "9" * 5000, "9" * 100_000, '""', '"x"', '"../../../etc/passwd"', '"/dev/zero"',
    '"..\\\\..\\\\boot.ini"', '"\\u0000"', '"\\ud800"', '"\\udfff\\ud800"', '"\\u202e\\u200b"',
    '"line\\nbreak"', '"\N{SNOWMAN}"', '"%s%n{0}"', json.dumps("x" * 10_000), json.dumps("é" * 2000),
    "[]", "[1]", "[[1.0]]", "[null]", "{}", '{"a": 1}', '{"a": 1, "a": 2}', '{"": {}}',
    '{"__class__": "os.system"}', '{"\\ud800": 1}', deep(11), deep(50), deep(3000),
    json.dumps([0.1] * 5000), json.dumps(list(range(1, 1025))), json.dumps(list(range(100_000))),
    json.dumps([8] * 8), json.dumps([4096] * 8), json.dumps([-8, 16]), json.dumps([2**40]), '["8"]',
)  # fmt: skip
"""What may stand where a value of a configuration stood, as JSON or as what passes for it."""

MARK = "the place of a mutation"


def places(config):
    """Every (container, key) of a configuration."""
    found, queue = [], [config]
    while queue:
        value = queue.pop()
        for key in value if isinstance(value, dict) else range(len(value)):
            found.append((value, key))
            if isinstance(value[key], dict | list):
                queue.append(value[key])
    return found


def pick(config, chance):
    """A place; half of the time one that something is built from."""
    roots = [config["architecture"], config["metric"], config] if chance.random() < 0.5 else [config]
    return chance.choice(places(chance.choice(roots)))


def odd_value(config, chance):
    container, key = pick(config, chance)
    container[key] = MARK
    return json.dumps(config).replace(json.dumps(MARK), chance.choice(ODD), 1)


def near_value(config, chance):
    """A value of the same kind: the hardest to tell from a right one."""
    container, key = pick(config, chance)
    value = container[key]
    if isinstance(value, bool) or value is None:
        container[key] = chance.choice((True, False, None, 0, 1))
    elif isinstance(value, int | float):
        container[key] = chance.choice(
            (-value, value + 1, value * 2, value * 1000, value / 3, -(2**31), 2**52)
        )
    elif isinstance(value, str):
        container[key] = chance.choice(
            (value + " ", value.upper(), value[::-1], value[:-1], *ARCHITECTURES, *ALL)
        )
    elif isinstance(value, list):
        container[key] = chance.choice(
            (value[::-1], value[:-1], value + value, [value], sorted(value, key=str))
        )
    else:
        container[key] = chance.choice((list(value), {**value, "more": 1}, dict(list(value.items())[1:])))
    return json.dumps(config)


def lost_key(config, chance):
    container, key = pick(config, chance)
    del container[key]
    return json.dumps(config)


def new_key(config, chance):
    container = chance.choice([config, *(c[k] for c, k in places(config) if isinstance(c[k], dict))])
    names = (
        "colour",
        "quantiles",
        "fields",
        "wet",
        "quantum",
        "self",
        "metric",
        "",
        "a\nb",
        "__init__",
        "\0",
    )
    container[chance.choice(names)] = MARK
    return json.dumps(config).replace(json.dumps(MARK), chance.choice(ODD), 1)


def swapped_keys(config, chance):
    (one, first), (other, second) = pick(config, chance), pick(config, chance)
    try:
        one[first], other[second] = other[second], one[first]
        return json.dumps(config)
    except (KeyError, IndexError, TypeError, ValueError, RecursionError):  # one lies within the other
        return "{}"


def doubled_key(config, chance):
    text = json.dumps(config)
    key = chance.choice(list(config))
    first = chance.random() < 0.5
    pair = f"{json.dumps(key)}: {chance.choice(ODD)}"
    return "{" + pair + ", " + text[1:] if first else text[:-1] + ", " + pair + "}"


def other_encoding(config, chance):
    return json.dumps(config, ensure_ascii=False).encode(
        chance.choice(("utf-16", "utf-8-sig", "utf-32", "cp500"))
    )


def whole(config, chance):
    return chance.choice(ODD) if chance.random() < 0.7 else "[" * chance.choice((10, 10_000, 4_000_000))


TEXTS = (odd_value, odd_value, near_value, near_value, lost_key, new_key, swapped_keys, doubled_key)
TEXTS += (other_encoding, whole)

# Mutations of tensor files


def parts(content):
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def joined(header, data):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def tensor_file(content, chance):
    header, data = parts(content)
    names = [name for name in header if name != "__metadata__"]
    kind = chance.randrange(14)
    if not names:  # a relaxation has no weights
        return joined(
            chance.choice((
                {"a": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}, {"__metadata__": {"a": "b"}},
                {"a": {"dtype": "F32", "shape": [2**60, 2**60], "data_offsets": [0, 0]}}, [], b"{", b"null",
            )),
            data,
        )  # fmt: skip
    one, other = chance.choice(names), chance.choice(names)
    entry = header[one]
    start, stop = entry["data_offsets"]
    if kind == 0:
        header[one], header[other] = header[other], header[one]
    elif kind == 1:
        entry["dtype"] = chance.choice(
            ("I32", "U32", "F64", "BF16", "F16", "C64", "F8_E4M3", "BOOL", "odd", 7)
        )
    elif kind == 2:
        entry["shape"] = chance.choice(
            (
                [-1],
                [2**63],
                [2**32, 2**32],
                [],
                [0],
                entry["shape"][::-1],
                [math.prod(entry["shape"])],
                [1.5],
                None,
            )
        )
    elif kind == 3:
        entry["data_offsets"] = chance.choice(
            (
                [stop, start],
                [0, 2**62],
                [-8, 8],
                [start + 4, stop + 4],
                [start],
                [start, start],
                header[other]["data_offsets"],
            )
        )
    elif kind == 4:
        del header[one]
        data = data[:start] + data[stop:]
    elif kind == 5:
        header["more"] = {"dtype": "F32", "shape": [2], "data_offsets": [len(data), len(data) + 8]}
        data += b"\0" * 8
    elif kind == 6:
        value = chance.choice((math.nan, math.inf, -math.inf, 1e38, -1e38, 0.0, 1e-45))
        place = chance.randrange(start, stop, 4)
        data = data[:place] + struct.pack("<f", value) + data[place + 4 :]
    elif kind == 7:
        data = data[:start] + bytes(stop - start) + data[stop:]
    elif kind == 8:
        data = data[:start] + chance.randbytes(stop - start) + data[stop:]
    elif kind == 9:
        return (
            struct.pack("<Q", chance.choice((2**64 - 1, 2**63, 2**40, 10**8, len(content), 0, 1)))
            + content[8:]
        )
    elif kind == 10:
        text = json.dumps(header)
        return joined((text[:-1] + f", {json.dumps(one)}: {json.dumps(header[other])}}}").encode(), data)
    elif kind == 11:
        return joined(deep(chance.choice((10, 100_000))).encode(), data)
    elif kind == 12:
        header = {
            chance.choice(("../" + name, name + "\0", name.upper(), "\N{SNOWMAN}")): v
            for name, v in header.items()
        }
    else:
        header["__metadata__"] = chance.choice(({"format": "pt"}, {"a": 1}, [], "x" * 100_000, None))
    return joined(header, data)


# Cases


def mutated(files, others, chance):
    """A mutated copy of a checkpoint's files (None: missing), and the mutation's name."""
    files = dict(files)
    name = chance.choice((FILES[0], *FILES))
    kind = chance.choice(("bytes", "bytes", "content", "content", "content", "content", "exchange"))
    if kind == "bytes":
        change = chance.choice(BYTES)
        files[name] = change(files[name], chance) if files[name] else b"x"
        kind = f"bytes {change.__name__}"
    elif kind == "content" and name == "config.json":
        change = chance.choice(TEXTS)
        text = change(json.loads(files[name]), chance)
        files[name] = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
        kind = f"config {change.__name__}"
    elif kind == "content":
        files[name] = tensor_file(files[name], chance)
        kind = "tensors"
    else:
        files[name] = chance.choice((None, b"", others[name], files[chance.choice(FILES)]))
    if chance.random() < 0.7:
        files, kind = resealed(files), f"{kind}, resealed"
    return files, kind


def resealed(files):
    """Recompute the hashes, as one who forges a checkpoint would; where the configuration still has any."""
    try:
        config = json.loads(files["config.json"])
        text = files["config.json"].decode()
        for key, name in (("weights_sha256", FILES[1]), ("golden_sha256", FILES[2])):
            seal = hashlib.sha256(files[name]).hexdigest()
            text, config[key] = text.replace(config[key], seal), seal
        text = text.replace(config["config_sha256"], contract.digest(config))
        return {**files, "config.json": text.encode()}
    except (ValueError, TypeError, KeyError, RecursionError, AttributeError):
        return files


def memory(key):
    """VmRSS, VmHWM or VmSize of this process, in bytes; 0 where the system does not tell."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(key))


def forget_peak():
    """Let VmHWM start from the present."""
    if os.path.exists("/proc/self/clear_refs"):
        Path("/proc/self/clear_refs").write_text("5")


def outcome(folder, expected):
    """How loading and verifying ended, "" where as it should: (ending, complaint)."""
    try:
        surrogate = emuloss.load(folder)
        golden.verify(surrogate, folder)
    except EmulossError as error:
        message = str(error)
        sound = message.strip() and "\n" not in message and len(message) < 1000 and message.isprintable()
        greedy = "alloc" in message or "memory" in message
        complaint = "" if sound and not greedy else f"bad message {message!r}"
        return type(error).__name__, complaint
    except BaseException as error:
        return "foreign", f"{type(error).__name__}: {error}"
    found = probe(surrogate)
    wrong = not float((found - expected).norm() / expected.norm()) < 1e-3
    return "loaded", "silently wrong" if wrong else ""


def work(folder, start, stop):
    """Run cases; print one line of JSON each before and after."""
    victims = {
        path.name: {name: (path / name).read_bytes() for name in FILES} for path in sorted(folder.iterdir())
    }
    expected = {}
    for name in victims:
        surrogate = emuloss.load(folder / name)
        golden.verify(surrogate, folder / name)
        expected[name] = probe(surrogate)
    if sys.platform == "linux":
        import resource

        # A request for much more fails and says so, instead of taking the machine down.
        resource.setrlimit(resource.RLIMIT_AS, (memory("VmSize") + 4 * MEMORY,) * 2)
    for case in range(start, stop):
        chance = random.Random(case)
        names = sorted(victims)
        name = names[case % len(names)]
        files, kind = mutated(victims[name], victims[chance.choice(names)], chance)
        place = folder.parent / f"case {start}"
        place.mkdir()
        for file, content in files.items():
            if content is not None:
                (place / file).write_bytes(content)
        print(json.dumps({"begun": case, "victim": name, "kind": kind}), flush=True)
        forget_peak()
        before, began = memory("VmRSS"), time.process_time()
        ending, complaint = outcome(place, expected[name])
        line = {
            "case": case, "ending": ending, "kind": kind, "complaint": complaint,
            "seconds": time.process_time() - began, "growth": memory("VmHWM") - before,
        }  # fmt: skip
        print(json.dumps(line), flush=True)
        shutil.rmtree(place)


def run(folder, start, stop):
    worker = subprocess.run(
        [sys.executable, __file__, str(folder), str(start), str(stop)],
        capture_output=True, text=True, timeout=3 * (stop - start) + 60, check=False, cwd=folder.parent,
    )  # fmt: skip
    lines = [json.loads(line) for line in worker.stdout.splitlines()]
    assert worker.returncode == 0, f"crash in {lines[-1:]}: {worker.stderr[-2000:]}"
    results = [line for line in lines if "case" in line]
    assert len(results) == stop - start
    return results


@pytest.fixture(scope="module")
def victims(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile") / "victims"
    write_victims(folder)
    return folder


@pytest.mark.parametrize(
    ("start", "stop"),
    [(0, 400), *(pytest.param(k, k + 400, marks=pytest.mark.slow) for k in (400, 800, 1200, 1600))],
)
def test_mutated_checkpoints(victims, start, stop):
    results = run(victims, start, stop)
    assert not [line for line in results if line["complaint"]]
    assert not [line for line in results if line["seconds"] > SECONDS]
    assert not [line for line in results if line["growth"] > MEMORY]
    endings = Counter(line["ending"] for line in results)
    # Mutations have to reach every defence, and some change nothing that matters.
    assert set(endings) == {"loaded", "CheckpointError", "CorruptedError", "IncompatibleError"}
    assert endings["loaded"] < (stop - start) // 4
    for wanted in ("CorruptedError", "IncompatibleError"):
        assert endings[wanted] > (stop - start) // 8
    print(dict(endings))


if __name__ == "__main__":
    torch.set_num_threads(1)
    work(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
