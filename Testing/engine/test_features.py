"""Features on the optimisation grid, against the explicit pipeline of the paper at full resolution."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from volumes import noise

from FoundationRegistrationLib.encoders import encoder_info
from FoundationRegistrationLib.encoders.mind import MindEncoder
from FoundationRegistrationLib.errors import RegistrationCancelledError
from FoundationRegistrationLib.features import (
    FEATURE_VARIANCE,
    EncoderSource,
    encoded_slice_indices,
    extract_features,
    grid,
    pool,
    tokens_to_grid,
)
from FoundationRegistrationLib.features.slices import foreground_square, slices_with_foreground
from FoundationRegistrationLib.runtime.progress import Progress
from FoundationRegistrationLib.settings import Settings

QUIET = Progress({"test": 1.0})


# ---- slices and tokens ----


@pytest.mark.parametrize(
    ("depth", "gap", "expected"),
    [
        (13, 6, [0, 6, 12]),
        (14, 6, [0, 6, 12, 13]),
        (12, 6, [0, 6, 11]),
        (5, 1, [0, 1, 2, 3, 4]),
        (4, 6, [0, 3]),
        (1, 6, [0]),
        (2, 64, [0, 1]),
    ],
)
def test_every_kth_slice_is_encoded_and_always_the_last(depth, gap, expected):
    assert encoded_slice_indices(depth, gap) == expected


def means_over_cells(volume, factor):
    """Mean of each cell of a (C, Z, H, W) array over the voxels it has."""
    cells = [-(-size // factor) for size in volume.shape[1:]]
    padding = [(0, n * factor - size) for n, size in zip(cells, volume.shape[1:], strict=True)]
    padded = np.pad(volume, [(0, 0), *padding], constant_values=np.nan)
    z, y, x = cells
    return np.nanmean(padded.reshape(-1, z, factor, y, factor, x, factor), axis=(2, 4, 6))


def explicit_pipeline(tokens, slices, shape, factor):
    """The paper: tokens interpolated to each pixel, then to each slice, at full resolution; then pooled."""
    side = max(shape[1:])
    planes = F.interpolate(tokens, size=(side, side), mode="bilinear", align_corners=False)
    planes = planes[:, :, : shape[1], : shape[2]].numpy()
    volume = np.empty((tokens.shape[1], *shape), np.float32)
    for z in range(shape[0]):
        after = next(i for i, s in enumerate(slices) if s >= z)
        before = after if slices[after] == z else after - 1
        share = 0.0 if before == after else (z - slices[before]) / (slices[after] - slices[before])
        volume[:, z] = (1 - share) * planes[before] + share * planes[after]
    return torch.from_numpy(means_over_cells(volume, factor))


@pytest.mark.parametrize("factor", [1, 2, 3])
@pytest.mark.parametrize(
    ("shape", "gap", "tokens"),
    [
        ((11, 29, 37), 4, (8, 8)),
        ((14, 37, 23), 6, (7, 9)),
        ((5, 13, 13), 1, (16, 16)),  # more tokens than pixels
        ((3, 21, 10), 6, (5, 5)),
        ((1, 9, 10), 6, (3, 3)),
        ((7, 9, 10), 3, (1, 1)),
    ],
)
def test_tokens_on_the_grid_equal_the_explicit_pipeline(shape, gap, tokens, factor):
    slices = encoded_slice_indices(shape[0], gap)
    values = noise(0, len(slices), 3, *tokens)
    result = tokens_to_grid(values, slices, shape, factor)
    assert result.shape == (3, *(-(-size // factor) for size in shape))
    torch.testing.assert_close(result, explicit_pipeline(values, slices, shape, factor), rtol=1e-4, atol=1e-5)


def test_encoded_slices_are_exact_also_where_the_gap_does_not_divide():
    shape, slices = (12, 8, 8), encoded_slice_indices(12, 5)
    assert slices == [0, 5, 10, 11]
    tokens = noise(0, 4, 2, 8, 8)
    result = tokens_to_grid(tokens, slices, shape, 1)
    torch.testing.assert_close(result[:, slices], tokens.transpose(0, 1), rtol=0, atol=1e-6)
    torch.testing.assert_close(result[:, 2], (0.6 * tokens[0] + 0.4 * tokens[1]), rtol=0, atol=1e-6)


def test_a_ramp_of_tokens_is_a_ramp_of_cells_in_the_right_place():
    """Token (i, j) is centred on ((i + 1/2) H/h - 1/2, ...), a cell on the mean of its voxels."""
    side, count, factor = 48, 12, 2
    centres = (torch.arange(count) + 0.5) * side / count - 0.5
    tokens = torch.stack(torch.meshgrid(centres, centres, indexing="ij"))[None].repeat(2, 1, 1, 1)
    result = tokens_to_grid(tokens, [0, 3], (4, side, side), factor)
    expected = torch.arange(side // factor) * factor + 0.5
    inner = slice(2, -2)
    torch.testing.assert_close(result[0, 0, inner, 5], expected[inner], rtol=0, atol=1e-4)
    torch.testing.assert_close(result[1, 1, 5, inner], expected[inner], rtol=0, atol=1e-4)


@pytest.mark.parametrize("factor", [1, 2, 3, 5])
@pytest.mark.parametrize("shape", [(7, 11, 5), (1, 13, 4)])
def test_pooling_averages_what_a_cell_has(shape, factor):
    volume = noise(0, 2, *shape)
    expected = torch.from_numpy(means_over_cells(volume.numpy(), factor))
    torch.testing.assert_close(pool(volume, factor), expected)


# ---- the square that is encoded ----


@pytest.mark.parametrize("margin", [0, 3, 50])
@pytest.mark.parametrize("shape", [(3, 41, 67), (2, 60, 33), (1, 25, 25)])
def test_the_square_holds_both_foregrounds_with_their_margin(shape, margin):
    masks = [torch.zeros(shape), torch.zeros(shape)]
    masks[0][0, 5:12, 9:20] = 1
    masks[1][-1, 10:23, 4:10] = 1
    square = foreground_square(masks, margin)
    inside = [
        (max(0, low - margin), min(size, high + margin)) for low, high, size in ((5, 23, shape[1]), (4, 20, shape[2]))
    ]
    for start, (low, high) in zip((square.top, square.left), inside, strict=True):
        assert 0 <= start <= low
        assert high <= start + square.side
    assert square.side == max(high - low for low, high in inside)
    cut = square.cut(noise(0, *shape))
    assert cut.shape == (shape[0], square.side, square.side)


def test_only_slices_that_no_foreground_depends_on_are_left_out():
    mask = torch.zeros(40, 4, 4)
    mask[13:18, 1, 1] = 1
    slices = encoded_slice_indices(40, 6)
    assert slices == [0, 6, 12, 18, 24, 30, 36, 39]
    assert slices_with_foreground(mask, slices, 0) == [False, False, True, True, False, False, False, False]
    assert slices_with_foreground(mask, slices, 2) == [False, True, True, True, True, False, False, False]
    mask[19] = 1
    assert slices_with_foreground(mask, slices, 0) == [False, False, True, True, True, False, False, False]
    assert slices_with_foreground(torch.zeros(1, 4, 4), [0], 3) == [False]


# ---- both volumes together ----


class Pixels:
    """A slice encoder whose tokens are the pixels, twice: the second time with another weight."""

    weights_sha256 = None
    reach = 0

    def __init__(self):
        self.slices = 0

    def encode(self, images):
        assert images.shape[1] == images.shape[2], "slices are square"
        self.slices += len(images)
        return torch.stack([images, 2.0 * images], dim=1)


SHAPE = (11, 14, 9)


def facts(**changes):
    """What the extraction reads of an encoder's facts."""
    return SimpleNamespace(**{"kind": "slice", "components": 1, "channels": 2, "name": "pixels", **changes})


