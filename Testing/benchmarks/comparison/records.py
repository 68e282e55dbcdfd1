"""One JSON file for each case and method: written whole, read back for tables, never made twice."""

from __future__ import annotations

import datetime
import json
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from FoundationRegistrationLib.files.outputs import write_json

from .case import CaseSource
from .methods import Method

DONE, FAILED, NOT_AVAILABLE = "done", "failed", "not available"
Record = dict[str, Any]


def record_path(folder: Path, case: str, method: str) -> Path:
    """Return where the record of a case and a method is kept."""
    return folder / f"{case}__{method}.json"


def is_there(path: Path) -> bool:
    """Return whether a run need not be made again: it is done, or it failed; what could not run may be tried anew."""
    return path.is_file() and json.loads(path.read_text(encoding="utf-8"))["status"] != NOT_AVAILABLE


def write_record(path: Path, source: CaseSource, method: Method, peers: Path, status: str, **content: Any) -> None:
    """Write one record, with what it takes to know later how it was made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = {
        "case": source.name,
        "group": source.group,
        "method": method.name,
        "label": method.label,
        "status": status,
    }
    write_json(path, {**head, **content, "made": _now(), "versions": _versions(method, peers), "machine": _machine()})


def read_records(folder: Path) -> list[Record]:
    """Return all records of a folder, by name."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*__*.json"))]


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def _versions(method: Method, peers: Path) -> dict[str, str]:
    versions = {"python": platform.python_version(), "commit": _commit()}
    for package in method.packages:
        versions[package] = _version(package, [peers, peers / method.needs])
    return versions


def _version(package: str, folders: list[Path]) -> str:
    found = metadata.Distribution.discover(name=package, path=[*sys.path, *map(str, folders)])
    return next((distribution.version for distribution in found), "not installed")


def _commit() -> str:
    """Return this project's commit, with a plus if files differ from it; empty outside git."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty=+", "--exclude=*"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip()


def _machine() -> dict[str, Any]:
    return {
        "platform": platform.platform(),
        "cores": psutil.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
    }
