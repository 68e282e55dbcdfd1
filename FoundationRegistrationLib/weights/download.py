"""Fetching weights: resumed, cancellable, and under their name only when whole and as published."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..errors import RegistrationCancelledError, WeightsError
from ..files.bounded import plain_json, read_bounded
from ..runtime.progress import CancelledCallback, ProgressCallback, ProgressEvent
from .catalogue import WeightsEntry, weights_entry
from .published import difference_from_published
from .recognition import what_else
from .store import (
    WEIGHTS_VARIABLE,
    consent_message,
    download_folder,
    exclusive,
    license_accepted,
    locate,
    partial_facts,
    partial_file,
    unwritable_message,
)

if TYPE_CHECKING:
    import requests

    from .transport import Answer

PATIENCE_SECONDS = 60.0
_ATTEMPTS = 5
_REPORTS = 200
_MEGABYTE = 1e6
_MOST_NOTED_BYTES = 10_000
# The catalogue's sizes are what servers were reported to announce; a file of unknown size is not one of the largest.
_SIZE_TOLERANCE = 1.1
_LARGEST_UNKNOWN = 3e9
# What is left free on a disk, for the system and everyone else on it.
_RESERVE_BYTES = 500e6
_PIECES_BETWEEN_LOOKS = 64
_ELSEWHERE = f"get the file on another machine and give it with --weights or by the folder in {WEIGHTS_VARIABLE}"


class _CutOffError(Exception):
    """The transfer ended early; it may go on from where it stopped."""


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
    if not license_accepted(entry):
        raise WeightsError(consent_message(entry))
    target = (folder or download_folder()) / entry.filename
    present = locate(entry) if folder is None else target
    if present is not None and _is_right(present, entry):
        return present
    if entry.access != "open":
        raise WeightsError(_by_hand_message(entry, target.parent))
    meter = _Meter(entry, progress, cancelled)
    with exclusive(target, meter.check_cancelled):
        if not _is_right(target, entry):  # another process may have fetched it meanwhile
            _fetch(entry, target, meter, patience_seconds)
    return target


def _by_hand_message(entry: WeightsEntry, folder: Path) -> str:
    """Say in one line where a person gets the file and where to put it; the folder for it is made."""
    target = folder / entry.name / entry.filename
    with _writing(folder):
        target.parent.mkdir(parents=True, exist_ok=True)
    if entry.gated:
        how = f"need the publisher's permission: ask for it at {entry.url}, then fetch '{entry.filename}'"
    else:
        how = f"can be fetched with a browser only: open {entry.url}"
    return f"The weights '{entry.name}' {how} and save it as '{target}' (or give the file with --weights)."


def _fetch(entry: WeightsEntry, target: Path, meter: _Meter, patience_seconds: float) -> None:
    """Receive the file under its partial name, check it, move it to its own."""
    partial = _Partial(partial_file(target), partial_facts(target))
    for _ in range(_ATTEMPTS):
        try:
            _receive(entry, partial, meter, patience_seconds)
            break
        except _CutOffError:
            continue
    else:
        msg = (
            f"The download of '{entry.name}' broke off {_ATTEMPTS} times ({partial.size() / _MEGABYTE:.0f} MB came); "
            "run it again to go on."
        )
        raise WeightsError(msg)
    with _writing(target.parent):
        what = what_else(partial.path)
        problem = f"it {what}" if what else difference_from_published(partial.path, entry)
        if problem is not None:
            partial.discard()
            msg = f"What {entry.url} sent for '{entry.name}' is not the published file ({problem}); {_ELSEWHERE}."
            raise WeightsError(msg)
        partial.path.replace(target)
        partial.discard()


def _is_right(path: Path, entry: WeightsEntry) -> bool:
    """Whether a file needs not be fetched: it may be one, and under the publisher's name it is the publisher's."""
    if not path.is_file() or what_else(path) is not None:
        return False
    return path.name != entry.filename or difference_from_published(path, entry) is None


def _receive(entry: WeightsEntry, partial: _Partial, meter: _Meter, patience_seconds: float) -> None:
    """Append what is missing to the partial file, or begin it anew if the server's file is not the same any more.

    Raises:
        _CutOffError: only a part came.
        WeightsError: the server refuses, sends something else or next to nothing, or the file cannot be written.
    """
    import requests

    from .transport import BrokenError, SlowError, Transfer

    facts = partial.facts(entry.url)
    offset = partial.size() if facts is not None else 0
    if facts is not None and offset == facts.total:
        return
    headers = {"Accept-Encoding": "identity"}
    if facts is not None and offset:
        headers |= {"Range": f"bytes={offset}-", "If-Range": facts.validator}
    meter.check_cancelled()
    try:
        with Transfer(entry.url, headers, patience_seconds, meter.check_cancelled) as transfer:
            answer = transfer.answer()
            _refuse_errors(entry, answer.status)
            total = _store(entry, answer, transfer.pieces(), facts, partial, meter)
    except requests.RequestException as error:
        raise WeightsError(_unreachable_message(entry, error)) from error
    except SlowError as error:
        msg = (
            f"'{entry.name}' was not downloaded: {urlsplit(entry.url).hostname} sends next to nothing; run it again "
            f"later to go on, or {_ELSEWHERE}."
        )
        raise WeightsError(msg) from error
    except BrokenError as error:
        raise _CutOffError from error
    if total is not None and partial.size() != total:  # urllib3 before version 2 does not notice
        raise _CutOffError


def _store(
    entry: WeightsEntry,
    answer: Answer,
    pieces: Iterator[bytes],
    facts: _Facts | None,
    partial: _Partial,
    meter: _Meter,
) -> int | None:
    """Write the body of an answer: a missing end behind what has come, a whole file from the beginning.

    Returns:
        The length the whole file should have, None if the server does not say.
    """
    done = partial.size()
    whole = answer.status == HTTPStatus.OK
    goes_on = answer.status == HTTPStatus.PARTIAL_CONTENT and _goes_on(answer.headers, done, facts)
    folder = partial.path.parent
    with _writing(folder):
        if not (whole or goes_on):  # not the range that was asked for
            partial.discard()
            raise _CutOffError
        if whole:
            done = 0
        _refuse_encoding(entry, answer.headers)
        length = _length(entry, answer.headers)
        total = None if length is None else done + length
        _refuse_excess(entry, total or done, partial)
        _refuse_full_disk(entry, folder, length or 0)
        if whole:
            partial.start(_Facts(entry.url, _validator(answer.headers), total))
        with partial.path.open("ab") as file:
            for number, piece in enumerate(pieces, start=1):
                file.write(piece)
                done += len(piece)
                meter.report(done, total)
                _refuse_excess(entry, done, partial)
                if number % _PIECES_BETWEEN_LOOKS == 0:
                    _refuse_full_disk(entry, folder, 0)
    return total


def _goes_on(headers: Mapping[str, str], done: int, facts: _Facts | None) -> bool:
    """Whether a part begins where what has come ends, and is of a file of the same length."""
    match = re.fullmatch(r"bytes ([0-9]{1,15})-[0-9]{1,15}/([0-9]{1,15}|\*)", headers.get("Content-Range", ""))
    if match is None or facts is None or int(match[1]) != done:
        return False
    return facts.total is None or match[2] in ("*", str(facts.total))


def _length(entry: WeightsEntry, headers: Mapping[str, str]) -> int | None:
    """Return how many bytes an answer announces, None if it does not say."""
    text = headers.get("Content-Length")
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,15}", text):
        msg = f"'{entry.name}' was not downloaded: {entry.url} announces a length that cannot be; {_ELSEWHERE}."
        raise WeightsError(msg)
    return int(text)


def _refuse_encoding(entry: WeightsEntry, headers: Mapping[str, str]) -> None:
    encoding = headers.get("Content-Encoding", "").strip().lower()
    if encoding not in ("", "identity"):
        msg = (
            f"'{entry.name}' was not downloaded: {entry.url} sends it compressed ({encoding[:20]!r}), which was not "
            f"asked for; {_ELSEWHERE}."
        )
        raise WeightsError(msg)


def _refuse_excess(entry: WeightsEntry, size: int, partial: _Partial) -> None:
    """Refuse a file larger than the published one; a part of it is thrown away."""
    most = _SIZE_TOLERANCE * entry.size_bytes if entry.size_bytes else _LARGEST_UNKNOWN
    if size > most:
        partial.discard()
        msg = (
            f"'{entry.name}' was not downloaded: {entry.url} sends more than {most / _MEGABYTE:.1f} MB, which the "
            f"published file cannot have; {_ELSEWHERE}."
        )
        raise WeightsError(msg)


def _validator(headers: Mapping[str, str]) -> str:
    """What tells later whether the server's file is still the same; a weak entity tag does not."""
    tag = headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified", "")


