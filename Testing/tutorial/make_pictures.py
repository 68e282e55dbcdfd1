"""Makes the pictures of the tutorial: synthetic patients, the real engine, real slice views of 3D Slicer.

Usage: python Testing/tutorial/make_pictures.py [--output FOLDER] [--spacing-mm MM] [NAME ...]
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

_ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(_ROOT / folder) for folder in (".", "FoundationRegistration", "Testing", "Testing/rendering")]

from FoundationRegistrationBridge.compare import Comparison  # noqa: E402
from FoundationRegistrationBridge.feature_preview import show_features  # noqa: E402
from FoundationRegistrationBridge.field_display import colour_jacobian, show_displacement  # noqa: E402
from FoundationRegistrationBridge.job import JobInputs, JobOutputs, RegistrationJob  # noqa: E402
from FoundationRegistrationBridge.overlay import MapOverlay, PetOverlay  # noqa: E402
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.patheffects import withStroke  # noqa: E402
from mrml.nodes import volume_node  # noqa: E402
from phantom_nodes import add_phantom  # noqa: E402
from saving import picture_parser, save_small  # noqa: E402
from slice_view import SliceView  # noqa: E402
from stand_in.scene import FOUR_UP_SLICES, boot  # noqa: E402

from FoundationRegistrationLib.phantom import make_phantom  # noqa: E402

_LETTERS = {"Axial": "RLAP", "Sagittal": "APSI", "Coronal": "RLSI"}
"""Patient directions at the left, right, upper and lower edge of a slice view."""
_ZOOM = {"Axial": 1.15, "Sagittal": 1.5, "Coronal": 1.15}
_PIXELS = 360
_WORKING_SPACING_MM = 2.0
_OUTLINED = [withStroke(linewidth=3.0, foreground="black")]
_SUV_WINDOW = (2.5, 8.0)

Row = tuple[str, list[NDArray[np.uint8]]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the pictures that are named, or all."""
    parser = picture_parser(__doc__, spacing_mm=1.5)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"any of {', '.join(_PICTURES)}; all if none is given"
    )
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - set(_PICTURES))
    if unknown:
        parser.error(f"no picture '{unknown[0]}'; choose from {', '.join(_PICTURES)}")
    options.output.mkdir(parents=True, exist_ok=True)
    mpl.use("Agg")
    for name in options.names or _PICTURES:
        _PICTURES[name](options.output, options.spacing_mm)


def draw_longitudinal(output: Path, spacing_mm: float) -> None:
    """Before and after as checkerboards; grid, arrows and volume change; features as colours."""
    scene = boot()
    scene.Clear(0)
    case = make_phantom("longitudinal", seed=1, spacing_mm=spacing_mm, difficulty="easy")
    fixed, moving = volume_node(scene, case.fixed, "today"), volume_node(scene, case.moving, "last year")
    result = _register(fixed, moving, preset="longitudinal", encoder="litemedsam")
    views = _views(fixed, _centre_of(case.fixed_labels["breast"]))

    comparison = Comparison(fixed, moving)
    comparison.checkerboard(9)
    before = _pixels(views)
    moving.SetAndObserveTransformNodeID(result.transform_node.GetID())
    comparison = Comparison(fixed, moving)
    comparison.checkerboard(9)
    _save(
        output / "before_after.png",
        [("before registration", before), ("after registration", _pixels(views))],
        "Two dates of one synthetic patient in a checkerboard: contours and glands must continue across the tiles",
    )
    comparison.fade(0.0)
    rows = []
    for kind, title in (("grid", "displacement as a grid"), ("arrows", "displacement as arrows")):
        show_displacement(result.transform_node, kind, fixed)
        rows.append((title, _pixels(views)))
    show_displacement(result.transform_node, "off", fixed)
    comparison.close()
    colour_jacobian(result.jacobian_node)
    overlay = MapOverlay(result.jacobian_node, fixed)
    overlay.show(0.5)
    rows.append(("volume change", _pixels(views)))
    overlay.hide()
    _save(
        output / "warp.png",
        rows,
        "How the moving volume was deformed. Lines and arrows: blue for none, red for the largest displacement.\n"
        "Volume change: blue is smaller in the moving volume, red is larger there, green is folded",
    )
    preview = show_features(*result.feature_nodes)
    shown = _pixels(views)
    preview.fade(1.0)
    _save(
        output / "features.png",
        [("fixed volume", shown), ("moving volume", _pixels(views))],
        "Features of the encoder (LiteMedSAM), first three principal components as colours: "
        "one colour, similar features",
    )
    preview.close()


