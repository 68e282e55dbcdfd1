"""Features of both volumes: encode, reduce jointly, resample to the grid; or load them from the cache."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import torch

from ..runtime.device import Runtime
from ..runtime.progress import Progress
from ..settings import Settings
from .cache import FeatureCache, KeptFeatures, cache_key
from .encoding import SliceRunner
from .grid import pooled_descriptor, tokens_to_grid
from .reduction import reduce_jointly
from .slices import Square, encoded_slice_indices, foreground_square, slices_with_foreground, token_foreground
from .source import EncoderSource, weights_of
from .spool import TOKEN_BUDGET_BYTES, TokenSpool
from .windows import features_in_windows


@dataclass(frozen=True)
class FeaturePair:
    """Features of both volumes on the same grid.

    Attributes:
        fixed: (C, z, y, x) on the working grid pooled by `adam_grid_spacing`.
        moving: the same for the moving volume.
        explained_variance: share of the tokens' variance of each principal component; empty without PCA.
        encoded_slices: number of encoded slices of each volume; 0 for volume encoders.
        precision: arithmetic of the encoder, "float32", "bfloat16" or "float16".
        weights_sha256: checksum of the weights in use, None without weights.
        from_cache: whether they were loaded from the cache.
        messages: notes and warnings for the user.
    """

    fixed: torch.Tensor
    moving: torch.Tensor
    explained_variance: tuple[float, ...]
    encoded_slices: int
    precision: str
    weights_sha256: str | None
    from_cache: bool
    messages: tuple[str, ...]


def extract_features(
    source: EncoderSource,
    fixed: torch.Tensor,
    moving: torch.Tensor,
    fixed_foreground: torch.Tensor,
    moving_foreground: torch.Tensor,
    settings: Settings,
    progress: Progress,
    cache: FeatureCache | None = None,
    runtime: Runtime | None = None,
) -> FeaturePair:
    """Encode two volumes and reduce their features jointly.

    Args:
        source: source of the encoder, which is not built if the features are cached.
        fixed: intensities in 0..1 on the working grid, (z, y, x), z the patient's S axis, on the device.
        moving: the same for the moving volume.
        fixed_foreground: foreground mask on the same grid. PCA is fitted to foreground tokens; slices are cropped to
            the foreground, and those far from it count as empty.
        moving_foreground: the same for the moving volume.
        settings: slice gap, components, grid spacings, precision.
        progress: receives each batch.
        cache: cache of features; none if None.
        runtime: of the run; a new one for the device of the volumes if None.

    Returns:
        Features of both volumes on the grid pooled by `settings.adam_grid_spacing`.

    Raises:
        WeightsError: the weights of the encoder are missing or damaged.
        InputError: there is not enough memory for one slice.
        RegistrationCancelledError: the caller cancelled the run.
    """
    info = source.info
    volumes = (fixed, moving)
    masks = (fixed_foreground, moving_foreground)
    messages: list[str] = []
    square = _square(source, masks, settings) if info.kind == "slice" else None
    kept, key = None, ""
    said_before = len(cache.messages) if cache is not None else 0
    if cache is not None:
        fingerprint = source.fingerprint(fixed.device)
        if not fingerprint:
            cache = None  # other weights under the same name would be confused with these
        else:
            key = cache_key(info, fingerprint, settings, volumes, masks, square or ())
            kept = cache.load(key)
    found = kept
    if found is None:
        encode = _encode_volumes if info.kind == "volume" else _encode_slices
        found, messages = encode(source, volumes, masks, settings, progress, runtime or Runtime(fixed.device))
        if cache is not None:
            cache.store(key, found)
    source.release()
    features = [found.fixed, found.moving]
    if square is not None:
        slices = encoded_slice_indices(len(fixed), settings.slice_gap)
        shape = (fixed.shape[0], fixed.shape[1], fixed.shape[2])
        features = [
            tokens_to_grid(part.to(fixed.device), slices, shape, settings.adam_grid_spacing, square)
            for part in features
        ]
    if cache is not None:
        messages += cache.messages[said_before:]
    return FeaturePair(
        features[0].to(fixed.device),
        features[1].to(fixed.device),
        found.explained_variance,
        found.encoded_slices,
        found.precision,
        found.weights_sha256,
        kept is not None,
        tuple(messages),
    )


def _margin(settings: Settings) -> int:
    """Return the encoded margin around the foreground in voxels: two cells of the search grid, like the grid's."""
    return 2 * settings.grid_spacing


