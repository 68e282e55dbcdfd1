"""Makes the pictures of the page *Limits*: registrations of synthetic patients that fail, and what mends them.

Usage: python Testing/tutorial/make_failures.py [--output FOLDER] [NAME ...]

Each picture comes with its figures and messages on the standard output.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

_ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(_ROOT))
mpl.use("Agg")

from matplotlib import pyplot as plt  # noqa: E402
from saving import save_small  # noqa: E402

from FoundationRegistrationLib import RegistrationResult, Settings, register  # noqa: E402
from FoundationRegistrationLib.phantom import PhantomCase, make_phantom  # noqa: E402

_IDENTITY = sitk.TranslationTransform(3)
_PANEL_INCHES = 3.4
_TITLE_INCHES = 0.3
_FIXED_COLOUR, _MOVING_COLOUR = "#3ec1f0", "#ffa31a"
_LARGEST_ERROR_MM = 5.0


@dataclass(frozen=True)
class Panel:
    """One slice of a volume on the fixed grid.

    Attributes:
        title: above it.
        image: on the grid of the fixed volume.
        outlines: masks on that grid with their colours.
        colours: of matplotlib.
    """

    title: str
    image: sitk.Image
    outlines: Sequence[tuple[sitk.Image, str]] = ()
    colours: str = "gray"


@dataclass(frozen=True)
class View:
    """Where panels are cut: an axial or coronal plane through a point, and the half-width shown, all mm."""

    point: NDArray[np.float64]
    plane: str = "axial"
    half_width: float | None = None


def draw_turned(output: Path) -> None:
    """Draw a volume whose header turns the patient by 180 degrees: prone stored as supine."""
    case = make_phantom("longitudinal", seed=1, spacing_mm=2.5, difficulty="easy")
    turn = np.diag([-1.0, -1.0, 1.0])
    centre = _middle(case.moving)
    moving = _turned(case.moving, turn, centre)
    labels = {name: _turned(mask, turn, centre) for name, mask in case.moving_labels.items()}
    points = (case.moving_landmarks - centre) @ turn.T + centre
    settings = Settings.from_preset("longitudinal", working_spacing_mm=3.0)
    failed = register(case.fixed, moving, settings)
    start = sitk.LandmarkBasedTransformInitializer(
        sitk.VersorRigid3DTransform(), case.fixed_landmarks[:4].ravel().tolist(), points[:4].ravel().tolist()
    )
    mended = register(case.fixed, moving, settings, initial_transform=start)
    for title, result in (("automatic start", failed), ("start from four landmarks", mended)):
        _tell(title, case, result, labels, points)
    panels = [
        _fixed_panel(case),
        _panel("moving, as its header says", case, moving, _IDENTITY, labels),
        _panel("registered", case, moving, failed.transform, labels),
        _panel("registered from landmarks", case, moving, mended.transform, labels),
    ]
    _save(output / "limits_turned.png", panels, View(_middle(case.fixed)))


def draw_ct_with_mind(output: Path) -> None:
    """Draw CT to MR with a descriptor that cannot bridge the gap, and with the preset that can."""
    case = make_phantom("pet-ct-to-mri", seed=1, spacing_mm=2.5, difficulty="easy")
    wrong = register(case.fixed, case.moving, Settings.from_preset("longitudinal", working_spacing_mm=3.0))
    right = register(case.fixed, case.moving, Settings.from_preset("pet-ct-to-mri", working_spacing_mm=3.0))
    for title, result in (("preset longitudinal", wrong), ("preset pet-ct-to-mri", right)):
        _tell(title, case, result, case.moving_labels, case.moving_landmarks)
    panels = [
        _fixed_panel(case),
        _panel("CT after the affine start", case, case.moving, wrong.initial_transform, case.moving_labels),
        _panel("MIND alone (longitudinal)", case, case.moving, wrong.transform, case.moving_labels),
        _panel("preset pet-ct-to-mri", case, case.moving, right.transform, case.moving_labels),
    ]
    _save(output / "limits_ct_mind.png", panels, View(_middle(case.fixed_labels["fibroglandular"])))


def draw_squeezed_lesion(output: Path) -> None:
    """Draw a lesion that only the moving volume has, without anything that protects it, and with."""
    case = make_phantom("lesion", seed=1, spacing_mm=2.0, difficulty="easy")
    runs = {
        "preset convexadam": register(case.fixed, case.moving, _at_2_mm("convexadam")),
        "preset lesion": register(case.fixed, case.moving, _at_2_mm("lesion")),
        "lesion mask given": register(
            case.fixed, case.moving, _at_2_mm("lesion"), moving_lesion=case.moving_labels["lesion"]
        ),
    }
    lesion = {"lesion": case.moving_labels["lesion"]}
    start = next(iter(runs.values())).initial_transform
    panels = [
        Panel("fixed: no lesion", case.fixed),
        _panel("moving, after the affine start", case, case.moving, start, lesion),
    ]
    for title, result in runs.items():
        _tell(title, case, result, case.moving_labels, case.moving_landmarks)
        panels.append(_panel(title, case, case.moving, result.transform, lesion))
    place = _middle_of_mask(_on_fixed(lesion["lesion"], case.fixed, start, is_label=True))
    _save(output / "limits_lesion.png", panels, View(place, half_width=32.0))


def draw_small_overlap(output: Path) -> None:
    """Draw a moving volume that shows only a quarter of what the fixed one shows."""
    case = make_phantom("longitudinal", seed=1, spacing_mm=2.5, difficulty="easy")
    width, depth, height = case.moving.GetSize()
    size = (width // 2, depth, height // 2)
    moving = sitk.RegionOfInterest(case.moving, size, (0, 0, 0))
    labels = {name: sitk.RegionOfInterest(mask, size, (0, 0, 0)) for name, mask in case.moving_labels.items()}
    result = register(case.fixed, moving, Settings.from_preset("longitudinal", working_spacing_mm=3.0))
    _tell("quarter of the field of view", case, result, labels, case.moving_landmarks)
    seen = np.array(
        [moving.TransformPhysicalPointToContinuousIndex(point.tolist()) for point in case.moving_landmarks]
    )
    inside = ((seen >= 0) & (seen <= np.array(size) - 1)).all(1)
    errors = _errors(case, result, case.moving_landmarks)
    _write(f"TRE inside the common field {errors[inside].mean():.2f} mm, outside {errors[~inside].mean():.2f} mm")
    error = sitk.Resample(result.expected_error, case.fixed, _IDENTITY, sitk.sitkNearestNeighbor, np.nan)
    panels = [
        _fixed_panel(case),
        _panel("moving, after the affine start", case, moving, result.initial_transform, labels),
        _panel("registered", case, moving, result.transform, labels),
        Panel("expected error, grey: not known", error, (), "RdYlGn_r"),
    ]
    _save(output / "limits_overlap.png", panels, View(_middle(case.fixed_labels["breast"]), "coronal"))


def draw_coarse_grid(output: Path) -> None:
    """Draw tissue that is finer than the cells of the working grid."""
    case = make_phantom("cross-sequence", seed=1, spacing_mm=1.5, difficulty="easy")
    coarse = register(case.fixed, case.moving, Settings.from_preset("cross-sequence", working_spacing_mm=5.0))
    fine = register(case.fixed, case.moving, Settings.from_preset("cross-sequence", working_spacing_mm=1.5))
    for title, result in (("working grid 5 mm", coarse), ("working grid 1.5 mm", fine)):
        _tell(title, case, result, case.moving_labels, case.moving_landmarks)
    panels = [
        _fixed_panel(case, ("fibroglandular",)),
        _panel("after the affine start", case, case.moving, coarse.initial_transform, _gland(case)),
        _panel("working grid 5 mm", case, case.moving, coarse.transform, _gland(case)),
        _panel("working grid 1.5 mm", case, case.moving, fine.transform, _gland(case)),
    ]
    place = _middle_of_mask(case.fixed_labels["fibroglandular"])
    _save(output / "limits_coarse.png", panels, View(place, half_width=60.0))


_PICTURES: dict[str, Callable[[Path], None]] = {
    "turned": draw_turned,
    "ct-mind": draw_ct_with_mind,
    "lesion": draw_squeezed_lesion,
    "overlap": draw_small_overlap,
    "coarse": draw_coarse_grid,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the pictures that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"any of {', '.join(_PICTURES)}; all if none is given"
    )
    parser.add_argument("--output", type=Path, default=_ROOT / "Resources" / "Screenshots")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - set(_PICTURES))
    if unknown:
        parser.error(f"no picture '{unknown[0]}'; choose from {', '.join(_PICTURES)}")
    options.output.mkdir(parents=True, exist_ok=True)
    for name in options.names or _PICTURES:
        _PICTURES[name](options.output)


def _at_2_mm(preset: str) -> Settings:
    return Settings.from_preset(preset, working_spacing_mm=2.0)


def _gland(case: PhantomCase) -> dict[str, sitk.Image]:
    return {"fibroglandular": case.moving_labels["fibroglandular"]}


def _turned(image: sitk.Image, turn: NDArray[np.float64], centre: NDArray[np.float64]) -> sitk.Image:
    """Return a copy whose header turns it about a point."""
    copy = sitk.Image(image)
    copy.SetDirection((turn @ np.array(image.GetDirection()).reshape(3, 3)).ravel().tolist())
    copy.SetOrigin((turn @ (np.array(image.GetOrigin()) - centre) + centre).tolist())
    return copy


def _middle(image: sitk.Image) -> NDArray[np.float64]:
    return np.array(image.TransformContinuousIndexToPhysicalPoint([(size - 1) / 2 for size in image.GetSize()]))


def _middle_of_mask(mask: sitk.Image) -> NDArray[np.float64]:
    """Return the middle of the largest connected part of a mask, LPS mm."""
    shape = sitk.LabelShapeStatisticsImageFilter()
    shape.Execute(sitk.RelabelComponent(sitk.ConnectedComponent(mask)))
    return np.array(shape.GetCentroid(1))


def _on_fixed(image: sitk.Image, fixed: sitk.Image, transform: sitk.Transform, *, is_label: bool) -> sitk.Image:
    interpolation = sitk.sitkNearestNeighbor if is_label else sitk.sitkLinear
    outside = 0.0 if is_label else float(sitk.GetArrayViewFromImage(image).min())
    return sitk.Resample(image, fixed, transform, interpolation, outside)


def _fixed_panel(case: PhantomCase, names: Iterable[str] = ("breast", "fibroglandular")) -> Panel:
    return Panel("fixed", case.fixed, [(case.fixed_labels[name], _FIXED_COLOUR) for name in names])


def _panel(
    title: str, case: PhantomCase, moving: sitk.Image, transform: sitk.Transform, labels: Mapping[str, sitk.Image]
) -> Panel:
    """Return the moving volume through a transform, its outlines in orange, those of the fixed volume in blue."""
    outlines = []
    for name in labels.keys() & {"breast", "fibroglandular", "lesion"}:
        if name != "lesion":
            outlines.append((case.fixed_labels[name], _FIXED_COLOUR))
        outlines.append((_on_fixed(labels[name], case.fixed, transform, is_label=True), _MOVING_COLOUR))
    outlines.sort(key=lambda outline: outline[1] == _MOVING_COLOUR)
    return Panel(title, _on_fixed(moving, case.fixed, transform, is_label=False), outlines)


def _tell(
    title: str,
    case: PhantomCase,
    result: RegistrationResult,
    labels: Mapping[str, sitk.Image],
    points: NDArray[np.float64],
) -> None:
    """Write figures and messages of a run."""
    start = np.linalg.norm(_mapped(result.initial_transform, case.fixed_landmarks) - points, axis=1)
    expected = result.metrics["expected_error"]
    _write(
        f"\n{title}: TRE {start.mean():.2f} mm after the start, {_errors(case, result, points).mean():.2f} mm at the "
        f"end; expected error {expected['median_mm']:.1f} mm, not known in {expected['not_known_percent']:.0f} %"
    )
    for name in ("breast", "fibroglandular"):
        before, after = (
            _dice(case.fixed_labels[name], _on_fixed(labels[name], case.fixed, transform, is_label=True))
            for transform in (result.initial_transform, result.transform)
        )
        _write(f"Dice {name} {before:.3f} after the start, {after:.3f} at the end")
    if "lesion" in labels:
        before, after = (
            float(sitk.GetArrayFromImage(_on_fixed(labels["lesion"], case.fixed, transform, is_label=True)).sum())
            for transform in (result.initial_transform, result.transform)
        )
        _write(f"lesion volume {100 * (after / before - 1):+.0f} % of that after the start")
    jacobian = result.metrics["jacobian"]
    _write(f"Jacobian {jacobian['min']:.2f} to {jacobian['max']:.2f}, SD of its log {jacobian['sd_log']:.2f}")
    _write(str(result.verdict))
    for message in result.messages:
        _write(f"message: {message}")


def _errors(case: PhantomCase, result: RegistrationResult, points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.linalg.norm(_mapped(result.transform, case.fixed_landmarks) - points, axis=1)


def _mapped(transform: sitk.Transform, points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array([transform.TransformPoint(point) for point in points.tolist()])


def _dice(one: sitk.Image, other: sitk.Image) -> float:
    ours, theirs = (sitk.GetArrayViewFromImage(image) > 0 for image in (one, other))
    return float(2 * (ours & theirs).sum() / (ours.sum() + theirs.sum()))


def _write(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _save(path: Path, panels: Sequence[Panel], view: View) -> None:
    """Write panels in two columns, or in three if there are more than four."""
    columns = 2 if len(panels) <= 4 else 3
    rows = math.ceil(len(panels) / columns)
    _, extent = _slice(panels[0].image, view)
    panel_height = _PANEL_INCHES * extent[2] / extent[1] + _TITLE_INCHES
    figure, grid = plt.subplots(
        rows,
        columns,
        figsize=(_PANEL_INCHES * columns, panel_height * rows),
        facecolor="black",
        layout="constrained",
    )
    for axes in grid.flat:
        axes.axis("off")
    for axes, panel in zip(grid.flat, panels, strict=False):
        axes.axis("on")
        pixels, extent = _slice(panel.image, view)
        limits: dict[str, Any] = {"vmin": np.percentile(pixels, 1), "vmax": np.percentile(pixels, 99.5)}
        if panel.colours != "gray":
            limits = {"vmin": 0.0, "vmax": _LARGEST_ERROR_MM}
            pixels = np.ma.masked_invalid(pixels)
        axes.imshow(pixels, cmap=panel.colours, extent=extent, interpolation="bilinear", **limits)
        axes.set_facecolor("#606060")
        for mask, colour in panel.outlines:
            inside, extent = _slice(mask, view)
            if inside.any():
                axes.contour(inside, levels=[0.5], colors=colour, linewidths=0.9, extent=extent, origin="upper")
        axes.set_title(panel.title, color="white", fontsize=11)
        axes.set_xticks([])
        axes.set_yticks([])
    save_small(figure, path)


def _slice(image: sitk.Image, view: View) -> tuple[NDArray[Any], tuple[float, float, float, float]]:
    """Return the pixels of a plane, patient's right at the left, and its extent in mm (left, right, bottom, top)."""
    upright = sitk.DICOMOrient(image, "LPS")
    x, y, z = upright.TransformPhysicalPointToIndex(view.point.tolist())
    array, spacing = sitk.GetArrayFromImage(upright), upright.GetSpacing()
    if view.plane == "axial":
        pixels, across, down, column, row = array[z], spacing[0], spacing[1], x, y
    else:
        pixels, across, down, column, row = array[::-1, y], spacing[0], spacing[2], x, array.shape[0] - 1 - z
    if view.half_width is not None:
        reach_x, reach_y = round(view.half_width / across), round(view.half_width / down)
        left, top = max(0, column - reach_x), max(0, row - reach_y)
        pixels = pixels[top : row + reach_y + 1, left : column + reach_x + 1]
    height, width = pixels.shape
    return pixels, (0.0, width * across, height * down, 0.0)


if __name__ == "__main__":
    main()
