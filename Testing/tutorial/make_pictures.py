"""Makes the pictures of the tutorial: synthetic patients, the real engine, real slice views of 3D Slicer.

Usage: python Testing/tutorial/make_pictures.py [--output FOLDER] [--spacing-mm MM] [NAME ...]
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import slicer
from numpy.typing import NDArray

_ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(_ROOT / folder) for folder in (".", "FoundationRegistration", "Testing", "Testing/rendering")]

from FoundationRegistrationBridge.run.job import JobInputs, JobOutputs, RegistrationJob  # noqa: E402
from FoundationRegistrationBridge.scene.map_colours import colour_jacobian  # noqa: E402
from FoundationRegistrationBridge.views.compare import Comparison  # noqa: E402
from FoundationRegistrationBridge.views.feature_preview import show_features  # noqa: E402
from FoundationRegistrationBridge.views.field_display import show_displacement  # noqa: E402
from FoundationRegistrationBridge.views.overlay import MapOverlay, PetOverlay  # noqa: E402
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
_PET_OPACITY = 0.5  # the anatomy stays visible
_CHANGE = (0.5, 1.5)
_SCALE_MM = 50


@dataclass(frozen=True)
class Bar:
    """A colour bar.

    Attributes:
        colours: (colours, RGB) from its lower to its upper end, 0 to 1.
        low: value at its lower end.
        high: value at its upper end.
        label: what it means, with its unit.
    """

    colours: NDArray[np.float64]
    low: float
    high: float
    label: str


@dataclass(frozen=True)
class Row:
    """A row of slice views.

    Attributes:
        title: written into the first view.
        pictures: one of each view, (row, column, RGB).
        bar: the colours of what is shown over the anatomy, beside the row.
    """

    title: str
    pictures: list[NDArray[np.uint8]]
    bar: Bar | None = None


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
        [Row("before registration", before), Row("after registration", _pixels(views))],
        views,
        "Two dates of one synthetic patient in a checkerboard: contours and glands must continue across the tiles",
    )
    comparison.fade(0.0)
    rows = []
    for kind, title in (("grid", "displacement as a grid"), ("arrows", "displacement as arrows")):
        show_displacement(result.transform_node, kind, fixed)
        lengths = result.transform_node.GetDisplayNode().GetColorMap()
        ends = lengths.GetRange()
        rows.append(Row(title, _pixels(views), Bar(_colours(lengths, *ends), *ends, "displacement (mm)")))
    show_displacement(result.transform_node, "off", fixed)
    comparison.close()
    colour_jacobian(result.jacobian_node)
    overlay = MapOverlay(result.jacobian_node, fixed)
    overlay.show(0.5)
    change = result.jacobian_node.GetDisplayNode().GetColorNode().GetColorTransferFunction()
    rows.append(
        Row(
            "volume change", _pixels(views), Bar(_colours(change, *_CHANGE), *_CHANGE, "local volume, moving / fixed")
        )
    )
    overlay.hide()
    _save(
        output / "warp.png",
        rows,
        views,
        "How the moving volume was deformed: a regular grid of it where it comes to lie, arrows from a moving point\n"
        "to its fixed point at true length, and local volume (dark: unchanged; green would be folded)",
    )
    preview = show_features(*result.feature_nodes)
    shown = _pixels(views)
    preview.fade(1.0)
    _save(
        output / "features.png",
        [Row("fixed volume", shown), Row("moving volume", _pixels(views))],
        views,
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
    _brighten(nodes.fixed)
    views = _views(nodes.fixed, nodes.fixed_lesion)
    rows = []
    for title, transform in (("before registration", None), ("after registration", result.transform_node)):
        overlay = PetOverlay(nodes.pet, nodes.fixed, transform)
        overlay.show(*_SUV_WINDOW, opacity=_PET_OPACITY)
        heat = overlay.volume_node.GetDisplayNode().GetColorNode().GetColorTransferFunction()
        colours = _colours(heat, *heat.GetRange())  # Slicer spreads them over the window
        rows.append(Row(title, _pixels(views), Bar(colours, *_SUV_WINDOW, "SUV")))
        overlay.hide()
    low, high = _SUV_WINDOW
    _save(
        output / "pet_over_mri.png",
        rows,
        views,
        f"PET of a synthetic supine PET/CT over prone MRI, SUV {low:g} to {high:g}. "
        "All slices go through the lesion that the MRI shows.",
    )


def draw_panel(output: Path, _spacing_mm: float) -> None:
    """Draw the panel on opening and after a run in the stand-in for the application, each in a process of its own."""
    script = _ROOT / "Testing" / "panel" / "screenshot.py"
    for name, state in (("panel_opening", "opening"), ("panel", "result")):
        subprocess.run([sys.executable, str(script), str(output / f"{name}.png"), "--state", state], check=True)


def draw_module(output: Path, _spacing_mm: float) -> None:
    """Draw the panel beside slice views that compare its result, in a process of its own."""
    script = _ROOT / "Testing" / "panel" / "module_picture.py"
    subprocess.run([sys.executable, str(script), str(output / "module.png")], check=True)


def draw_results(output: Path, _spacing_mm: float) -> None:
    """Draw the Result section for each verdict in the stand-in for the application, in a process of its own."""
    script = _ROOT / "Testing" / "panel" / "result_picture.py"
    subprocess.run([sys.executable, str(script), str(output / "result_verdicts.png")], check=True)


_PICTURES: dict[str, Callable[[Path, float], None]] = {
    "longitudinal": draw_longitudinal,
    "results": draw_results,
    "pet": draw_pet,
    "panel": draw_panel,
    "module": draw_module,
}


def _register(fixed: Any, moving: Any, **settings: Any) -> JobOutputs:
    sys.stderr.write(f"registering {moving.GetName()} to {fixed.GetName()}\n")
    settings = {"working_spacing_mm": _WORKING_SPACING_MM, **settings}
    return RegistrationJob(JobInputs(fixed, moving, settings=settings, feature_preview=True, maps=True)).wait()


def _brighten(node: Any) -> None:
    """Set a grey window in which the tissue is seen well, although enhancing vessels and lesions are brighter."""
    values = slicer.util.arrayFromVolume(node)
    display = node.GetDisplayNode()
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(0.0, float(np.percentile(values[values > 0.1 * values.max()], 95.0)))


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


def _colours(function: Any, low: float, high: float) -> NDArray[np.float64]:
    """Return the colours (N, RGB) that a vtkColorTransferFunction gives to values between two."""
    colours = np.zeros((256, 3))
    for value, colour in zip(np.linspace(low, high, len(colours)), colours, strict=True):
        function.GetColor(value, colour)
    return colours


def _save(path: Path, rows: list[Row], views: Sequence[SliceView], caption: str) -> None:
    """Write rows of slice views with titles, patient directions, scale and colour bars, and a caption."""
    size, margin = 3.2, 0.62
    beside = 0.95 if any(row.bar for row in rows) else 0.0
    width, height = 3 * size + beside, len(rows) * size + margin
    figure = plt.figure(figsize=(width, height), facecolor="black")
    for number, row in enumerate(rows):
        bottom = margin + (len(rows) - 1 - number) * size
        for column, (pixels, view, (orientation, _)) in enumerate(
            zip(row.pictures, views, FOUR_UP_SLICES.values(), strict=True)
        ):
            place = (column * size / width, bottom / height, (size - 0.02) / width, (size - 0.02) / height)
            axes = figure.add_axes(place)
            axes.imshow(pixels)
            axes.axis("off")
            for letter, x, y in zip(
                _LETTERS[orientation], (0.03, 0.97, 0.5, 0.5), (0.5, 0.5, 0.97, 0.03), strict=True
            ):
                _write(axes, x, y, letter, ha="center", va="center", size=9, color="#ffe680")
            _draw_scale(axes, view)
            if column == 0:
                _write(axes, 0.03, 0.98, row.title, ha="left", va="top", size=10, color="white")
        if row.bar is not None:
            left = (3 * size + 0.12) / width
            _draw_bar(figure.add_axes((left, (bottom + 0.3) / height, 0.14 / width, (size - 0.6) / height)), row.bar)
    figure.text(0.5, 0.5 * margin / height, caption, ha="center", va="center", size=10, color="#d0d0d0")
    save_small(figure, path)


def _draw_scale(axes: Any, view: SliceView) -> None:
    """Draw a line of known length in the lower left corner of a view."""
    length = _SCALE_MM / view.node.GetFieldOfView()[0]
    axes.plot((0.05, 0.05 + length), (0.06, 0.06), color="white", linewidth=2, transform=axes.transAxes, zorder=3)
    _write(axes, 0.05, 0.075, f"{_SCALE_MM} mm", ha="left", va="bottom", size=8, color="white")


def _draw_bar(axes: Any, bar: Bar) -> None:
    axes.imshow(bar.colours[:, None], origin="lower", aspect="auto", extent=(0.0, 1.0, bar.low, bar.high))
    axes.set_xticks([])
    axes.yaxis.tick_right()
    axes.yaxis.set_label_position("right")
    axes.tick_params(colors="white", labelsize=9)
    axes.set_ylabel(bar.label, color="white", size=9)


def _write(axes: Any, x: float, y: float, text: str, **style: Any) -> None:
    axes.text(x, y, text, transform=axes.transAxes, path_effects=_OUTLINED, **style)


if __name__ == "__main__":
    main()
