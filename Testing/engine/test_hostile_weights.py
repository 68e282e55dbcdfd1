"""Weight files made to do harm, and those that a training went wrong with: refused in words, within bounds."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import checkpoints
import hostile_weights
import pytest
import safetensors.torch
import torch

from FoundationRegistrationLib.encoders import encoder_info
from FoundationRegistrationLib.errors import WeightsError
from FoundationRegistrationLib.settings import Settings
from FoundationRegistrationLib.weights import read_checkpoint

NAME = "dinov2-vits14"
CPU = torch.device("cpu")

# Reads each file where the system itself ends a process that takes 400 MB or a minute.
READER = """
import json, resource, sys
import psutil, torch, safetensors.torch
from FoundationRegistrationLib.errors import WeightsError
from FoundationRegistrationLib.settings import Settings
from FoundationRegistrationLib.weights import read_checkpoint
resource.setrlimit(resource.RLIMIT_DATA, (psutil.Process().memory_info().data + 400 * 2**20,) * 2)
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
for path in sys.argv[1:]:
    print(path, end=" ", flush=True)
    try:
        print(sorted(read_checkpoint("dinov2-vits14", Settings(weights=path)).state), flush=True)
    except WeightsError as error:
        print("refused:", error, flush=True)
"""
SAYS = {
    "self_referring": "no named tensors",
    "swelling": "compressed",
    "swelling_pickle": "compressed",
    "overlapping_parts": "would expand from 1 to 10003 MB",
    "long_pickle": "",
    "many_steps": "more operations than any weight file needs",
    "huge_directory": "damaged",
    "wide_laughter": "too often to be read",
    "deep_laughter": "nested too deeply",
    "deep_dictionaries": "nested too deeply",
    "giant_bytes": "Python objects",
    "giant_tensor": "torch.FloatTensor",
    "expanded": "needs 4000000.0 GB of memory",
    "wild_name": "valid names",
    "sparse": "of a type that no encoder has (torch._utils._rebuild_sparse_tensor)",
    "complex_numbers": "of a type that no encoder has",
    "protocol_4": "pickle protocol 4",
    "large_header": "header of 21 MB",
    "crowded_header": "header of 16 MB",
    "deep_header": "damaged safetensors",
    "twice_header": "damaged safetensors",
    "promised_header": "truncated",
}


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    monkeypatch.setenv("FOUNDATION_REGISTRATION_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FOUNDATION_REGISTRATION_WEIGHTS", raising=False)


def read(path):
    return read_checkpoint(NAME, Settings(weights=str(path)))


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are enforced by Linux only")
def test_every_monster_is_refused_within_bounds_of_time_and_memory(tmp_path):
    for make in (*hostile_weights.MONSTERS, hostile_weights.plain):
        make(tmp_path / make.__name__)
    files = [str(tmp_path / make.__name__) for make in (*hostile_weights.MONSTERS, hostile_weights.plain)]
    run = subprocess.run([sys.executable, "-c", READER, *files], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, ""), run.stdout[-300:] + run.stderr
    answers = dict(line.split(" ", 1) for line in run.stdout.splitlines())
    assert answers.pop(files[-1]) == "['w']"
    for path, answer in answers.items():
        assert answer.startswith("refused: The weight file"), path
        assert SAYS.get(Path(path).name, "") in answer
        assert len(answer) < 600
    assert len(answers) == len(hostile_weights.MONSTERS)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e30])
@pytest.mark.parametrize("form", ["torch", "safetensors", "half", "view"])
def test_the_tensor_with_values_that_are_no_weights_is_named(tmp_path, value, form):
    state = {"first": torch.ones(4), "blocks.0.weight": torch.ones(3, 5), "count": torch.tensor(3)}
    if form == "half":
        state = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    if form == "view":  # of numbers among which others are as bad, which no tensor shows
        store = torch.full((40,), value)
        state |= {"first": store[:4].fill_(1.0), "blocks.0.weight": store[4:19].fill_(1.0).view(3, 5)}
    path = tmp_path / "weights"
    save = safetensors.torch.save_file if form == "safetensors" else torch.save
    save(state, path)
    assert read(path).state.keys() == state.keys()
    state["blocks.0.weight"][1, 2] = value
    save(state, path)
    with pytest.raises(WeightsError, match=r"its tensor 'blocks\.0\.weight' holds values") as caught:
        read(path)
    assert ("NaN" in str(caught.value)) == (value != 1e30 or form == "half")  # which half precision has not


@pytest.mark.skipif(sys.platform == "win32", reason="named pipes are other things there")
def test_a_pipe_or_a_device_is_no_weight_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(WeightsError):
            read(path)


def test_a_file_larger_than_the_memory_is_not_read(tmp_path):
    path = tmp_path / "weights"
    with path.open("wb") as file:
        file.write(b"\x80\x02")
        file.truncate(2**42)  # sparse: four terabytes of nothing
    with pytest.raises(WeightsError, match=r"needs 4398\.0 GB of memory, but only .* GB are free"):
        read(path)


# ---- sound files and spoiled ones, at random ----

KINDS = (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool)


def any_tensor(chance):
    shape = [chance.randrange(1, 5) for _ in range(chance.randrange(4))]
    values = torch.rand(shape, generator=torch.Generator().manual_seed(chance.randrange(2**30)))
    found = (10 * values).to(chance.choice(KINDS))
    spoiled = chance.random()
    if spoiled < 0.1 and found.is_floating_point() and found.numel():
        found.view(-1)[chance.randrange(found.numel())] = chance.choice([float("nan"), float("inf"), -float("inf")])
    elif spoiled < 0.15:
        return found.expand(chance.choice([3, 10**15]), *found.shape)
    elif spoiled < 0.2:
        return torch.view_as_complex(torch.ones(2, 2)) if chance.random() < 0.5 else found.float().to_sparse()
    return found


def any_content(chance, depth=0):
    """A dictionary of tensors, with containers, notes and itself somewhere in it."""
    names = [
        "w",
        "bias",
        "pos_embed",
        "model",
        "state_dict",
        "teacher",
        "epoch",
        "a b",
        "ä",
        "line\nbreak",
        "x" * 400,
    ]
    content = {}
    for name in chance.sample(names, chance.randrange(1, 6)):
        kind = chance.random()
        if kind < 0.6:
            content[name] = any_tensor(chance)
        elif kind < 0.8 and depth < 3:
            content[name] = any_content(chance, depth + 1)
        elif kind < 0.85:
            content[name] = content
        else:
            content[name] = chance.choice([3, None, "text", (1, (2, [3])), {1, 2}, [content], {5: torch.ones(1)}, 2j])
    return content


def is_sound(state):
    return all(
        len(name) < 300
        and name.isprintable()
        and tensor.layout == torch.strided
        and not tensor.is_complex()
        and (not tensor.is_floating_point() or tensor.numel() > 10**9 or bool(tensor.isfinite().all()))
        for name, tensor in state.items()
    )


@pytest.mark.parametrize("seed", range(150))
def test_any_checkpoint_loads_exactly_or_is_refused(tmp_path, seed):
    chance = random.Random(seed)
    content = any_content(chance)
    path = tmp_path / "weights"
    torch.save(content, path, _use_new_zipfile_serialization=chance.random() < 0.7)
    try:
        state = read(path).state
    except WeightsError as error:
        assert "\n" not in str(error)
        return
    assert is_sound(state)
    assert any(is_same(state, part) for part in containers(content))


def is_same(state, part):
    """Whether the tensors are all those of a dictionary, with their values and kinds."""
    own = {name: tensor for name, tensor in part.items() if isinstance(tensor, torch.Tensor)}
    return state.keys() == own.keys() and all(
        tensor.dtype == own[name].dtype and torch.equal(tensor, own[name]) for name, tensor in state.items()
    )


def containers(content, depth=0):
    yield content
    for part in content.values():
        if isinstance(part, dict) and depth < 10:
            yield from containers(part, depth + 1)


# ---- whole networks with a fault ----

FAMILIES = {
    "dinov2": lambda: checkpoints.dinov2(384),
    "dinov2-vits14-reg": lambda: checkpoints.dinov2(384, registers=True),
    "dinov3": lambda: checkpoints.dinov3(384, 6),
    "medclip-sam": checkpoints.biomedclip,
    "mri-core": lambda: checkpoints.mri_core()["teacher"],
    "sam": checkpoints.sam_encoder,
}


def spoiled(chance, state):
    """A checkpoint with one thing wrong, and the name of the tensor."""
    told = (
        "pos_embed",
        "cls_token",
        "qkv.weight",
        "qkv.bias",
        "periods",
        "storage_tokens",
        "register_tokens",
        "rel_pos",
    )
    names = [name for name in state if any(part in name for part in told)]
    name = chance.choice(names)
    tensor = state[name]
    changes = {
        "odd length": lambda: tensor[:, :-2] if tensor.ndim > 1 and tensor.shape[1] > 3 else tensor[..., :-1],
        "no dimension": lambda: tensor.reshape(-1)[0],
        "nothing": lambda: tensor[:0],
        "one more dimension": lambda: tensor[None],
        "flat": lambda: tensor.reshape(-1),
        "whole numbers": lambda: tensor.long(),
        "expanded": lambda: tensor.reshape(-1)[0].expand(1, 10**6, 10**6),
    }
    return {**state, name: changes[chance.choice(sorted(changes))]()}


@pytest.mark.parametrize("seed", range(36))
def test_a_network_with_a_tensor_of_another_form_is_refused_in_words(tmp_path, seed):
    chance = random.Random(seed)
    name = sorted(FAMILIES)[seed % len(FAMILIES)]
    path = tmp_path / "weights"
    torch.save(spoiled(chance, FAMILIES[name]()), path)
    settings = Settings(encoder=name, weights=str(path), input_size=224)
    try:
        encoder_info(name).build(settings, CPU)
    except WeightsError as error:
        assert "\n" not in str(error)
    else:
        raise AssertionError(json.dumps([seed, name]))


def test_a_position_embedding_of_odd_length_is_named(tmp_path):
    state = checkpoints.dinov2(384)
    torch.save({**state, "pos_embed": state["pos_embed"][:, :-3]}, tmp_path / "weights")
    settings = Settings(encoder="dinov2", weights=str(tmp_path / "weights"), input_size=224)
    with pytest.raises(WeightsError, match=r"apparently a DINOv2 ViT-S/14 \(.*1366.* do not form a square"):
        encoder_info("dinov2").build(settings, CPU)