def draw_pet(output: Path, spacing_mm: float) -> None:
    """PET over MRI before and after."""
    scene = boot()
    scene.Clear(0)
    nodes = add_phantom(scene, make_phantom("pet-ct-to-mri", seed=1, spacing_mm=spacing_mm, difficulty="easy"))
    result = _register(nodes.fixed, nodes.moving, preset="pet-ct-to-mri")
    views = _views(nodes.fixed, nodes.fixed_lesion)
    rows = []
    for title, transform in (("before registration", None), ("after registration", result.transform_node)):
        overlay = PetOverlay(nodes.pet, nodes.fixed, transform)
        overlay.show(*_SUV_WINDOW, opacity=0.65)
        rows.append((title, _pixels(views)))
        overlay.hide()
    low, high = _SUV_WINDOW
    _save(
        output / "pet_over_mri.png",
        rows,
        f"PET of a synthetic supine PET-CT over prone MRI, SUV {low:g} to {high:g}. "
        "All slices go through the lesion that the MRI shows.",
    )


def draw_panel(output: Path, _spacing_mm: float) -> None:
    """Draw the panel as it looks in the stand-in for the application; this needs a process of its own."""
    script = _ROOT / "Testing" / "panel" / "screenshot.py"
    subprocess.run([sys.executable, str(script), str(output / "panel.png")], check=True)


def draw_results(output: Path, _spacing_mm: float) -> None:
    """Draw the Result section for each verdict in the stand-in for the application, in a process of its own."""
    script = _ROOT / "Testing" / "panel" / "result_picture.py"
    subprocess.run([sys.executable, str(script), str(output / "result_verdicts.png")], check=True)


_PICTURES: dict[str, Callable[[Path, float], None]] = {
    "longitudinal": draw_longitudinal,
    "results": draw_results,
    "pet": draw_pet,
    "panel": draw_panel,
}


def _register(fixed: Any, moving: Any, **settings: Any) -> JobOutputs:
    sys.stderr.write(f"registering {moving.GetName()} to {fixed.GetName()}\n")
    settings = {"working_spacing_mm": _WORKING_SPACING_MM, **settings}
    return RegistrationJob(JobInputs(fixed, moving, settings=settings, feature_preview=True, maps=True)).wait()


def _centre_of(mask: Any) -> NDArray[np.float64]:
    """Return the middle of the larger connected part of a mask, RAS mm."""
    import SimpleITK as sitk

    parts = sitk.RelabelComponent(sitk.ConnectedComponent(mask))
    shape = sitk.LabelShapeStatisticsImageFilter()
    shape.Execute(parts)
    return np.array(shape.GetCentroid(1)) * (-1.0, -1.0, 1.0)


def _views(volume: Any, ras: NDArray[np.float64]) -> list[SliceView]:
    """Return views of the slices through a point; both sides of the patient are seen where they can be."""
    views = []
    for name, (orientation, _) in FOUR_UP_SLICES.items():
        view = SliceView(name, (_PIXELS, _PIXELS))
        right = ras[0] if orientation == "Sagittal" else 0.0
        view.look_at(volume, (right, ras[1], ras[2]), zoom=_ZOOM[orientation])
        views.append(view)
    return views


def _pixels(views: list[SliceView]) -> list[NDArray[np.uint8]]:
    return [view.pixels() for view in views]


def _save(path: Path, rows: list[Row], caption: str) -> None:
    """Write rows of slice views with titles, patient directions and a caption."""
    size, margin = 3.2, 0.62
    width, height = 3 * size, len(rows) * size + margin
    figure = plt.figure(figsize=(width, height), facecolor="black")
    for row, (title, pictures) in enumerate(rows):
        for column, (pixels, (orientation, _)) in enumerate(zip(pictures, FOUR_UP_SLICES.values(), strict=True)):
            bottom = (margin + (len(rows) - 1 - row) * size) / height
            axes = figure.add_axes((column / 3, bottom, 0.995 / 3, (size - 0.02) / height))
            axes.imshow(pixels)
            axes.axis("off")
            for letter, x, y in zip(
                _LETTERS[orientation], (0.03, 0.97, 0.5, 0.5), (0.5, 0.5, 0.97, 0.03), strict=True
            ):
                _write(axes, x, y, letter, ha="center", va="center", size=9, color="#ffe680")
            if column == 0:
                _write(axes, 0.03, 0.98, title, ha="left", va="top", size=11, color="white")
    figure.text(0.5, 0.5 * margin / height, caption, ha="center", va="center", size=10, color="#d0d0d0")
    save_small(figure, path)


def _write(axes: Any, x: float, y: float, text: str, **style: Any) -> None:
    axes.text(x, y, text, transform=axes.transAxes, path_effects=_OUTLINED, **style)


if __name__ == "__main__":
    main()
