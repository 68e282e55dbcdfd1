"""How a patient moves between the frames of a dynamic series: at once, or slowly with her breath and as she relaxes.

Everything keeps volumes exactly (see `incompressible`). LPS mm, in the space of the frame before contrast.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .implicit import Points
from .incompressible import Chain, Shear
from .patient_motion import Hill, pressed, table_position

MOTIONS = ("sudden", "drift", "none")
_SIZES_MM = {"patient": (3.0, 8.0), "easy": (1.0, 4.0)}
_BREATH_MM = (0.5, 1.5)
_RELAXATION_S = 150.0
_STRONGEST = 3.0
_HALVINGS = 16


def draw_series_motion(
    rng: np.random.Generator, motion: str, difficulty: str, times_s: NDArray[np.float64], breasts: Points
) -> list[Chain]:
    """Draw where the tissue of the first frame lies in each frame.

    The size of a movement is the 90th percentile of the displacements in the breasts: 3 to 8 mm for "patient", 1 to
    4 mm for "easy". Each has a rigid part, on the table, and one that deforms the breasts and the chest.

    Args:
        rng: source of all random choices.
        motion: "sudden" (one or two jumps, each before one of the frames, and stillness between them), "drift"
            (relaxation within some minutes, and the breath, whose mean differs from frame to frame) or "none".
        difficulty: "patient" or "easy".
        times_s: (F,) seconds, increasing.
        breasts: (N, 3) points of the breasts in the first frame.

    Returns:
        For each frame the map from points of the first frame; of the first one, the identity.
    """
    frames = len(times_s)
    if motion == "none":
        return [Chain(())] * frames
    if motion == "sudden":
        count = int(rng.integers(1, 3))
        before = sorted(int(frame) for frame in rng.choice(np.arange(1, frames), count, replace=False))
        jumps = [_Movement(rng, rng.uniform(*_SIZES_MM[difficulty]), breasts)(1.0) for _ in before]
        return [
            _joined([jump for frame, jump in zip(before, jumps, strict=True) if frame <= k]) for k in range(frames)
        ]
    relaxing = _Movement(rng, rng.uniform(*_SIZES_MM[difficulty]), breasts)
    breathing = _Movement(rng, rng.uniform(*_BREATH_MM), breasts)
    relaxed = 1.0 - np.exp(-(times_s - times_s[0]) / _RELAXATION_S)
    breath = rng.uniform(0.0, 1.0, frames)
    states = zip(relaxed / relaxed[-1], breath, strict=True)
    return [Chain(()), *(_joined([relaxing(share), breathing(level)]) for share, level in [*states][1:])]


class _Movement:
    """A movement that can be gone through in part."""

    def __init__(self, rng: np.random.Generator, size_mm: float, breasts: Points) -> None:
        """Draw a movement whose whole extent displaces the breasts by `size_mm`."""
        self._seed = int(rng.integers(2**31))
        weak, strong = 0.0, _STRONGEST
        for _ in range(_HALVINGS):
            self._strength = 0.5 * (weak + strong)
            shift = np.linalg.norm(self(1.0).forward(breasts) - breasts, axis=1)
            too_far = np.percentile(shift, 90.0) > size_mm
            weak, strong = (weak, self._strength) if too_far else (self._strength, strong)

    def __call__(self, share: float) -> Chain:
        """The movement up to `share` (0 to 1) of its extent."""
        rng = np.random.default_rng(self._seed)  # the same movement, whatever its extent
        strength = share * self._strength
        chest = Shear(2, Hill(strength * rng.normal(0.0, 12.0), (0.0, 84.0), (100.0, 72.0)))
        place = table_position(rng, strength * rng.uniform(4.0, 12.0), 4.0 * strength)
        return Chain((chest, *pressed(rng, strength), place))


def _joined(chains: list[Chain]) -> Chain:
    return Chain(tuple(link for chain in chains for link in chain.links))
