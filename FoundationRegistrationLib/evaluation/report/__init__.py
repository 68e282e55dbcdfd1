"""The quality page of a registration, as an image.

The images follow the radiological convention: the patient's right on the left of the image, anterior and superior up.
All images are on one grid; lengths are in mm.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import BinaryIO

import SimpleITK as sitk

from ...errors import InputError
from ...files.outputs import complete_or_absent
from .scene import build_scene

__all__ = ["save_overview"]


def save_overview(
    target: str | os.PathLike[str] | BinaryIO,
    fixed: sitk.Image,
    moving_before: sitk.Image,
    moving_after: sitk.Image,
    displacement: sitk.Image,
    jacobian: sitk.Image,
    *,
    title: str,
    verdict: tuple[str, Sequence[str]],
    warnings: Sequence[str] = (),
    lines: Sequence[str] = (),
    fixed_labels: sitk.Image | None = None,
    labels_before: sitk.Image | None = None,
    labels_after: sitk.Image | None = None,
    expected_error: sitk.Image | None = None,
    focus: sitk.Image | None = None,
) -> None:
    """Draw the quality page of one registration as a PNG.

    Axial, coronal and sagittal cuts, each the slice nearest to the middle that shows nearly as much as any of the
    focus, else of the fixed labels, else of the fixed foreground. Fixed image, moving image before and after,
    checkerboards before and after, displacement (mm, arrows from a fixed point to its moving point, in the plane;
    minus its mean, which is stated, if that is longer than the remainder), Jacobian determinant (folded voxels
    marked), and the expected error if there is one. Grey windows are robust percentiles of the foreground, the same
    before and after. With labels, outlines of the fixed
    (blue) and of the moving labels (orange). The file gets its name only when it is complete.

    Args:
        target: the PNG, an existing file is replaced; or a binary stream.
        fixed: fixed image. Its grid may be oblique or flipped (it is reoriented to the nearest LPS order) and
            anisotropic (images are drawn in mm).
        moving_before: moving image resampled onto that grid without the deformation.
        moving_after: moving image warped onto that grid by the registration.
        displacement: u(x) in mm, LPS, fixed point x -> moving point x + u(x), on that grid.
        jacobian: determinant of x -> x + u(x) on that grid.
        title: first line of the page.
        verdict: "good", "check" or "failed", and the reasons: displayed next, in a colour of its own.
        warnings: displayed after it, highlighted.
        lines: key figures, one line of text each.
        fixed_labels: labels of the fixed image on that grid.
        labels_before: labels of the moving image before, on that grid.
        labels_after: labels of the moving image after, on that grid.
        expected_error: mm, on that grid; NaN where unknown.
        focus: what the cuts must show, not 0, on that grid; such as a lesion.

    Raises:
        InputError: an image is not on the grid of the fixed image, ``displacement`` is not a field, or the
            path does not end in .png.
        OutputError: the file cannot be written.
    """
    path = os.fspath(target) if isinstance(target, str | os.PathLike) else None
    if path is not None and not path.lower().endswith(".png"):
        msg = f"{path} does not end in .png; the overview is a PNG image."
        raise InputError(msg)
    labels = (fixed_labels, labels_before, labels_after)
    scene = build_scene(fixed, moving_before, moving_after, displacement, jacobian, labels, expected_error, focus)

    from .page import draw_page  # matplotlib is slow to import

    figure = draw_page(scene, title, verdict, warnings, lines)
    with contextlib.nullcontext(target) if path is None else complete_or_absent(path) as opened:
        figure.savefig(opened, format="png", dpi="figure", facecolor="auto", pil_kwargs={"compress_level": 4})