def _square(source: EncoderSource, masks: tuple[torch.Tensor, torch.Tensor], settings: Settings) -> Square:
    """Return the encoded part of all slices, which depends on the fixed volume alone if its encoding is kept."""
    return foreground_square(masks[:1] if source.keeps_fixed else masks, _margin(settings))


def _content(source: EncoderSource, *arrays: torch.Tensor) -> str:
    """Return a hash of what the encoding of the fixed volume is made from, if it is kept."""
    digest = hashlib.sha256()
    for array in arrays if source.keeps_fixed else ():
        digest.update(np.ascontiguousarray(array.cpu().numpy()).data)
    return digest.hexdigest()


def _encode_volumes(
    source: EncoderSource,
    volumes: tuple[torch.Tensor, torch.Tensor],
    masks: tuple[torch.Tensor, torch.Tensor],
    settings: Settings,
    progress: Progress,
    runtime: Runtime,
) -> tuple[KeptFeatures, list[str]]:
    """Return the features of both volumes on the pooled grid."""
    encoder = source.on(runtime.device)
    window, factor = source.info.window, settings.adam_grid_spacing

    def encoded(index: int) -> torch.Tensor:
        progress.advance(index / 2)
        if window:
            return features_in_windows(encoder, window, volumes[index], factor, progress, index / 2)
        return pooled_descriptor(encoder, volumes[index], factor, progress)

    fixed = source.of_fixed((_content(source, volumes[0]), factor), lambda: encoded(0))
    return KeptFeatures(fixed, encoded(1), (), 0, "float32", weights_of(encoder)), []


def _encode_slices(
    source: EncoderSource,
    volumes: tuple[torch.Tensor, torch.Tensor],
    masks: tuple[torch.Tensor, torch.Tensor],
    settings: Settings,
    progress: Progress,
    runtime: Runtime,
) -> tuple[KeptFeatures, list[str]]:
    """Return the reduced tokens of the slices of both volumes, and messages."""
    margin = _margin(settings)
    slices = encoded_slice_indices(len(volumes[0]), settings.slice_gap)
    square = _square(source, masks, settings)
    components = settings.components or source.info.components
    runner = SliceRunner(source, runtime, settings.precision)
    central = int(masks[0].ne(0).flatten(1).sum(1).argmax())
    runner.choose_precision(
        square.cut(volumes[0][central : central + 1])[0],
        lambda tokens: token_foreground(masks[0], [central], square, tokens)[0],
        components,
    )
    with ExitStack() as open_spools:

        def encoded(index: int) -> TokenSpool:
            spool = TokenSpool(TOKEN_BUDGET_BYTES // 2)
            if index == 1 or not source.keeps_fixed:  # a kept one is closed when it is let go
                open_spools.enter_context(spool)
            wanted = slices_with_foreground(masks[index], slices, margin)
            _fill(spool, runner, volumes[index], slices, wanted, square, progress, index / 2)
            return spool

        key = _content(source, volumes[0], masks[0]), square, tuple(slices), runner.precision
        spools = [source.of_fixed(key, lambda: encoded(0)), encoded(1)]
        inside = [token_foreground(m, slices, square, s.tokens) for m, s in zip(masks, spools, strict=True)]
        (fixed, moving), explained = reduce_jointly(spools, inside, components, runner.device)
    kept = KeptFeatures(fixed, moving, explained, len(slices), runner.precision, weights_of(runner.encoder))
    return kept, runner.messages


def _fill(
    spool: TokenSpool,
    runner: SliceRunner,
    volume: torch.Tensor,
    slices: list[int],
    wanted: list[bool],
    square: Square,
    progress: Progress,
    done: float,
) -> None:
    """Encode the selected slices of a volume into a spool; the others get the tokens of an empty slice (all zero)."""
    chosen = [index for index, is_wanted in zip(slices, wanted, strict=True) if is_wanted]
    if len(chosen) < len(slices):
        spool.empty = runner.one(volume.new_zeros(square.side, square.side)).float()
    flags = iter(wanted)
    encoded = 0
    progress.advance(done)
    for tokens in runner.tokens(volume, chosen, square):
        for piece in tokens:
            while not next(flags):
                spool.append_empty()
            spool.append(piece[None])
        encoded += len(tokens)
        progress.advance(done + 0.5 * encoded / len(chosen))
    for _ in flags:
        spool.append_empty()