def _refuse_errors(entry: WeightsEntry, status: int) -> None:
    """Raise what a status of failure means for the user."""
    if status < HTTPStatus.BAD_REQUEST or status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        return
    host = urlsplit(entry.url).hostname
    if status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
        what = f"{entry.url} is not there any more ({status}); see {entry.license_url}, or {_ELSEWHERE}"
    elif status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.PROXY_AUTHENTICATION_REQUIRED):
        what = f"{host} or a proxy on the way refuses access ({status}); ask who runs your network, or {_ELSEWHERE}"
    else:
        what = f"{host} cannot serve it now ({status}); try again later"
    msg = f"'{entry.name}' was not downloaded: {what}."
    raise WeightsError(msg)


def _unreachable_message(entry: WeightsEntry, error: requests.RequestException) -> str:
    import requests

    host = urlsplit(entry.url).hostname
    if isinstance(error, requests.exceptions.SSLError):
        what = (
            f"the certificate of {host} is not trusted, as behind a proxy that inspects traffic; name the "
            f"certificate file of your institution in REQUESTS_CA_BUNDLE, or {_ELSEWHERE}"
        )
    elif isinstance(error, requests.exceptions.ProxyError):
        what = f"the proxy does not let it through; check HTTPS_PROXY, or {_ELSEWHERE}"
    elif isinstance(error, (requests.exceptions.InvalidSchema, requests.TooManyRedirects)):
        what = f"{host} sends on to another address that is not encrypted (https), or on and on; {_ELSEWHERE}"
    elif isinstance(error, requests.Timeout):
        what = f"{host} does not answer; try again later, or {_ELSEWHERE}"
    else:
        what = f"{host} cannot be reached; check the network, or {_ELSEWHERE}"
    return f"'{entry.name}' was not downloaded: {what}."


