"""The settings of one registration: names, defaults, limits and help texts.

The library, the command line, the Slicer panel and the run record use the same dataclass.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_type_hints

from ..errors import SettingsError
from ..files.bounded import shortened
from .checks import checked
from .presets import PRESETS

Initialization = Literal["none", "center", "moments", "rigid", "affine"]
LastStage = Literal["rigid", "affine", "deformable"]
Modality = Literal["auto", "mr", "ct", "pet"]
DeviceName = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]
Interpolation = Literal["linear", "bspline"]
# The encoder setting of a run that compares given structures and points only.
STRUCTURES_ONLY = "structures"
_LEAST_SPACING_MM = 0.1
_SLICE_GAP_MM = 6.0


def _setting(
    default: Any,
    text: str,
    minimum: float | None = None,
    maximum: float | None = None,
    odd: bool = False,
    also: tuple[str, str] | None = None,
) -> Any:
    """Declare a field with its help text, inclusive limits, and an example and a pattern of further values."""
    metadata = {"help": text, "minimum": minimum, "maximum": maximum, "odd": odd, "also": also}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Settings:
    """Parameters of one registration; immutable, validated on creation.

    Fields that end in ``_mm`` are in millimetres; grid spacings are in working voxels.

    Raises:
        SettingsError: a value is of the wrong type or outside its limits.
    """

    preset: str = _setting("default", "name of the preset these settings started from")
    encoder: str = _setting(
        "litemedsam",
        "feature encoder, see `foundation-registration encoders`; A+B sets detail_encoder to B as well; `structures` "
        "compares given structures and points only",
    )
    detail_encoder: str = _setting(
        "",
        "second encoder: refines the result of the first where that is reliable, and replaces it where the first "
        "fails; empty for none",
    )
    device: DeviceName = _setting(
        "auto",
        "compute device: cpu, mps, cuda, or one of several GPUs such as cuda:1; auto uses cuda if available, else "
        "cpu",
        also=("cuda:1", r"cuda:\d{1,3}"),
    )

    weights: str = _setting("", "file or folder of the encoder's weights; empty uses the download folder")
    input_size: int = _setting(0, "pixels along one side of the encoder's input; 0 uses its default", 0, 4096)
    precision: Precision = _setting("auto", "precision of the encoder; auto uses the fastest that is accurate enough")
    feature_cache_gb: float = _setting(4.0, "disk space for cached features, GB; 0 disables the cache", 0.0, 4096.0)

    fixed_modality: Modality = _setting("auto", "intensity normalisation of the fixed volume")
    moving_modality: Modality = _setting("auto", "intensity normalisation of the moving volume")
    initialization: Initialization = _setting(
        "affine", "initial alignment before the deformable stages; of a rigid or affine run, where its search starts"
    )
    stages: LastStage = _setting(
        "deformable", "last stage: rigid or affine for a linear transform without features, or deformable"
    )
    working_spacing_mm: float = _setting(
        0.0, "voxel edge of the isotropic working grid; 0 takes the voxel size of the coarser volume", 0.0, 20.0
    )
    memory_budget_gb: float = _setting(
        0.0, "memory limit of the registration, GB; 0 uses the free memory of the device", 0.0, 4096.0
    )

    slice_gap: int = _setting(
        0, "every k-th axial slice of the working grid is encoded; 0 encodes one about every 6 mm", 0, 64
    )
    components: int = _setting(0, "principal components kept; 0 uses the encoder's default", 0, 256)
    mind_radius: int = _setting(1, "patch radius of MIND-SSC, working voxels", 1, 5)
    mind_dilation: int = _setting(2, "distance between the patches of MIND-SSC, working voxels", 1, 5)

    grid_spacing: int = _setting(6, "spacing of the discrete search grid, working voxels", 1, 24)
    displacement_half_width: int = _setting(4, "search steps to either side of zero at each level", 1, 8)
    search_range_mm: float = _setting(
        0.0, "largest displacement of a coarse-to-fine search; 0 searches at one level", 0.0, 300.0
    )
    inverse_consistency_iterations: int = _setting(
        15, "iterations that make the forward and backward search consistent; 0 searches forward only", 0, 200
    )

    adam_grid_spacing: int = _setting(2, "spacing of the instance optimisation grid, working voxels", 1, 12)
    similarity: str = _setting("squared-difference", "similarity measure of the features; plugins may add others")
    regularization: float = _setting(1.25, "lambda, weight of the diffusion regulariser", 0.0, 1000.0)
    learning_rate: float = _setting(1.0, "step size of Adam, cells of its grid", 1e-4, 100.0)
    iterations: int = _setting(80, "maximum number of Adam iterations; 0 for none", 0, 10000)
    adam_levels: int = _setting(
        3,
        "resolution levels of Adam, each twice as coarse as the next; with more than one, coarser levels use at "
        "most half the iterations each, the finest a quarter, with step sizes that decay to zero",
        1,
        4,
    )
    smoothing_kernel: int = _setting(3, "width of the box filter applied at each Adam step", 1, 15, odd=True)
    smoothing_repeats: int = _setting(3, "number of box filter passes at each Adam step", 0, 10)
    convergence_tolerance: float = _setting(
        0.002, "Adam stops when ten iterations lower the energy by less than this fraction; 0 disables this", 0.0, 0.5
    )

    fluid_iterations: int = _setting(
        60, "most steps of the refinement by local correlation, at each level; 0 for none", 0, 10000
    )
    fluid_smoothing: float = _setting(
        3.0, "smoothness of these steps: standard deviation of their kernel, working voxels", 0.5, 20.0
    )
    field_smoothing: float = _setting(
        1.0, "standard deviation of the Gaussian that smooths the field after each of these steps", 0.0, 20.0
    )
    compressibility: float = _setting(
        1.0,
        "how far tissue may change its volume: 0 keeps it, as soft tissue does; 1 is free, as between two people",
        0.0,
        1.0,
    )
    motion_floor: float = _setting(
        0.0,
        "root mean square displacement that noise alone may cause, working voxels: what is no larger is taken back",
        0.0,
        10.0,
    )

    structure_weight: float = _setting(
        50.0, "weight of given structures beside the features, whose total variance is 1", 0.0, 1000.0
    )
    points_weight: float = _setting(
        10.0,
        "weight of given points: the cost of one cell that a point is off, beside that of the features",
        0.0,
        1e4,
    )

    interpolation: Interpolation = _setting("linear", "interpolation of the moving intensities")

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        if isinstance(self.encoder, str) and "+" in self.encoder:
            lead, _, detail = self.encoder.partition("+")
            object.__setattr__(self, "encoder", lead.strip())
            object.__setattr__(self, "detail_encoder", detail.strip())
        if self.detail_encoder == self.encoder:  # an encoder does not refine itself
            object.__setattr__(self, "detail_encoder", "")
        if (self.stages, self.initialization) == ("rigid", "affine"):  # the default, which does not suit a rigid run
            object.__setattr__(self, "initialization", "rigid")
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, checked(field, hints[field.name], getattr(self, field.name)))
        if 0.0 < self.working_spacing_mm < _LEAST_SPACING_MM:
            msg = (
                f"working_spacing_mm is {self.working_spacing_mm:g}; it must be at least {_LEAST_SPACING_MM:g}, "
                "or 0 for the voxel size of the volumes."
            )
            raise SettingsError(msg)
        if self.grid_spacing % self.adam_grid_spacing:
            msg = (
                f"grid_spacing ({self.grid_spacing}) must be a multiple of "
                f"adam_grid_spacing ({self.adam_grid_spacing})."
            )
            raise SettingsError(msg)

    @property
    def is_linear(self) -> bool:
        """Whether the result is a linear transform."""
        return self.stages != "deformable"

    @property
    def compares_intensities(self) -> bool:
        """Whether the volumes are compared, not given structures and points alone."""
        return self.encoder != STRUCTURES_ONLY

    @property
    def encoders(self) -> tuple[str, ...]:
        """The names of the encoders in use: the main one and any detail encoder.

        There is none if the result is linear, or if only structures and points are compared.
        """
        if self.is_linear or not self.compares_intensities:
            return ()
        return (self.encoder, self.detail_encoder) if self.detail_encoder else (self.encoder,)

    def suited_to(self, *spacings: Sequence[float]) -> Settings:
        """Return the settings with the spacing of the working grid and the slice gap filled in where they are 0.

        Args:
            spacings: voxel edges of each volume, mm.
        """
        coarser = max(math.prod(spacing) ** (1 / 3) for spacing in spacings)
        most = next(
            each.metadata["maximum"] for each in dataclasses.fields(self) if each.name == "working_spacing_mm"
        )
        edge = self.working_spacing_mm or min(max(round(coarser, 2), _LEAST_SPACING_MM), most)
        gap = self.slice_gap or max(1, round(_SLICE_GAP_MM / edge))
        return dataclasses.replace(self, working_spacing_mm=edge, slice_gap=gap)

    @classmethod
    def from_preset(cls, preset: str = "default", **overrides: Any) -> Settings:
        """Return a preset's settings with overrides.

        Args:
            preset: one of `PRESETS`.
            overrides: settings by name that replace those of the preset.

        Raises:
            SettingsError: unknown preset, unknown setting, or a value out of range.
        """
        if not isinstance(preset, str) or preset not in PRESETS:
            msg = f"Unknown preset {shortened(preset)}; choose one of: {', '.join(PRESETS)}."
            raise SettingsError(msg)
        return cls.from_dict({**PRESETS[preset].values, **overrides, "preset": preset})

    @classmethod
    def or_preset(cls, given: Settings | None, preset: str) -> Settings:
        """Return the settings that a caller gave, those of a preset for None.

        Args:
            given: settings or None.
            preset: one of `PRESETS`.

        Raises:
            SettingsError: something else was given.
        """
        if given is not None and not isinstance(given, cls):
            msg = (
                f"The settings are a {type(given).__name__}; make them with Settings.from_preset('longitudinal') or "
                "Settings.from_dict({...})."
            )
            raise SettingsError(msg)
        return cls.from_preset(preset) if given is None else given

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Settings:
        """Return settings from a mapping, with defaults for the rest.

        Args:
            values: settings by name, as `to_dict` returns them.

        Raises:
            SettingsError: unknown setting, a value out of range, or values that contradict each other.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(str(name) for name in set(values) - known)
        if unknown:
            msg = f"Unknown setting {shortened(unknown[0])}; known settings: {', '.join(sorted(known))}."
            raise SettingsError(msg)
        if (values.get("stages"), values.get("initialization")) == ("rigid", "affine"):
            msg = "stages is rigid, but initialization is affine, which scales and shears; leave out one of them."
            raise SettingsError(msg)
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Return all settings as a plain dictionary, fit for JSON and for `from_dict`."""
        return dataclasses.asdict(self)
