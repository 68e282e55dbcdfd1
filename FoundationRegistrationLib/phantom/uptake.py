"""Uptake of contrast agent: how the signal of each tissue rises and falls after the injection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .contrasts import CONTRASTS, Contrast

CURVE_TYPES = ("persistent", "plateau", "washout")
"""Types I, II and III of the curve after the first two minutes."""
_BEFORE, _AFTER = CONTRASTS["t1-fs"], CONTRASTS["t1-fs-enhanced"]


@dataclass(frozen=True)
class Uptake:
    """Relative enhancement S(t) / S(0) - 1 = amplitude (1 - exp(-t / rise_s)) exp(-fall_per_s t).

    The empirical model of Fan et al. (Magn Reson Med 51:487, 2004) without its second-order terms.

    Attributes:
        amplitude: level that a curve without wash-out approaches; 1 doubles the signal.
        rise_s: time constant of the wash-in, seconds.
        fall_per_s: rate of the wash-out, 1/s.
    """

    amplitude: float
    rise_s: float
    fall_per_s: float = 0.0

    def __call__(self, times_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Relative enhancement (F,) at seconds after the injection; 0 until then."""
        t = np.maximum(times_s, 0.0)
        return self.amplitude * (1.0 - np.exp(-t / self.rise_s)) * np.exp(-self.fall_per_s * t)


def lesion_name(curve: str) -> str:
    """The tissue of a lesion with a curve of CURVE_TYPES."""
    return f"{curve} lesion"


def draw_uptakes(rng: np.random.Generator) -> dict[str, Uptake]:
    """Draw the uptake of every tissue that enhances, by its name.

    In a series of six frames or more, lesions reach 80 to 200 %, glandular tissue slowly 10 to 40 %, vessels early
    about 150 %; muscle, skin and organs reach what the enhanced sequence of `contrasts` has.
    """
    others = {name: _AFTER[name][0] / _BEFORE[name][0] - 1.0 for name in _BEFORE}
    return {
        **{name: Uptake(level, 40.0) for name, level in others.items() if level > 0.0},
        "gland": Uptake(float(rng.uniform(0.13, 0.45)), 200.0),
        "blood": Uptake(1.75, 15.0, 0.0008),
        "vessel": Uptake(1.75, 15.0, 0.0008),
        lesion_name("persistent"): Uptake(float(rng.uniform(1.0, 1.35)), 150.0),
        lesion_name("plateau"): Uptake(float(rng.uniform(1.0, 1.5)), 22.0),
        lesion_name("washout"): Uptake(float(rng.uniform(1.7, 2.4)), 20.0, float(rng.uniform(0.0018, 0.0024))),
    }


def enhanced_contrasts(uptakes: Mapping[str, Uptake], times_s: NDArray[np.float64]) -> list[Contrast]:
    """What each tissue looks like in fat-suppressed T1 at each time, seconds after the injection.

    Lesions have the signal and the texture of glandular tissue until they enhance.
    """
    before = {
        **_BEFORE,
        "vessel": _BEFORE["blood"],
        **{lesion_name(curve): _BEFORE["gland"] for curve in CURVE_TYPES},
    }
    factors = {name: 1.0 + uptakes[name](times_s) for name in uptakes}
    contrasts = []
    for frame in range(len(times_s)):
        gains = {name: factors[name][frame] if name in factors else 1.0 for name in before}
        contrasts.append({name: _scaled(look, gains[name]) for name, look in before.items()})
    return contrasts


def _scaled(look: tuple[float, float, float], gain: float) -> tuple[float, float, float]:
    mean, coarse, fine = look
    return gain * mean, gain * coarse, gain * fine