def _refuse_full_disk(entry: WeightsEntry, folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed + _RESERVE_BYTES > free:
        msg = (
            f"'{entry.name}' needs {needed / _MEGABYTE:.0f} MB more in '{folder}', where {free / _MEGABYTE:.0f} MB "
            f"are free and {_RESERVE_BYTES / _MEGABYTE:.0f} are to stay so; free some space or choose another folder "
            "with --folder."
        )
        raise WeightsError(msg)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Turn the system's errors about files into one that says what to do."""
    try:
        yield
    except OSError as error:
        raise WeightsError(unwritable_message(folder, error)) from error


@dataclass(frozen=True)
class _Facts:
    """Of which file the partial one is: its address, its version on the server, its length."""

    url: str
    validator: str
    total: int | None


class _Partial:
    """An unfinished download and the facts that let it go on."""

    def __init__(self, path: Path, facts_path: Path) -> None:
        self.path = path
        self._facts_path = facts_path

    def size(self) -> int:
        """Return how many bytes have come."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def facts(self, url: str) -> _Facts | None:
        """Return what is known of the unfinished file; None if it cannot go on."""
        try:
            noted: Any = plain_json(read_bounded(self._facts_path, _MOST_NOTED_BYTES))
            facts = _Facts(noted["url"], noted["validator"], noted["total"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        sound = isinstance(facts.validator, str) and (facts.total is None or type(facts.total) is int)
        return facts if sound and facts.url == url and facts.validator else None

    def start(self, facts: _Facts) -> None:
        """Begin anew, with nothing come yet."""
        self.discard()
        self._facts_path.write_text(json.dumps(vars(facts)), encoding="utf-8")

    def discard(self) -> None:
        """Remove the file and the facts."""
        self._facts_path.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)


class _Meter:
    """Reports the bytes that have come, not too often, and ends the download if the user wants that."""

    def __init__(
        self, entry: WeightsEntry, progress: ProgressCallback | None, cancelled: CancelledCallback | None
    ) -> None:
        self._entry = entry
        self._progress = progress
        self._cancelled = cancelled
        self._reported = -1

    def check_cancelled(self) -> None:
        """Raise RegistrationCancelledError if the user asked to stop."""
        if self._cancelled is not None and self._cancelled():
            msg = f"The download of '{self._entry.name}' was cancelled; run it again to go on where it stopped."
            raise RegistrationCancelledError(msg)

    def report(self, done: int, total: int | None) -> None:
        """Tell how many of how many bytes have come."""
        self.check_cancelled()
        total = total or self._entry.size_bytes
        fraction = min(done / total, 1.0) if total else 0.0
        step = int(fraction * _REPORTS)
        if self._progress is None or (step == self._reported and total):
            return
        self._reported = step
        whole = f" of {total / _MEGABYTE:.0f}" if total else ""
        self._progress(ProgressEvent(f"{self._entry.name}: {done / _MEGABYTE:.0f}{whole} MB", fraction))