def extract(encoder, fixed, moving, masks, settings, progress=QUIET, **changes):
    source = EncoderSource(facts(**changes), lambda device: encoder, "weights")
    return extract_features(source, fixed, moving, *masks, settings, progress)


@pytest.mark.parametrize("shape", [SHAPE, (10, 9, 14)])
@pytest.mark.parametrize("factor", [1, 2])
def test_features_of_slices_are_where_their_voxels_are(shape, factor):
    """With tokens that are pixels, the one component is the volume itself, interpolated between the slices."""
    fixed, moving = noise(0, *shape), noise(1, *shape)
    masks = [torch.ones(shape), torch.ones(shape)]
    settings = Settings(slice_gap=4, adam_grid_spacing=factor, precision="float32")
    encoder = Pixels()
    result = extract(encoder, fixed, moving, masks, settings)
    slices = encoded_slice_indices(shape[0], 4)
    assert result.encoded_slices == len(slices)
    assert encoder.slices == 2 * len(slices)
    assert result.explained_variance == pytest.approx((1.0,))
    scales = []
    for volume, found in ((fixed, result.fixed), (moving, result.moving)):
        expected = np.stack(
            [
                [np.interp(np.arange(shape[0]), slices, volume[slices, y, x]) for x in range(shape[2])]
                for y in range(shape[1])
            ]
        ).transpose(2, 0, 1)
        expected = means_over_cells(expected[None].astype(np.float32), factor)[0].flatten()
        slope, offset = np.polyfit(expected, found[0].flatten().numpy(), 1)
        np.testing.assert_allclose(found[0].flatten().numpy(), slope * expected + offset, atol=1e-4)
        scales.append((slope, offset))
    np.testing.assert_allclose(scales[0], scales[1], rtol=1e-3, err_msg="one projection for both")


