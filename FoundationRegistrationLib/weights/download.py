"""Downloading weights: resumable, cancellable, and named only when complete and as published."""

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
# Catalogue sizes are as reported for the servers; files of unknown size are not among the largest.
_SIZE_TOLERANCE = 1.1
_LARGEST_UNKNOWN = 3e9
# Disk space left free for the system and others.
_RESERVE_BYTES = 500e6


def download(
    name: str | WeightsEntry,
    folder: Path | None = None,
    progress: ProgressCallback | None = None,
    cancelled: CancelledCallback | None = None,
    patience_seconds: float = PATIENCE_SECONDS,
) -> Path:
    """Download the file of a catalogue entry, resuming an unfinished download.

    If another process is downloading the same file, wait for it and use its result.

    Args:
        name: of the entry, or the entry itself.
        folder: target folder; the download folder if None.
        progress: called with the completed fraction.
        cancelled: checked at every piece; received data are kept for the next time.
        patience_seconds: longest wait for a response, and for each piece of 64 KB.

    Returns:
        The file, complete and with the published checksum if there is one.

    Raises:
        WeightsError: unknown name, licence not accepted, only available with a browser, or the download failed.
        RegistrationCancelledError: `cancelled` returned True.
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
        if not _is_right(target, entry):  # another process may have downloaded it meanwhile
            receiver.fetch()
    return target


def _is_right(path: Path, entry: WeightsEntry) -> bool:
    """Whether a file need not be downloaded: it is a weight file, and as published if it has the publisher's name."""
    may_be = path.is_file() and what_else(path) is None
    return may_be and (path.name != entry.filename or difference_from_published(path, entry) is None)


def _by_hand_message(entry: WeightsEntry, target: Path) -> str:
    """Say in one line where to get the file and where to put it; creates that folder."""
    with store.exclusive(target):  # creates the folder
        pass
    if entry.access == "login":
        how = f"need the publisher's permission: request it at {entry.url}, then download '{entry.filename}'"
    else:
        how = f"can only be downloaded with a browser: open {entry.url}"
    return f"The weights '{entry.name}' {how} and save it as '{target}' (or give the file with --weights)."


@dataclass
class _Receiver:
    """Receives a file under a temporary name, with notes for resuming, and renames it when it is verified."""

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
        """Receive the file, resuming broken transfers, and compare it with the published checksum."""
        if not any(self._receive() for _ in range(_ATTEMPTS)):
            self._refuse(f"the connection was lost {_ATTEMPTS} times; run it again to resume")
        what = what_else(self.unfinished)
        problem = f"it {what}" if what else difference_from_published(self.unfinished, self.entry)
        if problem is None:
            self.unfinished.replace(self.target)
        self._discard()
        if problem is not None:
            self._refuse(f"what {self.entry.url} sent is not the published file ({problem}); {ELSEWHERE}")

    def check_cancelled(self) -> None:
        """Raise RegistrationCancelledError if the user cancelled."""
        if self.cancelled is not None and self.cancelled():
            msg = f"The download of '{self.entry.name}' was cancelled; run it again to resume."
            raise RegistrationCancelledError(msg)

    def _receive(self) -> bool:
        """Request and append the missing part, or start over if the file changed; return whether it is complete."""
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
        """Return the bytes before the body of a response, and those of the whole file, None if not stated."""
        self._refuse_errors(status)
        missing = rf"206 bytes {done}-[0-9]+/({total or '[0-9]+'}|\*)"
        if status == 200:
            done = 0
        elif not done or not re.fullmatch(missing, f"{status} {headers.get('Content-Range')}"):
            self._discard()
            raise CutOffError
        encoding = headers.get("Content-Encoding", "").strip().lower()
        if encoding not in ("", "identity"):
            compressed = f"compressed ({encoding[:20]!r}), which was not requested"
            self._refuse(f"{self.entry.url} sends it {compressed}; {ELSEWHERE}")
        length = headers.get("Content-Length")
        if length is not None and not re.fullmatch(r"[0-9]{1,15}", length):
            self._refuse(f"{self.entry.url} announces an impossible length; {ELSEWHERE}")
        total = None if length is None else done + int(length)
        self._refuse_excess(total or done)
        self._refuse_full_disk(int(length or 0))
        if not done:
            self._discard()
            tag = headers.get("ETag", "")  # a weak one does not guarantee that the file is the same
            validator = tag if tag.startswith('"') else headers.get("Last-Modified", "")
            self.notes.write_text(json.dumps([self.entry.url, validator, total]), encoding="utf-8")
        return done, total

    def _noted(self) -> tuple[str, int | None]:
        """The server's version of the unfinished file, empty if it cannot be resumed, and the total length."""
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
        """Report the received bytes and check the free disk space, at intervals."""
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
        """Raise the error for an HTTP status."""
        url, host = self.entry.url, urlsplit(self.entry.url).hostname
        gone = f"{url} no longer exists ({status}); see {self.entry.license_url}, or {ELSEWHERE}"
        refused = f"{host} or a proxy refuses access ({status}); ask your network administrator, or {ELSEWHERE}"
        known = {404: gone, 410: gone, 401: refused, 403: refused, 407: refused}
        if status >= 400 and status != 416:  # the received part is no longer valid
            self._refuse(known.get(status, f"{host} cannot serve it now ({status}); try again later"))

    def _refuse_excess(self, size: int) -> None:
        """Refuse a file larger than the published one, and delete the received part."""
        if size > self.most:
            self._discard()
            most = f"{self.most / _MEGABYTE:.1f} MB, more than the published file can have"
            self._refuse(f"{self.entry.url} sends more than {most}; {ELSEWHERE}")

    def _refuse_full_disk(self, needed: int) -> None:
        free = shutil.disk_usage(self.target.parent).free
        if needed + _RESERVE_BYTES > free:
            room = f"{free / _MEGABYTE:.0f} MB are free and {_RESERVE_BYTES / _MEGABYTE:.0f} are reserved"
            needs = f"it needs {needed / _MEGABYTE:.0f} MB more in '{self.target.parent}', where {room}"
            self._refuse(f"{needs}; free some space or choose another folder with --folder")
