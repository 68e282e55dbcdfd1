"""Joint principal component analysis of the tokens of both volumes (paper equation 2), in limited memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..runtime.device import device_with_doubles

# Total variance over the channels to which reduced features are scaled, so that lambda and the coupling coefficients
# mean the same for every encoder as for MIND-SSC, for which the reference values were tuned.
FEATURE_VARIANCE = 1.0

_ROWS_AT_ONCE = 8192


@dataclass(frozen=True)
class Projection:
    """Tokens to reduced features: matrix @ token - shift.

    Attributes:
        matrix: (d, D) float32, the scaled components.
        shift: (d,) float32, the scaled components of the mean.
        explained_variance: share of the tokens' variance of each component.
    """

    matrix: torch.Tensor
    shift: torch.Tensor
    explained_variance: tuple[float, ...]

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the tokens (D, h, w) of a slice as (d, h, w), on the host."""
        reduced = self.matrix @ tokens.to(self.matrix.device).flatten(1) - self.shift[:, None]
        return reduced.unflatten(1, tokens.shape[1:]).cpu()


def reduce_jointly(
    tokens: Sequence[Iterable[torch.Tensor]],
    inside: Sequence[torch.Tensor],
    components: int,
    device: torch.device | None = None,
) -> tuple[list[torch.Tensor], tuple[float, ...]]:
    """Project the tokens of all volumes onto their common principal components (paper equation 2).

    The mean and the components are fitted to the foreground tokens of all volumes together; the same projection
    is applied to each. One common scale brings the foreground's total variance to `FEATURE_VARIANCE`.
    Deterministic; the sign of a component is such that its largest loading is positive.

    Args:
        tokens: for each volume its N slices of tokens (D, h, w) on the host, as a tensor (N, D, h, w) or any iterable
            that can be iterated twice, so that not all need to be in memory.
        inside: (N, h, w) bool of each volume, the tokens to fit to; all if these are no more than `components`.
        components: number to keep, d; fewer if the tokens have fewer.
        device: device to compute on; the CPU if None.

    Returns:
        The reduced tokens (N, d, h, w) of each volume, on the host, and the share of variance of each component.
    """
    device = device_with_doubles(device or torch.device("cpu"))
    moments = _Moments.of(tokens, inside, device)
    if moments.count <= components:
        moments = _Moments.of(tokens, [torch.ones_like(mask) for mask in inside], device)
    projection = moments.projection(components)
    reduced = [torch.stack([projection(piece) for piece in volume]) for volume in tokens]
    return reduced, projection.explained_variance


class _Moments:
    """Number, sum and products of tokens in float64, for mean and covariance."""

    def __init__(self, channels: int, device: torch.device) -> None:
        self.count = 0
        self._sum = torch.zeros(channels, dtype=torch.float64, device=device)
        self._products = torch.zeros(channels, channels, dtype=torch.float64, device=device)

    @classmethod
    def of(
        cls, tokens: Sequence[Iterable[torch.Tensor]], inside: Sequence[torch.Tensor], device: torch.device
    ) -> _Moments:
        """Return the moments of the tokens inside the masks."""
        moments = None
        for volume, masks in zip(tokens, inside, strict=True):
            for piece, mask in zip(volume, masks, strict=True):
                moments = moments or cls(len(piece), device)
                for rows in piece[:, mask].T.split(_ROWS_AT_ONCE):
                    moments._add(rows.to(device).double())
        if moments is None:
            msg = "There are no slices to reduce."
            raise ValueError(msg)
        return moments

    def _add(self, rows: torch.Tensor) -> None:
        self.count += len(rows)
        self._sum += rows.sum(0)
        self._products.addmm_(rows.T, rows)

    def projection(self, components: int) -> Projection:
        """Return the projection onto the first principal components, scaled to `FEATURE_VARIANCE`."""
        from sklearn.utils.extmath import svd_flip  # slow to import, and MIND needs no reduction

        mean = self._sum / self.count
        covariance = (self._products - self.count * torch.outer(mean, mean)) / max(1, self.count - 1)
        variances, axes = (part.cpu().numpy() for part in torch.linalg.eigh(covariance))
        variances = variances.clip(0.0)
        kept = min(components, len(mean), self.count)
        # eigh sorts them ascending; signs of eigenvectors are chosen as in scikit-learn's PCA.
        matrix = svd_flip(None, axes[:, ::-1][:, :kept].T, u_based_decision=False)[1]
        total, held = variances.sum(), variances[::-1][:kept]
        scale = (FEATURE_VARIANCE / held.sum()) ** 0.5 if held.sum() > 0 else 1.0
        scaled = torch.from_numpy(matrix * scale).to(mean.device)
        shares = held / total if total > 0 else np.zeros(kept)
        return Projection(scaled.float(), (scaled @ mean).float(), tuple(float(share) for share in shares))