def test_components_are_fitted_to_the_patient():
    """Bright noise outside the masks changes nothing inside them."""
    fixed, moving = noise(0, *SHAPE), noise(1, *SHAPE)
    mask = torch.zeros(SHAPE)
    mask[:, 3:9, 2:6] = 1
    settings = Settings(slice_gap=1, adam_grid_spacing=1)
    clean = extract(Pixels(), fixed, moving, [mask, mask], settings)
    dirty = fixed + 50.0 * (1 - mask) * noise(2, *SHAPE)
    other = extract(Pixels(), dirty, moving, [mask, mask], settings)
    inside = mask.bool()
    torch.testing.assert_close(other.fixed[0][inside], clean.fixed[0][inside], rtol=0, atol=1e-5)
    torch.testing.assert_close(other.moving, clean.moving, rtol=0, atol=1e-5)
    spread = torch.cat([clean.fixed[0][inside], clean.moving[0][inside]])
    assert float(spread.var()) == pytest.approx(FEATURE_VARIANCE, rel=1e-3)


def test_the_settings_choose_the_number_of_components():
    volumes, masks = (noise(0, *SHAPE), noise(1, *SHAPE)), (torch.ones(SHAPE), torch.ones(SHAPE))

    class Powers(Pixels):
        def encode(self, images):
            return torch.stack([images, images**2, images**3, images**4], dim=1)

    for components, expected in ((0, 1), (2, 2), (50, 4)):
        settings = Settings(components=components, adam_grid_spacing=2, slice_gap=1)
        result = extract(Powers(), *volumes, masks, settings)
        assert result.fixed.shape[0] == result.moving.shape[0] == expected
        assert len(result.explained_variance) == expected


def test_encoding_can_be_cancelled_and_tells_how_far_it_is():
    seen = []
    progress = Progress({"encoding": 1.0}, seen.append, lambda: len(seen) >= 5)
    progress.start("encoding")
    volumes, masks = (noise(0, *SHAPE), noise(1, *SHAPE)), (torch.ones(SHAPE), torch.ones(SHAPE))
    with pytest.raises(RegistrationCancelledError):
        extract(Pixels(), *volumes, masks, Settings(slice_gap=1), progress)
    fractions = [event.fraction for event in seen]
    assert fractions == sorted(fractions)
    assert len(set(fractions)) > 2


class Blocks:
    """A slice encoder as networks are: slices of any size become 24 x 24 tokens, each the mean of what it sees."""

    weights_sha256 = None
    reach = 0

    def __init__(self, most=10**6):
        self.slices = []
        self.most = most

    def encode(self, images):
        if len(images) > self.most:
            msg = "the device of this test holds no more"
            raise torch.cuda.OutOfMemoryError(msg)
        self.slices += list(images)
        tokens = F.interpolate(images[:, None], size=(24, 24), mode="bilinear", antialias=True)
        return torch.cat([tokens, tokens.square()], dim=1)


def blob(shape, centre, width):
    axes = [torch.arange(size, dtype=torch.float32) for size in shape]
    distance = sum((a - c) ** 2 for a, c in zip(torch.meshgrid(*axes, indexing="ij"), centre, strict=True))
    return torch.exp(-distance / (2 * width**2))


def place(features, factor):
    """Where a bright spot of the first component is, in voxels (z, y, x)."""
    weight = (features[0] - features[0].median()).abs()
    weight = (weight - 0.3 * weight.max()).clamp_min(0)
    axes = [torch.arange(size) * factor + (factor - 1) / 2 for size in weight.shape]
    return [float((weight * a).sum() / weight.sum()) for a in torch.meshgrid(*axes, indexing="ij")]


