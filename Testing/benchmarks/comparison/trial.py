"""A method on a case as a pair of a cohort: its row in the table, how it is run, and what is kept of it."""

from __future__ import annotations

import datetime
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from statistics import fmean
from typing import Any

import SimpleITK as sitk

from FoundationRegistrationLib.cohort.names import REPORT
from FoundationRegistrationLib.cohort.plan import Pair
from FoundationRegistrationLib.errors import FoundationRegistrationError
from FoundationRegistrationLib.files.outputs import staged_folder, write_json

from .case import Case
from .measure import measure
from .methods import Method, chosen_methods
from .runner import Limits, run_method
from .start import starting_affine

COLUMNS = ("case", "group", "method", "label")


@dataclass(frozen=True)
class Trial(Pair):
    """A pair that one method registers.

    Attributes:
        peers: where other programs are installed.
        limits: of a run.
    """

    peers: Path = Path()
    limits: Limits = Limits()

    @property
    def columns(self) -> dict[str, str]:
        """Case, group, method and its label."""
        return {name: self.copied[name] for name in COLUMNS}

    @property
    def needed(self) -> tuple[str, ...]:
        """Names of the files in its folder without which it is not done."""
        return ("transform.h5", "warped.nii.gz", REPORT)

    def commands(self, folder: Path) -> list[list[str]]:
        """Return the command line, of the benchmark's worker, that makes its folder."""
        return [[f"--case={self.copied['case']}", f"--method={self.copied['method']}", f"--output={folder}"]]

    def deciding(self) -> dict[str, Any]:
        """Return what determines its result, versions of the method's packages included, as plain values."""
        method = chosen_methods([self.copied["method"]])[0]
        limits = {"seconds": self.limits.seconds, "threads": self.limits.threads}
        return {**super().deciding(), **self.columns, **limits, "packages": _packages(method, self.peers)}


def run_trial(
    case: Case, start: Path, method: Method, folder: Path, peers: Path, limits: Limits, cancelled: Callable[[], bool]
) -> None:
    """Run a method on a case, and write its transform, the warped volume and a report with all that was measured.

    Args:
        case: the pair and its truth.
        start: file of the starting affine, written if need be.
        method: what to run.
        folder: for the results, which appear all or not at all.
        peers: where other programs are installed.
        limits: of the run.
        cancelled: checked often; the run ends when it returns True.

    Raises:
        RegistrationCancelledError: it did.
        FoundationRegistrationError: it failed, or gave what cannot be measured.
    """
    affine = starting_affine(case, start)
    outcome = run_method(method, case, affine, peers, limits, cancelled)
    if outcome.transform is None:
        raise FoundationRegistrationError(outcome.reason)
    try:
        measured = measure(case, affine, outcome.transform)
    except (FoundationRegistrationError, RuntimeError) as error:
        msg = f"its transform cannot be measured: {error}"
        raise FoundationRegistrationError(msg) from error
    trial = {
        **measured,
        "seconds": outcome.seconds,
        "cpu_seconds": outcome.cpu_seconds,
        "peak_memory_mb": outcome.peak_memory_bytes / 1e6,
        "threads": limits.threads,
        "facts": case.facts,
        "figures": outcome.figures,
        "made": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version(), "commit": _commit(), **_packages(method, peers)},
    }
    with staged_folder(folder) as staging:
        sitk.WriteTransform(outcome.transform, str(staging / "transform.h5"))
        warped = sitk.Resample(case.moving, case.fixed, outcome.transform, sitk.sitkLinear, 0.0, sitk.sitkFloat32)
        sitk.WriteImage(warped, str(staging / "warped.nii.gz"))
        write_json(staging / REPORT, {"messages": outcome.messages, **_for_the_cohort(measured), "trial": trial})


def _for_the_cohort(measured: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was measured under the names of a report of ours, means over the structures, for `compare`."""
    labels = {
        name: fmean(measured[measure].values())
        for name, measure in (("mean_dice_after", "dice"), ("mean_hausdorff95_mm_after", "hausdorff95_mm"))
        if measured[measure]
    }
    landmarks = {"tre_mm_after": measured["tre_mm"]} if "tre_mm" in measured else {}
    return {
        "evaluation": {"labels": labels, "landmarks": landmarks},
        "metrics": {"jacobian": measured["jacobian"]},
    }


def _packages(method: Method, peers: Path) -> dict[str, str]:
    folders = [*sys.path, str(peers), str(peers / method.needs)]
    found = {package: metadata.Distribution.discover(name=package, path=folders) for package in method.packages}
    return {
        package: next((each.version for each in distributions), "not installed")
        for package, distributions in found.items()
    }


def _commit() -> str:
    """Return this project's commit, with a plus if files differ from it; empty outside git."""
    command = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return done.stdout.strip()
