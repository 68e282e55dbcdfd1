"""Propagation of label maps by a finished registration."""

from __future__ import annotations

from dataclasses import replace

import SimpleITK as sitk

from ...io.segmentations import Segmentation, check_marked
from ...runtime.progress import Note
from ...spatial.checks import check_grid
from ...spatial.warping import warp_labels
from .fates import fates, losses, volumes
from .lattice import finer_lattice
from .outside import refuse_apart


def propagate_segmentation(
    segmentation: Segmentation,
    reference: sitk.Image,
    transform: sitk.Transform,
    inverse: sitk.Transform,
    messages: list[str],
    *,
    own_lattice: bool = False,
) -> Segmentation:
    """Resample label maps onto the grid of a reference; report their volumes, and which are lost or cut off.

    Args:
        segmentation: the label maps.
        reference: gives the grid.
        transform: maps a point of the reference to a point of the label map, LPS mm.
        inverse: maps a point of the label map to a point of the reference.
        messages: warnings are appended.
        own_lattice: where the voxels of the reference are larger than those of the label maps, divide them, and cover
            only the structures.

    Raises:
        InputError: the reference is not a 3D volume, or the label map is empty or does not overlap with it.
    """
    check_grid(reference, "reference", any_voxels=True)
    check_marked(segmentation, "given label map")
    finer = None
    if own_lattice:
        marked = segmentation.label_map() != 0
        finer = finer_lattice(segmentation.layers[0], marked, reference, transform, inverse)
    if finer is not None:
        messages.append(Note(_finer_message(finer)))
    grid = reference if finer is None else finer
    layers = [warp_labels(layer, grid, transform, smooth=finer is None) for layer in segmentation.layers]
    found = [
        (segmentation.name_of(number, label), fate)
        for number, (layer, carried) in enumerate(zip(segmentation.layers, layers, strict=True))
        for label, fate in fates(layer, carried, inverse)
    ]
    if all(fate.outside == fate.points for _, fate in found):
        refuse_apart("label map")
    messages += losses(found)
    messages.append(Note(volumes(found)))
    return replace(segmentation, layers=tuple(layers))


def _finer_message(lattice: sitk.Image) -> str:
    sizes = " x ".join(f"{edge:.2g}" for edge in lattice.GetSpacing())
    return (
        f"The structures were carried to voxels of their own, {sizes} mm, since those of the reference are larger "
        "than those they were drawn on."
    )
