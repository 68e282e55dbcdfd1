"""How far is the panel's remaining time from the truth, on real runs of the engine?

    python Testing/benchmarks/time_to_go.py --task longitudinal --learn 100 101 --judge 102 103 --spacing-mm 3

Each phantom (as hard as patients) is registered as the panel does it: by the command, in a process of its own, whose
progress `TimeToGo` follows. The first runs are learnt from, in a history of their own. Of the later ones the table
says by how much the remaining time was wrong from the first quarter of the run to its last tenth, in per cent of what
it really was, and how far the time that is shown before a run was from what it took.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

_TESTING = Path(__file__).parents[1]
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
sys.path[:0] = [str(_TESTING), str(_TESTING / "stand_in"), str(_TESTING.parent / "FoundationRegistration")]

import SimpleITK as sitk  # noqa: E402

from FoundationRegistrationLib import Settings  # noqa: E402
from FoundationRegistrationLib.files.user_folders import CACHE_VARIABLE  # noqa: E402
from FoundationRegistrationLib.phantom import TASKS, make_phantom  # noqa: E402

_POLL_S = 0.1
_FIRST, _LAST = 0.25, 0.1  # of a run, from its start and before its end


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=TASKS, default="longitudinal")
    parser.add_argument("--learn", type=int, nargs="+", default=[100, 101], help="seeds")
    parser.add_argument("--judge", type=int, nargs="+", default=[102, 103], help="seeds")
    parser.add_argument("--spacing-mm", type=float, default=3.0)
    arguments = parser.parse_args()
    titles = ("pair", "took, s", "expected before, s", "median error, %", "largest error, %", "within 30 %, %")
    sys.stdout.write(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}\n")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ[CACHE_VARIABLE] = str(folder / "cache")
        _install(folder)
        from FoundationRegistrationPanel.wording.facts import expected_run, expected_steps

        for seed in (*arguments.learn, *arguments.judge):
            case = make_phantom(arguments.task, seed=seed, spacing_mm=arguments.spacing_mm)
            for side, volume in (("fixed", case.fixed), ("moving", case.moving)):
                sitk.WriteImage(volume, str(folder / f"{side}.nii.gz"))
            settings = Settings.from_preset(arguments.task, device="cpu")
            settings = settings.suited_to(case.fixed.GetSpacing(), case.moving.GetSpacing())
            expected = expected_run(settings, case.fixed.GetSize(), case.fixed.GetSpacing())
            said, took = followed(folder, arguments.task, expected_steps(expected))
            if seed not in arguments.judge:
                continue
            late = [
                abs(left / (took - now) - 1.0) * 100.0
                for now, left in said
                if left is not None and _FIRST * took < now < (1.0 - _LAST) * took
            ]
            within = 100.0 * sum(error <= 30.0 for error in late) / len(late)
            figures = (took, expected.seconds, statistics.median(late), max(late), within)
            sys.stdout.write(f"| {arguments.task} {seed} | {' | '.join(f'{figure:.0f}' for figure in figures)} |\n")
            sys.stdout.flush()


def followed(
    folder: Path, preset: str, expected: Mapping[str, float]
) -> tuple[list[tuple[float, float | None]], float]:
    """Register the volumes in a folder; return (seconds since start, seconds left as told), and the time taken."""
    from FoundationRegistrationBridge.process.worker import RegistrationWorker, engine_command

    inputs = ("register", folder / "fixed.nii.gz", folder / "moving.nii.gz", "--output", folder / "result")
    options = ("--overwrite", "--preset", preset, "--device", "cpu", "--progress", "json")
    worker = RegistrationWorker(engine_command([*inputs, *options], Path(sys.executable)), expected)
    began, said = time.monotonic(), []
    while worker.running():
        said += [(time.monotonic() - began, news.remaining_seconds) for news in worker.new_progress()]
        time.sleep(_POLL_S)
    if failure := worker.failure():
        raise RuntimeError(failure)
    return said, time.monotonic() - began


def _install(settings: Path) -> None:
    """Put the stand-in in the place of the application."""
    from PySide6.QtWidgets import QApplication

    QApplication.instance() or QApplication([])
    import application

    application.install(settings)


if __name__ == "__main__":
    main()