@pytest.mark.parametrize(
    ("shape", "centre"),
    [
        ((13, 61, 97), (6, 22.3, 60.8)),
        ((13, 97, 61), (6, 70.2, 33.1)),
        ((13, 75, 75), (5, 20.0, 54.5)),
        ((13, 60, 121), (7, 39.6, 15.2)),
    ],
)
@pytest.mark.parametrize("factor", [1, 2])
def test_cropping_moves_no_feature_by_half_a_token(shape, centre, factor):
    """A spot is where it was when the whole slice is encoded, and where it really is; on both volumes."""
    shift = (0.0, 3.4, -2.6)
    moved = tuple(c + d for c, d in zip(centre, shift, strict=True))
    volumes = [blob(shape, c, 4.0) for c in (centre, moved)]
    masks = [(volume > 0.05).float() for volume in volumes]
    settings = Settings(slice_gap=1, grid_spacing=2, adam_grid_spacing=factor)
    encoder = Blocks()
    cropped = extract(encoder, *volumes, masks, settings)
    side = len(encoder.slices[0])
    assert side < 0.7 * max(shape[1:])
    whole = extract(Blocks(), *volumes, [torch.ones(shape)] * 2, settings)
    token = max(shape[1:]) / 24
    for found, reference, truth in ((cropped.fixed, whole.fixed, centre), (cropped.moving, whole.moving, moved)):
        assert np.abs(np.subtract(place(found, factor), place(reference, factor))).max() < 0.5 * token
        assert np.abs(np.subtract(place(found, factor), truth)).max() < 0.5 * side / 24


def test_empty_slices_are_not_encoded_and_do_not_bleed_into_the_patient():
    shape = (60, 24, 24)
    fixed, moving = (0.3 + 0.7 * noise(seed, *shape) for seed in (0, 1))
    masks = [torch.zeros(shape), torch.zeros(shape)]
    masks[0][21:35], masks[1][44:] = 1, 1
    settings = Settings(slice_gap=4, grid_spacing=2, adam_grid_spacing=1)
    encoder = Blocks()
    found = extract(encoder, fixed, moving, masks, settings)
    slices = encoded_slice_indices(60, 4)
    assert found.encoded_slices == len(slices)
    blank = [s for s in encoder.slices if not s.any()]
    assert len(blank) == 2, "once for each volume"
    assert len(encoder.slices) - len(blank) < len(slices)
    everywhere = extract(Blocks(), fixed, moving, [torch.ones(shape)] * 2, settings)
    for part, reference, (low, high) in (
        (found.fixed, everywhere.fixed, (19, 37)),
        (found.moving, everywhere.moving, (42, 60)),
    ):
        # The components are fitted to other tokens, so the two agree up to scale and offset.
        expected = reference[0, low:high].flatten().numpy()
        inside = part[0, low:high].flatten().numpy()
        slope, offset = np.polyfit(expected, inside, 1)
        np.testing.assert_allclose(inside, slope * expected + offset, atol=0.05 * inside.std())
    far = found.moving[0, :36]
    assert float(far.std()) < 1e-4
    torch.testing.assert_close(float(far.mean()), float(found.fixed[0, 48:].mean()), rtol=0, atol=1e-4)


def test_a_volume_without_any_foreground_slice_is_empty_everywhere():
    fixed = noise(0, 30, 24, 24)
    masks = [torch.ones(30, 24, 24), torch.zeros(30, 24, 24)]
    found = extract(Blocks(), fixed, noise(1, 30, 24, 24), masks, Settings(slice_gap=3))
    assert float(found.moving.std(dim=(1, 2, 3)).max()) < 1e-5


# ---- volume descriptors ----


def textured(seed, shape):
    """Noise with structure at several scales, so that no variance is clamped."""
    volume = noise(seed, 1, 1, *shape)
    for _ in range(2):
        volume = volume + F.interpolate(F.avg_pool3d(volume, 2), size=shape, mode="trilinear")
    return volume[0, 0]


@pytest.mark.parametrize(("radius", "dilation"), [(1, 2), (3, 2)])
@pytest.mark.parametrize("factor", [1, 2, 3])
@pytest.mark.parametrize("planes", [1, 7, 10**6])
def test_a_descriptor_computed_in_slabs_equals_the_whole(monkeypatch, radius, dilation, factor, planes):
    shape = (23, 17, 19)
    monkeypatch.setattr(grid, "_SLAB_VOXELS", planes * shape[1] * shape[2])
    volumes = [textured(seed, shape) for seed in (0, 1)]
    masks = [torch.ones(shape)] * 2
    encoder = MindEncoder(radius, dilation)
    source = EncoderSource(encoder_info("mind"), lambda device: encoder)
    result = extract_features(source, *volumes, *masks, Settings(adam_grid_spacing=factor), QUIET)
    assert (result.explained_variance, result.encoded_slices) == ((), 0)
    for volume, found in zip(volumes, (result.fixed, result.moving), strict=True):
        expected = pool(encoder.encode(volume[None])[0], factor)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
