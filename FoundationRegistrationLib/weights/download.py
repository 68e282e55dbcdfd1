"""Fetching weights: resumed, cancellable, and under their name only when whole and as published."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from ..errors import RegistrationCancelledError, WeightsError
from ..files.bounded import plain_json, read_bounded
from ..runtime.progress import CancelledCallback, ProgressCallback, ProgressEvent
from . import store
from .catalogue import WeightsEntry, weights_entry
from .published import difference_from_published
from .recognition import what_else
from .store import ELSEWHERE
from .transport import CutOffError, NoAnswerError, asking

PATIENCE_SECONDS = 60.0
_ATTEMPTS = 5
_REPORTS = 200
_MEGABYTE = 1e6
# The catalogue's sizes are what servers were reported to announce; a file of unknown size is not one of the largest.
_SIZE_TOLERANCE = 1.1
_LARGEST_UNKNOWN = 3e9
# What is left free on a disk, for the system and everyone else on it.
_RESERVE_BYTES = 500e6


def download(
    name: str | WeightsEntry,
    folder: Path | None = None,
    progress: ProgressCallback | None = None,
    cancelled: CancelledCallback | None = None,
    patience_seconds: float = PATIENCE_SECONDS,
) -> Path:
    """Fetch the file of a catalogue entry, going on with an unfinished download.

    Another process that fetches the same file is waited for, and its result is taken.

    Args:
        name: of the entry, or the entry itself.
        folder: where to; the download folder if None.
        progress: called with the share that is done.
        cancelled: asked at every piece whether to stop; what has come is kept for the next time.
        patience_seconds: longest to wait for an answer, and for each piece of 64 KB.

    Returns:
        The file, whole and with the published checksum as far as there is one.

    Raises:
        WeightsError: unknown name, licence not accepted, only a person can fetch it, or the download failed.
        RegistrationCancelledError: `cancelled` said so.
    """
    entry = weights_entry(name)
    if not store.license_accepted(entry):
        raise WeightsError(store.consent_message(entry))
    target = (folder or store.download_folder()) / entry.filename
    present = store.locate(entry) if folder is None else target
    if present is not None and _is_right(present, entry):
        return present
    if entry.access != "open":
        raise WeightsError(_by_hand_message(entry, target.with_name(entry.name) / entry.filename))
    receiver = _Receiver(entry, target, progress, cancelled, patience_seconds)
    with store.exclusive(target, receiver.check_cancelled):
        if not _is_right(target, entry):  # another process may have fetched it meanwhile
            receiver.fetch()
    return target


def _is_right(path: Path, entry: WeightsEntry) -> bool:
    """Whether a file needs not be fetched: it may be one, and under the publisher's name it is the publisher's."""
    may_be = path.is_file() and what_else(path) is None
    return may_be and (path.name != entry.filename or difference_from_published(path, entry) is None)


def _by_hand_message(entry: WeightsEntry, target: Path) -> str:
    """Say in one line where a person gets the file and where to put it; the folder for it is made."""
    with store.exclusive(target):  # makes it
        pass
    if entry.access == "login":
        how = f"need the publisher's permission: ask for it at {entry.url}, then fetch '{entry.filename}'"
    else:
        how = f"can be fetched with a browser only: open {entry.url}"
    return f"The weights '{entry.name}' {how} and save it as '{target}' (or give the file with --weights)."


@dataclass
class _Receiver:
    """Receives a file under an unfinished name, with notes that let it go on, and moves it to its own when right."""

    entry: WeightsEntry
    target: Path
    progress: ProgressCallback | None
    cancelled: CancelledCallback | None
    patience_seconds: float
    reported: int = -1

    def __post_init__(self) -> None:
        self.unfinished, self.notes = store.unfinished_files(self.target)
        self.most = _SIZE_TOLERANCE * self.entry.size_bytes if self.entry.size_bytes else _LARGEST_UNKNOWN

    def fetch(self) -> None:
        """Receive the file, going on where a transfer breaks, and compare it with what is published."""
        if not any(self._receive() for _ in range(_ATTEMPTS)):
            self._refuse(f"the connection broke off {_ATTEMPTS} times; run it again to go on")
        what = what_else(self.unfinished)
        problem = f"it {what}" if what else difference_from_published(self.unfinished, self.entry)
        if problem is None:
            self.unfinished.replace(self.target)
        self._discard()
        if problem is not None:
            self._refuse(f"what {self.entry.url} sent is not the published file ({problem}); {ELSEWHERE}")

    def check_cancelled(self) -> None:
        """Raise RegistrationCancelledError if the user asked to stop."""
        if self.cancelled is not None and self.cancelled():
            msg = f"The download of '{self.entry.name}' was cancelled; run it again to go on where it stopped."
            raise RegistrationCancelledError(msg)

    def _receive(self) -> bool:
        """Ask for what is missing, and append it, or begin anew if it is another file now; tell whether all came."""
        validator, total = self._noted()
        done = self.unfinished.stat().st_size if validator and self.unfinished.is_file() else 0
        if done and done == total:
            return True
        headers = {"Accept-Encoding": "identity"}
        if done:
            headers |= {"Range": f"bytes={done}-", "If-Range": validator}
        self.check_cancelled()
        transfer = asking(self.entry.url, headers, self.patience_seconds, self.check_cancelled)
        try:
            with transfer as (status, sent, pieces):
                done, total = self._begin(status, sent, done, total)
                with self.unfinished.open("ab") as file:
                    for piece in pieces:
                        file.write(piece)
                        done += len(piece)
                        self._report(done, total)
                        if done > self.most:
                            break
        except CutOffError:
            return False
        except NoAnswerError as error:
            self._refuse(str(error))
        self._refuse_excess(done)
        return total is None or done == total

    def _begin(self, status: int, headers: Mapping[str, str], done: int, total: int | None) -> tuple[int, int | None]:
        """Return the bytes there are before the body of an answer, and those of the whole file, None if unsaid."""
        self._refuse_errors(status)
        missing = rf"206 bytes {done}-[0-9]+/({total or '[0-9]+'}|\*)"
        if status == 200:
            done = 0
        elif not done or not re.fullmatch(missing, f"{status} {headers.get('Content-Range')}"):
            self._discard()
            raise CutOffError
        encoding = headers.get("Content-Encoding", "").strip().lower()
        if encoding not in ("", "identity"):
            compressed = f"compressed ({encoding[:20]!r}), which was not asked for"
            self._refuse(f"{self.entry.url} sends it {compressed}; {ELSEWHERE}")
        length = headers.get("Content-Length")
        if length is not None and not re.fullmatch(r"[0-9]{1,15}", length):
            self._refuse(f"{self.entry.url} announces a length that cannot be; {ELSEWHERE}")
        total = None if length is None else done + int(length)
        self._refuse_excess(total or done)
        self._refuse_full_disk(int(length or 0))
        if not done:
            self._discard()
            tag = headers.get("ETag", "")  # a weak one does not tell whether the file is still the same
            validator = tag if tag.startswith('"') else headers.get("Last-Modified", "")
            self.notes.write_text(json.dumps([self.entry.url, validator, total]), encoding="utf-8")
        return done, total

    def _noted(self) -> tuple[str, int | None]:
        """The server's version of the unfinished file, empty if it cannot go on, and the length of the whole one."""
        try:
            url, validator, total = plain_json(read_bounded(self.notes, store.MOST_NOTED_BYTES))
        except (OSError, ValueError, TypeError):
            return "", None
        sound = url == self.entry.url and isinstance(validator, str) and (total is None or type(total) is int)
        return (validator, total) if sound else ("", None)

    def _discard(self) -> None:
        """Remove the unfinished file and the notes."""
        self.notes.unlink(missing_ok=True)
        self.unfinished.unlink(missing_ok=True)

    def _report(self, done: int, total: int | None) -> None:
        """Tell how many of how many bytes have come, and look at the disk, not too often."""
        self.check_cancelled()
        total = total or self.entry.size_bytes
        fraction = min(done / total, 1.0) if total else 0.0
        step = int(fraction * _REPORTS) if total else done
        if step == self.reported:
            return
        self.reported = step
        self._refuse_full_disk(0)
        if self.progress is not None:
            whole = f" of {total / _MEGABYTE:.0f}" if total else ""
            self.progress(ProgressEvent(f"{self.entry.name}: {done / _MEGABYTE:.0f}{whole} MB", fraction))

    def _refuse(self, why: str) -> NoReturn:
        msg = f"'{self.entry.name}' was not downloaded: {why}."
        raise WeightsError(msg) from None

    def _refuse_errors(self, status: int) -> None:
        """Raise what a status of failure means for the user."""
        url, host = self.entry.url, urlsplit(self.entry.url).hostname
        gone = f"{url} is not there any more ({status}); see {self.entry.license_url}, or {ELSEWHERE}"
        refused = f"{host} or a proxy on the way refuses access ({status}); ask who runs your network, or {ELSEWHERE}"
        known = {404: gone, 410: gone, 401: refused, 403: refused, 407: refused}
        if status >= 400 and status != 416:  # what came is no part of the file any more
            self._refuse(known.get(status, f"{host} cannot serve it now ({status}); try again later"))

    def _refuse_excess(self, size: int) -> None:
        """Refuse a file larger than the published one; a part of it is thrown away."""
        if size > self.most:
            self._discard()
            most = f"{self.most / _MEGABYTE:.1f} MB, which the published file cannot have"
            self._refuse(f"{self.entry.url} sends more than {most}; {ELSEWHERE}")

    def _refuse_full_disk(self, needed: int) -> None:
        free = shutil.disk_usage(self.target.parent).free
        if needed + _RESERVE_BYTES > free:
            room = f"{free / _MEGABYTE:.0f} MB are free and {_RESERVE_BYTES / _MEGABYTE:.0f} are to stay so"
            needs = f"it needs {needed / _MEGABYTE:.0f} MB more in '{self.target.parent}', where {room}"
            self._refuse(f"{needs}; free some space or choose another folder with --folder")
