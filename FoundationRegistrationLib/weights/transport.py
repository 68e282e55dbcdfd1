"""One request to a server that may do anything: encrypted all the way, bytes as they are sent, never waited for long.

It runs in a thread of its own, which is left behind when the server says too little: no library ends a read on
which a few bytes arrive now and then.
"""

from __future__ import annotations

import http.client
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

PIECE_BYTES = 2**16
_TIMEOUT_SECONDS = (10.0, 30.0)
_POLL_SECONDS = 1.0
_WAITING_PIECES = 16
_MOST_REDIRECTS = 10
_REDIRECTS = (301, 302, 303, 307, 308)
_FAILURES = (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError)


class SlowError(Exception):
    """The server sends too little in the time it is given."""


class BrokenError(Exception):
    """The body ended early."""


@dataclass(frozen=True)
class Answer:
    """The status and the headers, by their names in any case, of the last server that was asked."""

    status: int
    headers: Mapping[str, str]


class Transfer:
    """The answer to one GET request, and its body piece by piece, not decoded in any way.

    Redirects are followed where they stay encrypted. An address that is not encrypted is asked only if the caller
    names it itself and it is on this machine (127.0.0.1), never because a server says so.

    Args:
        url: what to get.
        headers: of the request.
        patience_seconds: longest to wait for the answer, and for each piece of 64 KB.
        check: called again and again while waiting; may raise to end it.
    """

    def __init__(
        self, url: str, headers: Mapping[str, str], patience_seconds: float, check: Callable[[], None]
    ) -> None:
        self._url = url
        self._headers = headers
        self._patience = patience_seconds
        self._check = check
        self._left = threading.Event()
        self._items: queue.Queue[Any] = queue.Queue(_WAITING_PIECES)

    def __enter__(self) -> Transfer:
        """Begin to ask."""
        threading.Thread(target=self._run, daemon=True, name="download").start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Let the thread end when the server has said its next word."""
        self._left.set()

    def answer(self) -> Answer:
        """Return the answer.

        Raises:
            requests.RequestException: there is none.
            SlowError: it does not come.
        """
        item = self._next()
        if isinstance(item, requests.RequestException):
            raise item
        if isinstance(item, Exception):
            raise requests.ConnectionError from item
        return item

    def pieces(self) -> Iterator[bytes]:
        """Give the body behind the answer.

        Raises:
            BrokenError: it ends early.
            SlowError: it comes too slowly.
        """
        while (item := self._next()) is not None:
            if isinstance(item, Exception):
                raise BrokenError from item
            yield item

    def _next(self) -> Any:
        begun = time.monotonic()
        while True:
            left = self._patience - (time.monotonic() - begun)
            try:
                return self._items.get(timeout=max(0.0, min(left, _POLL_SECONDS)))
            except queue.Empty:
                self._check()
                if left <= 0:
                    raise SlowError from None

    def _run(self) -> None:
        try:
            for item in self._exchange():
                if not self._hand_over(item):
                    return
            self._hand_over(None)
        except _FAILURES as error:
            self._hand_over(error)

    def _hand_over(self, item: Any) -> bool:
        """Give an item to the caller; tell whether it is still there."""
        while not self._left.is_set():
            try:
                self._items.put(item, timeout=_POLL_SECONDS)
            except queue.Full:
                continue
            return True
        return False

    def _exchange(self) -> Iterator[Any]:
        with _session(self._url) as session, _last_response(session, self._url, self._headers) as response:
            yield Answer(response.status_code, response.headers)
            while piece := response.raw.read(PIECE_BYTES, decode_content=False):
                yield piece


class _Session(requests.Session):
    """Follows no redirect by itself: it would read the body of each, however long."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        return None


def _session(url: str) -> requests.Session:
    """Return a session that can speak encrypted only, or also with the one server named, if it is on this machine."""
    session = _Session()
    session.adapters.clear()
    session.mount("https://", requests.adapters.HTTPAdapter())
    parts = urlsplit(url)
    if parts.scheme == "http" and parts.hostname == "127.0.0.1":
        session.mount(f"http://{parts.netloc}/", requests.adapters.HTTPAdapter())
    return session


def _last_response(session: requests.Session, url: str, headers: Mapping[str, str]) -> requests.Response:
    """Ask, and ask on where a server says so."""
    for _ in range(_MOST_REDIRECTS):
        response = session.get(url, headers=headers, stream=True, timeout=_TIMEOUT_SECONDS)
        target = response.headers.get("Location") if response.status_code in _REDIRECTS else None
        if target is None:
            return response
        response.close()
        url = urljoin(url, target)
    raise requests.TooManyRedirects
