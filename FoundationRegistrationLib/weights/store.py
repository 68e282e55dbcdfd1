"""Locations of weight files on this machine, and accepted licences. Does not import torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import WeightsError
from ..files.bounded import plain_json, read_bounded
from ..files.home_folder import expanded
from ..files.user_folders import CACHE_VARIABLE, cache_root
from .catalogue import WeightsEntry, weights_entry

WEIGHTS_VARIABLE = "FOUNDATION_REGISTRATION_WEIGHTS"
ELSEWHERE = (
    f"get the file on another machine and give it with --weights, or put it in the folder named by {WEIGHTS_VARIABLE}"
)
_LISTED = 8
_LOCK_SECONDS = 0.2
MOST_NOTED_BYTES = 100_000
_is_file = os.path.isfile  # unlike `Path.is_file`, also False in an inaccessible folder


def download_folder() -> Path:
    """Return the download folder: in $FOUNDATION_REGISTRATION_CACHE if that is set, else in the user's cache folder.

    Raises:
        WeightsError: it is not set, and the user has no home folder.
    """
    root = cache_root()
    if root is None:
        msg = (
            f"Weights are kept in the home folder, but you have none; set the environment variable {CACHE_VARIABLE} "
            "to a full path."
        )
        raise WeightsError(msg)
    return root / "weights"


def locate(name: str | WeightsEntry, given: str = "", beside: bool = False) -> Path | None:
    """Return the file of a catalogue entry, None if it is not found.

    Search order: the given path, the folder $FOUNDATION_REGISTRATION_WEIGHTS, the download folder. A folder may hold
    the file itself, or a subfolder with the entry's name that holds it.

    Args:
        name: of the entry, or the entry itself.
        given: the user's setting: a file, a folder, or empty.
        beside: the given file belongs to another entry (weights that come in two files): only its folder is searched.

    Raises:
        WeightsError: unknown name, or the file is not at the given path.
    """
    entry = weights_entry(name)
    path = (expanded(given) or Path(given)) if given else None  # without a home folder it is reported as missing
    folders = _searched()
    if path is not None and beside and _is_file(path):
        folders.insert(0, path.parent)
    elif path is not None:
        return path if _is_file(path) else _given_folder(path, entry)
    return next(filter(None, (_inside(folder, entry, entry.filename) for folder in folders)), None)


def missing_weights(names: Sequence[str], given: str = "") -> list[str]:
    """Return those catalogue entries of an encoder that are not on this machine.

    Args:
        names: of all its entries; the setting `weights` gives the file of the last one.
        given: the setting `weights`: a file, a folder, or empty.
    """

    def is_missing(name: str) -> bool:
        try:
            return locate(name, given, beside=name != names[-1]) is None
        except WeightsError:
            return True

    return [name for name in names if is_missing(name)]


def missing_message(entry: WeightsEntry) -> str:
    """Say in one line where the file was searched for and how to get it."""
    places = " and ".join(f"'{folder}'" for folder in _searched()) or "any folder: you have no home folder"
    return (
        f"The weights '{entry.name}' are not on this machine (no '{entry.filename}' in {places}); get them with: "
        f"foundation-registration weights download {entry.name} - or give the file with --weights."
    )


def remove(name: str | WeightsEntry) -> list[Path]:
    """Delete and return the downloaded files of an entry, finished or not; never files elsewhere.

    Raises:
        WeightsError: unknown name, or a file cannot be deleted.
    """
    entry = weights_entry(name)
    folder = download_folder()
    files = [_inside(folder, entry, entry.filename), *unfinished_files(folder / entry.filename)]
    removed = [path for path in files if path is not None and path.exists()]
    for path in removed:
        try:
            path.unlink()
        except OSError as error:
            msg = (
                f"'{path}' cannot be deleted ({error.strerror or error}); close the program that uses it and try "
                "again."
            )
            raise WeightsError(msg) from error
    return removed


def unfinished_files(target: Path) -> tuple[Path, Path]:
    """Return the paths of an unfinished download and of its notes for resuming."""
    return target.with_name(f"{target.name}.part"), target.with_name(f"{target.name}.part.json")


def license_accepted(name: str | WeightsEntry) -> bool:
    """Whether the weights may be used: their licence needs no consent, or consent was given on this machine."""
    entry = weights_entry(name)
    return not entry.needs_consent or entry.license_url in _accepted()


def accept_license(name: str | WeightsEntry) -> None:
    """Record the user's consent to the licence of an entry (and of all under the same licence).

    Raises:
        WeightsError: unknown name.
        OutputError: the record cannot be written.
    """
    from ..files.outputs import write_json

    entry = weights_entry(name)
    if license_accepted(entry):
        return
    with exclusive(_consent_file()):
        write_json(_consent_file(), {"accepted": sorted(_accepted() | {entry.license_url})})


def consent_message(entry: WeightsEntry) -> str:
    """Say in one line that the licence restricts use and how to accept it."""
    return (
        f"'{entry.name}' is under the {entry.license} ({entry.license_url}), which restricts its use; read it and, "
        f"if you accept it, run once: foundation-registration weights download {entry.name} --accept-license"
    )


@contextmanager
def exclusive(path: Path, check: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Keep other processes out of the block for this path; the lock is released when the process ends.

    Args:
        path: the file that is written in the block; its folder is created.
        check: called repeatedly while another process is in the block; may raise to stop waiting.

    Raises:
        WeightsError: the folder cannot be written.
    """
    import filelock

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path.with_name(f".{path.name}.lock"))
        while not lock.is_locked:
            check()
            with suppress(filelock.Timeout):
                lock.acquire(timeout=_LOCK_SECONDS, poll_interval=_LOCK_SECONDS / 2)
        try:
            yield
        finally:
            lock.release()
    except OSError as error:
        msg = (
            f"'{path.parent}' cannot be written ({error.strerror or error}); free some space, or choose another "
            f"folder with the environment variable {CACHE_VARIABLE}."
        )
        raise WeightsError(msg) from error


def _searched() -> list[Path]:
    variable = os.environ.get(WEIGHTS_VARIABLE)
    folders = [folder] if variable and (folder := expanded(variable)) else []
    with suppress(WeightsError):  # no home folder
        folders.append(download_folder())
    return folders


def _inside(folder: Path, entry: WeightsEntry, *names: str) -> Path | None:
    """The file of an entry in a folder, or in its subfolder with the entry's name."""
    candidates = [folder / name for name in names]
    candidates += [folder / entry.name / name for name in (entry.filename, *entry.other_filenames)]
    return next((path for path in candidates if _is_file(path)), None)


def _given_folder(folder: Path, entry: WeightsEntry) -> Path:
    found = _inside(folder, entry, entry.filename, *entry.other_filenames)
    if found is not None:
        return found
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        what = f"cannot be found ({error.strerror or error})"
    else:
        more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
        holds = ", ".join(names[:_LISTED]) or "nothing"
        what = f"holds no '{entry.filename}' for '{entry.name}' (it holds: {holds}{more})"
    msg = f"The path given for the weights, '{folder}', {what}; give the file '{entry.filename}' or its folder."
    raise WeightsError(msg)


def _consent_file() -> Path:
    return download_folder() / "licenses.json"


def _accepted() -> set[str]:
    try:
        accepted = plain_json(read_bounded(_consent_file(), MOST_NOTED_BYTES))["accepted"]
        return {address for address in accepted if isinstance(address, str)}
    except (OSError, ValueError, LookupError, TypeError, WeightsError):
        return set()
