"""The finished pairs of a BIDS dataset as a BIDS derivative: the same files by other names, and what they are."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ... import __version__
from ...errors import InputError
from ...files.bounded import object_in
from ...files.outputs import complete_or_absent, write_json
from ..names import FILES_FOLDER, PAIRS_FOLDER, PARTS_FOLDER, RATINGS, SUMMARY_FILES
from ..plan import Pair
from .dataset import DESCRIPTION, GENERATOR, MOST_BYTES, BidsDataset, is_ours
from .names import BidsName, file_name, without_ending

_IGNORED = ".bidsignore"
_BIDS_VERSION = "1.10.0"
_LINK = "raw"  # by which the derivative calls the dataset it was made of
_MARKS = ("_desc-registered_", "_mode-image_xfm.")  # in the names of all files made here


def check_output(dataset: BidsDataset, output: Path) -> None:
    """Refuse a folder that lies among the subjects of the dataset, or that holds another dataset.

    Raises:
        InputError: it does.
    """
    hint = f"choose another --output, such as '{dataset.root / 'derivatives' / 'foundation-registration'}'"
    root, place = dataset.root.resolve(), output.resolve()
    if place.is_relative_to(root) and place.relative_to(root).as_posix().startswith("sub-"):
        msg = f"--output is among the subjects of the dataset; {hint}."
        raise InputError(msg)
    if (output / DESCRIPTION).exists() and not is_ours(output):
        msg = f"'{output}' holds another BIDS dataset; {hint}."
        raise InputError(msg)


def write_derivative(dataset: BidsDataset, output: Path, pairs: Sequence[Pair], states: Mapping[str, str]) -> None:
    """Bring the derivative up to date: the files of finished pairs, none of others.

    The volumes and transforms are hard links to those in the folder of a pair, or copies where there are no links.

    Args:
        dataset: what the pairs are of.
        output: folder of the cohort.
        pairs: all pairs.
        states: of each pair by name; "done" is finished.

    Raises:
        OutputError: a file cannot be written.
    """
    _write_text(output / _IGNORED, "".join(f"{line}\n" for line in _ignored()))
    _write_text(output / "README.md", _readme(dataset))
    _write_json(output / DESCRIPTION, _description(dataset, output))
    for pair in pairs:
        place = pair.paths["moving"].relative_to(dataset.root).parent
        files = list(_files(dataset, pair)) if states[pair.name] == "done" else []
        _remove_others(output / place.parts[0], {stem for stem, _, _ in files})
        for stem, source, told in files:
            (output / place).mkdir(parents=True, exist_ok=True)
            _write_json(output / place / f"{stem}.json", told)
            _link(output / pair.folder / source, output / place / (stem + source[source.index(".") :]))


def _remove_others(subject: Path, stems: Collection[str]) -> None:
    """Remove from the folder of a subject what was made here under other names, and what a killed process left."""
    for path in subject.rglob("*"):
        ours = any(mark in path.name for mark in _MARKS) and not path.name.startswith(tuple(stems))
        if (ours or path.name.endswith(".part")) and path.is_file():
            path.unlink(missing_ok=True)


def _files(dataset: BidsDataset, pair: Pair) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield the name in the derivative without its ending, that in the folder of the pair, and what the file is."""
    moving = file_name(pair.paths["moving"].name)
    assert moving is not None
    uris = {
        side: f"bids:{_LINK}:{path.relative_to(dataset.root).as_posix()}"
        for side, path in pair.paths.items()
        if side in ("fixed", "moving")
    }
    made_of = {"Sources": [uris["moving"], uris["fixed"]]}
    labels = {"fixed": dataset.fixed.label, "moving": dataset.moving.label}
    entities = {key: value for key, value in moving.entities.items() if key not in ("space", "res", "den", "desc")}
    warped = BidsName({**entities, "space": labels["fixed"], "desc": "registered"}, moving.suffix)
    told = object_in(pair.paths["moving"].with_name(f"{without_ending(pair.paths['moving'].name)}.json"), MOST_BYTES)
    stripped = bool(told.get("SkullStripped", False))  # raw volumes do not say it
    words = "The moving volume registered to the fixed one, on its grid."
    yield (
        str(warped),
        "warped.nii.gz",
        {"Description": words, **made_of, "SpatialReference": uris["fixed"], "SkullStripped": stripped},
    )
    for source, start, end in (("transform.h5", "moving", "fixed"), ("inverse.h5", "fixed", "moving")):
        stem = f"{BidsName(entities, '')}from-{labels[start]}_to-{labels[end]}_mode-image_xfm"
        words = f"ITK transform that resamples the {start} volume onto the {end} one: {end} points to {start} points."
        yield stem, source, {"Description": words, **made_of, "SpatialReference": uris[end]}


def _ignored() -> Iterator[str]:
    """Yield what in the folder of the cohort is none of BIDS."""
    yield from (PAIRS_FOLDER, FILES_FOLDER, PARTS_FOLDER, *SUMMARY_FILES, RATINGS)
    yield "*_xfm.*"  # names of BIDS' proposal for transforms (BEP 14), which is no part of the standard yet


def _description(dataset: BidsDataset, output: Path) -> dict[str, Any]:
    # Relative where both move together.
    inside = output.resolve().is_relative_to(dataset.root.resolve())
    source = Path(os.path.relpath(dataset.root, output)).as_posix() if inside else dataset.root.as_uri()
    return {
        "Name": f"{dataset.moving} registered to {dataset.fixed}",
        "BIDSVersion": _BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": GENERATOR, "Version": __version__}],
        "SourceDatasets": [{"URL": source}],
        "DatasetLinks": {_LINK: source},
    }


def _readme(dataset: BidsDataset) -> str:
    return (
        f"# {dataset.moving} registered to {dataset.fixed}\n\n"
        f"Made by FoundationRegistration {__version__} (`foundation-registration cohort --bids`). `index.html`\n"
        "shows all pairs and which of them to trust, `pairs.csv` has their figures, `pairs/` all that\n"
        "a registration writes.\n"
        "For research, not a medical device.\n"
    )


def _write_text(path: Path, text: str) -> None:
    with contextlib.suppress(OSError):
        if path.read_bytes() == text.encode():
            return
    with complete_or_absent(path) as unfinished:
        unfinished.write_bytes(text.encode())


def _write_json(path: Path, content: dict[str, Any]) -> None:
    if object_in(path, MOST_BYTES) != json.loads(json.dumps(content)):
        write_json(path, content)


def _link(source: Path, path: Path) -> None:
    """Give a file a second name, unless it has it already."""
    known = source.stat()
    with contextlib.suppress(OSError):
        there = path.stat()
        if (there.st_size, there.st_mtime_ns) == (known.st_size, known.st_mtime_ns):
            return
    with complete_or_absent(path) as unfinished:
        try:
            os.link(source, unfinished)
        except OSError:  # another file system, or one without links
            shutil.copy2(source, unfinished)
