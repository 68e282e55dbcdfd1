"""Results folders of cohorts: small real registrations, and made-up records of any number of pairs."""

import functools
import json
import random
import tempfile
from pathlib import Path

import SimpleITK as sitk

from FoundationRegistrationLib.cli.main import main
from FoundationRegistrationLib.cohort import figures

HOSTILE = "<img src=x onerror=alert(1)>"
QUICK = (
    *("--encoder", "mind", "--device", "cpu", "--working-spacing-mm", "8", "--iterations", "5"),
    *("--fluid-iterations", "0", "--progress", "none"),
)


@functools.cache
def phantom():
    """Folder of a coarse phantom pair, made once a session."""
    folder = Path(tempfile.mkdtemp(prefix="phantom-"))
    made = ("phantom", "longitudinal", "--output", str(folder), "--spacing-mm", "6", "--difficulty", "easy")
    assert main(made) == 0
    return folder


def register_pair(cohort, name, *options, moving=None):
    """Register the phantom pair into a folder of a cohort as its command does; returns the row of its table."""
    fixed, moving = phantom() / "fixed.nii.gz", moving or phantom() / "moving.nii.gz"
    folder = cohort / name
    assert main(("register", str(fixed), str(moving), "--output", str(folder), *QUICK, *options)) == 0
    record = {"name": name, "line": 2, "state": "done", "error": "", "key": "0", "seconds": 61.5, "columns": {}}
    write_record(folder, {**record, "fixed": str(fixed), "moving": str(moving)})
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return {"name": name, "state": "done", "folder": name, "seconds": 61.5, **figures.told_by(report)}


def failed_pair(cohort, name, error="'moving.nii.gz' is not an image; give another file."):
    """Write the folder of a pair whose registration ended with an error; returns the row of its table."""
    folder = cohort / name
    folder.mkdir(parents=True)
    write_record(folder, {"name": name, "line": 3, "state": "failed", "error": error, "fixed": "/a", "moving": "/b"})
    (folder / "log.txt").write_text(f"Reading the volumes.\n{error}\n", encoding="utf-8")
    return {"name": name, "state": "failed", "error": error, "folder": name}


def write_record(folder, content):
    (folder / "pair.json").write_text(json.dumps(content), encoding="utf-8")


def write_table(cohort, rows, further=()):
    """Write the table of a cohort; returns its folder."""
    cohort.mkdir(parents=True, exist_ok=True)
    figures.write_table(cohort / "pairs.csv", rows, further)
    return cohort


def labels_and_landmarks():
    """Options that measure the phantom pair."""
    kinds = {"labels": "labels.nii.gz", "landmarks": "landmarks.mrk.json"}
    options = [
        (f"--{side}-{k}", phantom() / f"{side}_{file}") for side in ("fixed", "moving") for k, file in kinds.items()
    ]
    return [str(word) for option in options for word in option]


def real_cohort(cohort):
    """Write a cohort of three pairs: measured, badly placed with a hostile name, and failed."""
    moving = sitk.ReadImage(str(phantom() / "moving.nii.gz"))
    moving.SetOrigin([p + d for p, d in zip(moving.GetOrigin(), (0.0, 30.0, 12.0), strict=True)])
    sitk.WriteImage(moving, str(phantom() / "shifted.nii.gz"))
    shifted = register_pair(cohort, "second", "--initialization", "none", moving=phantom() / "shifted.nii.gz")
    rows = [
        {**register_pair(cohort, "first", *labels_and_landmarks()), "site": "A & B"},
        {**shifted, "name": HOSTILE, "site": "Zürich"},
        {**failed_pair(cohort, "third"), "site": "=1+1"},
    ]
    return write_table(cohort, rows, ["site"])


def made_up_rows(count, seed=0):
    """Rows as of a large cohort: most pairs good, a few far off, failed or waiting."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        name = f"DUKE_{number:04d}"
        if number % 97 == 5:
            rows.append(
                {
                    "name": name,
                    "state": "failed",
                    "error": "The moving volume is empty; give another.",
                    "folder": name,
                }
            )
            continue
        if number % 60 == 7:
            rows.append({"name": name, "state": "waiting"})
            continue
        hard = draw.random() < 0.06
        expected = draw.lognormvariate(1.6 if hard else 0.4, 0.3)
        before, tre = draw.gauss(0.62, 0.08), draw.lognormvariate(2.3, 0.3)
        rows.append(
            {
                **{"name": name, "state": "done", "folder": name, "seconds": round(draw.gauss(95, 14), 2)},
                "verdict": ("failed" if expected > 6 else "check") if hard else "good",
                "reasons": "The expected error is large in the lower half of the left breast." if hard else "",
                "messages": "12 % of the patient lies outside the fixed volume." if number % 4 == 0 else "",
                "expected_error_mm": expected,
                "folded_percent": draw.expovariate(4) if hard else 0.0,
                "inverse_error_mm": draw.lognormvariate(-4, 0.4),
                "mean_dice_before": before,
                "mean_dice_after": min(0.99, before + draw.uniform(0.0, 0.2) + (0.0 if hard else 0.1)),
                "mean_hd95_mm_before": draw.gauss(14, 3),
                "mean_hd95_mm_after": draw.gauss(9 if hard else 5, 1),
                "tre_mm_before": tre,
                "tre_mm_after": tre * draw.uniform(0.5, 0.9) if hard else draw.lognormvariate(0.3, 0.3),
                "site": draw.choice(("Boston", "Duke", "Zürich")),
            }
        )
    return rows
