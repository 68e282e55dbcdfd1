"""IMPACT's part that needs torch 2.12: reads two volumes and a mask from a folder, leaves the displacement there.

python impact_process.py FOLDER THREADS
"""

from __future__ import annotations

import sys
from pathlib import Path

import itk
import torch
from torch.nn import functional

_DILATION = 2


class Mind(torch.nn.Module):
    """Self-similarity of each voxel with its six neighbours, in the form in which IMPACT calls a model."""

    def __init__(self) -> None:
        super().__init__()
        self.dilation = _DILATION

    def forward(
        self,
        x: torch.Tensor,
        nb_layers: torch.Tensor,
        stats: torch.Tensor,
        direction: torch.Tensor,
    ) -> list[torch.Tensor]:
        """Return one layer (1, 6, ...) of a volume (1, 1, ...); the other arguments change nothing."""
        by = self.dilation
        wide = functional.pad(x, [by, by, by, by, by, by], mode="replicate")
        distances: list[torch.Tensor] = []
        for axis in (2, 3, 4):
            inner = wide
            for other in (2, 3, 4):
                if other != axis:
                    inner = inner.narrow(other, by, x.size(other))
            for start in (0, 2 * by):
                squares = (x - inner.narrow(axis, start, x.size(axis))) ** 2
                squares = functional.pad(squares, [1, 1, 1, 1, 1, 1], mode="replicate")
                distances.append(functional.avg_pool3d(squares, 3, stride=1))
        found = torch.cat(distances, 1)
        found = found - found.min(1, keepdim=True)[0]
        variance = found.mean(1, keepdim=True)
        middle = variance.mean()
        variance = torch.minimum(torch.maximum(variance, 1e-3 * middle), 1e3 * middle)
        return [torch.exp(-found / variance)]


def main(folder: Path, threads: int) -> None:
    """Register the volumes of a folder."""
    torch.set_num_threads(threads)
    model = folder / "mind.pt"
    torch.jit.script(Mind()).save(str(model))
    fixed, moving = (itk.imread(str(folder / f"{name}.nii"), itk.F) for name in ("fixed", "moving"))
    spacing = [float(step) for step in fixed.GetSpacing()]
    kind = itk.Image[itk.F, 3]
    coarse = itk.ImpactCoarseRegistration[kind, kind].New()
    coarse.SetGridSpacing(4)
    coarse.SetDisplacementHalfWidth(5)
    fine = itk.ImpactFineRegistration[kind, kind].New()
    fine.SetDistance(["L2"])
    fine.SetNumberOfIterations(100)
    fine.SetLearningRate(0.1)
    fine.SetRegularizationWeight(1.0)
    for stage in (coarse, fine):
        stage.SetFixedImage(fixed)
        stage.SetMovingImage(moving)
        stage.SetFixedMask(itk.imread(str(folder / "mask.nii"), itk.UC))
        stage.SetDevice("cpu")
        stage.AddModelConfiguration(
            itk.ImpactModelConfiguration(str(model), 3, 1, [0, 0, 0], spacing, [0, 0, 0], [True], False)
        )
    coarse.Update()
    fine.SetInitialDisplacementField(coarse.GetDisplacementField())
    fine.Update()
    itk.imwrite(fine.GetDisplacementField(), str(folder / "field.mha"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
