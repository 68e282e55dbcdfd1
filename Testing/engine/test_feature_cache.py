"""Features kept on disk: taken again when nothing changed, never when something did, and safe in every accident."""

import dataclasses
import os
import random
import re
import stat
import struct
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
import volumes

from FoundationRegistrationLib import Settings, register
from FoundationRegistrationLib.encoders import encoder_info
from FoundationRegistrationLib.features import EncoderSource, FeatureCache, extract_features
from FoundationRegistrationLib.features.cache import CACHE_VARIABLE, KeptFeatures, cache_folder
from FoundationRegistrationLib.runtime.progress import Progress

SHAPE = (13, 20, 17)
GB = 1e9


def noise(seed, *shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


class Pixels:
    """A slice encoder whose tokens are the pixels and their squares."""

    weights_sha256 = "sum of the weights"
    reach = 0

    def encode(self, images):
        return torch.stack([images, images.square(), images.sqrt()], dim=1)


class Counter:
    """Counts how often the encoder is built."""

    def __init__(self):
        self.built = 0

    def __call__(self, device):
        self.built += 1
        return Pixels()


def facts(**changes):
    return SimpleNamespace(
        **{"kind": "slice", "components": 2, "channels": 3, "name": "pixels", "is_formula": False, **changes}
    )


@pytest.fixture
def pair():
    masks = [torch.ones(SHAPE), torch.ones(SHAPE)]
    masks[0][:, :4] = 0
    return [noise(0, *SHAPE), noise(1, *SHAPE), *masks]


@pytest.fixture
def cache(tmp_path):
    return FeatureCache(tmp_path / "cache" / "features", GB)


def extract(cache, pair, settings=None, weights="weights", **changes):
    """Return the features, and how often the encoder was built for them."""
    build = Counter()
    source = EncoderSource(facts(**changes), build, weights)
    settings = (settings or Settings()).suited_to((1.0, 1.0, 1.0))
    return extract_features(source, *pair, settings, Progress({"encoding": 1.0}), cache), build.built


def files(tmp_path):
    return sorted((tmp_path / "cache" / "features").iterdir())


def assert_same(found, expected):
    assert torch.equal(found.fixed, expected.fixed)
    assert torch.equal(found.moving, expected.moving)
    same = ("explained_variance", "encoded_slices", "precision", "weights_sha256")
    assert [getattr(found, name) for name in same] == [getattr(expected, name) for name in same]


def test_the_second_time_nothing_is_encoded_nor_loaded(cache, pair):
    first, built = extract(cache, pair)
    again, built_again = extract(cache, pair)
    assert (built, built_again) == (1, 0)
    assert (first.from_cache, again.from_cache) == (False, True)
    assert_same(again, first)
    assert first.weights_sha256 == "sum of the weights"
    assert_same(first, extract(None, pair)[0])


@pytest.mark.parametrize(
    "changes",
    [
        {"regularization": 3.0},
        {"iterations": 5},
        {"search_range_mm": 60.0},
        {"adam_grid_spacing": 3},
        {"preset": "x"},
    ],
)
def test_other_settings_of_the_optimisation_encode_nothing(cache, pair, changes):
    extract(cache, pair)
    found, built = extract(cache, pair, Settings(**changes))
    assert built == 0
    assert_same(found, extract(None, pair, Settings(**changes))[0])


def test_a_descriptor_is_kept_as_well(cache, pair):
    def run(**changes):
        settings = Settings(encoder="mind", **changes)
        source = EncoderSource.from_settings(settings, encoder_info(settings.encoder), torch.device("cpu"))
        return extract_features(source, *pair, settings, Progress({"encoding": 1.0}), cache)

    first = run()
    assert run(regularization=3.0).from_cache
    assert_same(run(iterations=3), first)
    for changes in ({"mind_radius": 2}, {"mind_dilation": 1}, {"adam_grid_spacing": 3}):
        assert not run(**changes).from_cache


@pytest.mark.parametrize(
    "changes",
    [{"slice_gap": 2}, {"components": 1}, {"input_size": 128}, {"precision": "float32"}, {"grid_spacing": 4}],
)
def test_other_settings_of_the_encoding_encode_again(cache, pair, changes):
    extract(cache, pair)
    found, built = extract(cache, pair, Settings(**changes))
    assert built == 1
    assert_same(found, extract(None, pair, Settings(**changes))[0])


@pytest.mark.parametrize("index", range(4), ids=["fixed", "moving", "fixed mask", "moving mask"])
def test_one_other_voxel_encodes_again(cache, pair, index):
    extract(cache, pair)
    pair[index] = pair[index].clone()
    pair[index][7, 9, 3] = 0.0
    assert extract(cache, pair)[1] == 1


def test_features_of_a_series_which_encodes_the_part_of_its_reference_are_not_those_of_a_pair(cache):
    """The fixed foreground is small, the moving one reaches far beyond it."""
    volumes, masks = [noise(number, 6, 96, 96) for number in (0, 1)], [torch.zeros(6, 96, 96), torch.ones(6, 96, 96)]
    masks[0][:, 40:56, 40:56] = 1
    settings = Settings().suited_to((1.0, 1.0, 1.0))

    def extracted(cache, *, of_a_series):
        source = EncoderSource(facts(), Counter(), "weights")
        source.keeps_fixed = of_a_series
        return extract_features(source, *volumes, *masks, settings, Progress({"encoding": 1.0}), cache)

    extracted(cache, of_a_series=True)
    assert_same(extracted(cache, of_a_series=False), extracted(None, of_a_series=False))


def test_exchanged_volumes_another_encoder_and_other_weights_encode_again(cache, pair):
    extract(cache, pair)
    assert extract(cache, [pair[1], pair[0], pair[3], pair[2]])[1] == 1
    assert extract(cache, pair, name="other")[1] == 1
    assert extract(cache, pair, weights="other weights")[1] == 1
    reshaped = [volume.reshape(SHAPE[0], SHAPE[2], SHAPE[1]) for volume in pair]
    assert extract(cache, reshaped)[1] == 1
    assert extract(cache, pair)[1] == 0


def test_weights_that_only_the_built_encoder_tells_are_loaded_but_nothing_is_encoded(cache, pair):
    first, _ = extract(cache, pair, weights=None)
    again, built = extract(cache, pair, weights=None)
    assert built == 1
    assert again.from_cache
    assert_same(again, first)


@pytest.mark.parametrize("kind", ["slice", "volume"])
def test_a_network_that_does_not_identify_its_weights_is_never_kept(cache, pair, kind):
    """Trained further, it has the same name: its earlier features must not be taken for its new ones."""

    class Scaled:
        reach = 1

        def __init__(self, weight):
            self.weight = weight

        def encode(self, images):
            return torch.stack([images**self.weight, images.square(), images.sqrt()], dim=1)

    def run(weight):
        info = facts(kind=kind, window=0)
        source = EncoderSource(info, lambda device: Scaled(weight))
        settings = Settings().suited_to((1.0, 1.0, 1.0))
        return extract_features(source, *pair, settings, Progress({"encoding": 1.0}), cache)

    before, after = run(1.0), run(3.0)
    assert not after.from_cache
    assert not torch.equal(before.fixed, after.fixed)


# ---- accidents ----


def truncated(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def one_bit_flipped(path):
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)


def emptied(path):
    path.write_bytes(b"")


def overwritten(path):
    path.write_text("<html>No space left</html>", encoding="utf-8")


@pytest.mark.parametrize("damage", [truncated, one_bit_flipped, emptied, overwritten])
def test_a_damaged_file_is_encoded_again_and_replaced(cache, pair, tmp_path, damage):
    first, _ = extract(cache, pair)
    (path,) = files(tmp_path)
    damage(path)
    found, built = extract(cache, pair)
    assert built == 1
    assert_same(found, first)
    assert found.messages == ()
    assert extract(cache, pair)[1] == 0


def test_a_folder_that_cannot_be_written_only_gives_a_message(pair, tmp_path):
    blocked = tmp_path / "a file"
    blocked.write_text("in the way", encoding="utf-8")
    cache = FeatureCache(blocked / "features", GB)
    extract(cache, pair)
    found, _ = extract(cache, pair)
    assert_same(found, extract(None, pair)[0])
    (message,) = found.messages
    assert CACHE_VARIABLE in message
    assert "\n" not in message


def test_features_are_private_to_the_user_and_nothing_unfinished_is_left(cache, pair, tmp_path):
    extract(cache, pair)
    folder = tmp_path / "cache" / "features"
    assert [path.suffix for path in folder.iterdir()] == [".safetensors"]
    if os.name == "posix":
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


# ---- size ----


def kept(seed):
    return KeptFeatures(noise(seed, 1000), noise(seed + 100, 1000), (0.5,), 3, "float32", None)


def keys(folder):
    """The keys under which features are kept."""
    return {path.stem.removeprefix("registration-features-") for path in folder.iterdir()}


def test_what_was_used_longest_ago_goes_first(tmp_path):
    cache = FeatureCache(tmp_path, 30_000)
    for age, key in ((50, "a"), (40, "b"), (30, "c")):
        cache.store(key, kept(ord(key)))
        path = next(tmp_path.glob(f"*-{key}.safetensors"))
        stamp = path.stat().st_mtime - age
        os.utime(path, (stamp, stamp))
    assert cache.load("a") is not None
    cache.store("d", kept(0))
    assert keys(tmp_path) == {"a", "c", "d"}
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 30_000


def test_what_is_larger_than_the_limit_is_not_kept(tmp_path):
    cache = FeatureCache(tmp_path, 5_000)
    cache.store("a", kept(0))
    assert list(tmp_path.iterdir()) == []
    assert "feature-cache-gb" in cache.messages[0]


def age(path, seconds):
    stamp = path.stat().st_mtime - seconds
    os.utime(path, (stamp, stamp))


def test_a_file_that_a_killed_process_left_unfinished_is_removed_after_a_day(tmp_path):
    cache = FeatureCache(tmp_path, GB)
    for name, seconds in (("0" * 32, 2 * 86400), ("1" * 32, 60)):
        path = tmp_path / f"registration-features-a.{name}.part"
        path.write_bytes(b"half")
        age(path, seconds)
    cache.store("a", kept(0))
    assert {path.name for path in tmp_path.iterdir()} == {
        "registration-features-a.safetensors",
        f"registration-features-a.{'1' * 32}.part",
    }


@pytest.mark.parametrize("seed", range(40))
def test_what_others_put_into_the_folder_is_never_touched(tmp_path, monkeypatch, seed):
    """Files of any name and age, in the folder given and in the one within it, with hardly any room for ours."""
    chance = random.Random(seed)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    ours = cache_folder()
    ours.mkdir(parents=True)
    stems = [
        "model",
        "0" * 64,
        "features",
        "registration-features",
        "registration-features-",
        "Registration-features-a",
    ]
    ends = [".safetensors", ".part", ".SAFETENSORS", ".safetensors.part", "", ".pth.part", ".safetensors.bak"]
    others = {}
    for folder in (tmp_path, ours):
        for number in range(8):
            path = folder / f"{chance.choice(stems)}{chance.choice(['', number])}{chance.choice(ends)}"
            if path.name != "registration-features" and not re.fullmatch(
                r"registration-features-\d\.safetensors", path.name
            ):
                path.write_bytes(chance.randbytes(chance.randrange(20_000)))
                age(path, chance.randrange(10 * 86400))
                others[path] = path.read_bytes()
    (ours / "registration-features-folder.safetensors").mkdir()
    outside = tmp_path / "elsewhere"
    outside.write_bytes(bytes(50_000))
    if os.name == "posix":
        (ours / "registration-features-link.safetensors").symlink_to(outside)
    cache = FeatureCache.from_settings(Settings(feature_cache_gb=20_000 / GB))
    for key in "bcdef":
        cache.store(key, kept(ord(key)))
        assert cache.load(key) is not None
    assert cache.messages == []
    assert all(path.read_bytes() == content for path, content in others.items())
    assert outside.stat().st_size == 50_000
    assert (ours / "registration-features-folder.safetensors").is_dir()
    written = [path for path in ours.glob("registration-features-?.safetensors") if path not in others]
    assert sum(path.stat().st_size for path in written) <= 20_000


def test_the_home_folder_may_be_abbreviated(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv(CACHE_VARIABLE, os.path.join("~", "kept"))  # noqa: PTH118 - as a shell does not expand it
    FeatureCache.from_settings(Settings()).store("a", kept(0))
    assert (tmp_path / "kept" / "registration-features" / "registration-features-a.safetensors").is_file()


@pytest.mark.skipif(os.name != "posix", reason="named pipes are other things there")
def test_what_waits_or_lies_in_place_of_features_is_not_read(tmp_path):
    cache = FeatureCache(tmp_path, GB)
    os.mkfifo(tmp_path / "registration-features-a.safetensors")
    header = b'{"__metadata__":' + b"[" * 10**6
    (tmp_path / "registration-features-b.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    assert cache.load("a") is None
    assert cache.load("b") is None


def test_no_room_means_no_cache(monkeypatch, tmp_path):
    assert FeatureCache.from_settings(Settings(feature_cache_gb=0.0)) is None
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    assert cache_folder() == tmp_path / "registration-features"
    monkeypatch.delenv(CACHE_VARIABLE)
    assert cache_folder().is_absolute()


# ---- processes ----

WRITER = """
import sys, torch
from pathlib import Path
from FoundationRegistrationLib.features.cache import FeatureCache, KeptFeatures
cache = FeatureCache(Path(sys.argv[1]), 3_000_000)
print("ready", flush=True)
sys.stdin.readline()
torch.manual_seed(0)
shared = KeptFeatures(torch.rand(100_000), torch.rand(100_000), (0.5, 0.25), 7, "float32", "abc")
for round in range(40):
    cache.store("shared", shared)
    cache.store(f"{sys.argv[2]}{round}", shared)
    found = cache.load("shared")
    if found is not None:
        assert torch.equal(found.fixed, shared.fixed) and torch.equal(found.moving, shared.moving)
        assert found.explained_variance == (0.5, 0.25)
print(cache.messages)
"""


def test_two_processes_may_write_the_same_and_remove_each_others(tmp_path):
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writers = [
        subprocess.Popen([*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for name in ("one", "two")
    ]
    for writer in writers:
        assert writer.stdout.readline().strip() == b"ready"
    for writer in writers:
        writer.stdin.write(b"go\n")
        writer.stdin.flush()
    for writer in writers:
        said, errors = writer.communicate()
        assert writer.returncode == 0, errors.decode()
        assert said.strip() == b"[]"
    assert all(path.suffix == ".safetensors" for path in tmp_path.iterdir())
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 3_000_000
    cache = FeatureCache(tmp_path, GB)
    assert all(cache.load(key) is not None for key in keys(tmp_path))


# ---- the whole registration ----


def test_registering_again_with_another_lambda_gives_what_it_would_without_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    fixed = volumes.volume(volumes.empty_grid("oblique"), volumes.smooth_warp)
    moving = volumes.volume(volumes.empty_grid("RAS"))
    settings = Settings(encoder="mind", working_spacing_mm=4.0, initialization="rigid", iterations=5)
    first = register(fixed, moving, settings)
    settings = dataclasses.replace(settings, regularization=3.0)
    again = register(fixed, moving, settings)
    without = register(fixed, moving, dataclasses.replace(settings, feature_cache_gb=0.0))
    found = [result.metrics["features_from_cache"] for result in (first, again, without)]
    assert found == [False, True, False]
    points = volumes.body_points()[::7].tolist()
    for point in points:
        assert again.transform.TransformPoint(point) == without.transform.TransformPoint(point)
    assert again.record["weights_sha256"] == without.record["weights_sha256"]
