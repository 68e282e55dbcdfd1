"""One request to an untrusted server: always encrypted, undecoded, with time limits.

It runs in a thread, which is ended from outside if the server is too slow: no library ends a read in which a few
bytes arrive now and then, or headers without end.
"""

from __future__ import annotations

import ctypes
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .store import ELSEWHERE

if TYPE_CHECKING:
    import requests

_PIECE_BYTES = 2**16
_TIMEOUT_SECONDS = (10.0, 30.0)
_POLL_SECONDS = 1.0
_GRACE_SECONDS = 0.2
_WAITING_PIECES = 16
_MOST_REDIRECTS = 10


class NoAnswerError(Exception):
    """There is no response, or only a trickle; the message says why and what to do, without a full stop."""


class CutOffError(Exception):
    """The transfer ended early; it may be resumed."""


class _LeftError(BaseException):
    """Nobody waits for the answer any more. No library takes it for an error of its own."""


@contextmanager
def asking(
    url: str, headers: Mapping[str, str], patience_seconds: float, check: Callable[[], None]
) -> Iterator[tuple[int, Mapping[str, str], Iterator[bytes]]]:
    """Send a GET request; yield status and (case-insensitive) headers, and the undecoded body in pieces.

    Redirects are followed if they stay encrypted. An unencrypted address is only contacted if the caller names it and
    it is on this machine (127.0.0.1), never by a redirect.

    The response and each piece of 64 KB must arrive within `patience_seconds`. Meanwhile `check` is called
    repeatedly; it may raise to stop waiting.

    Raises:
        NoAnswerError: there is no response, or the body arrives too slowly.
        CutOffError: the body ends early.
    """
    items: queue.Queue[Any] = queue.Queue(_WAITING_PIECES)
    left = threading.Event()

    def exchange() -> None:
        with suppress(_LeftError), closing(_exchange(url, headers)) as answer:
            for item in answer:
                items.put(item)
                if left.is_set():
                    return

    thread = threading.Thread(target=exchange, daemon=True, name="download")
    thread.start()
    try:
        pieces = iter(lambda: _next(items, patience_seconds, check, urlsplit(url).hostname), None)
        yield *next(pieces), pieces
    finally:
        left.set()  # the thread ends after handing over one more item
        with suppress(queue.Empty):
            items.get_nowait()  # makes room for it
        thread.join(_GRACE_SECONDS)
        # A server could keep it busy for as long as the program runs.
        if thread.ident is not None and thread.is_alive():  # raised at its next step in Python
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(_LeftError))


def _next(items: queue.Queue[Any], patience_seconds: float, check: Callable[[], None], host: str | None) -> Any:
    """Return the next item, or raise it; NoAnswerError if it does not arrive in time."""
    end = time.monotonic() + patience_seconds
    while True:
        with suppress(queue.Empty):
            item = items.get(timeout=max(0.0, min(end - time.monotonic(), _POLL_SECONDS)))
            break
        check()
        if time.monotonic() >= end:
            item = NoAnswerError(f"{host} sends almost nothing; run it again later to resume, or {ELSEWHERE}")
            break
    if isinstance(item, Exception):
        raise item
    return item


def _exchange(url: str, headers: Mapping[str, str]) -> Generator[Any, None, None]:
    """Yield status and headers, the pieces of the body, then None; or an exception."""
    import requests
    import urllib3

    answered = False
    try:
        with requests.Session() as session, _response(session, url, headers) as response:
            yield response.status_code, response.headers
            answered = True
            while piece := response.raw.read(_PIECE_BYTES, decode_content=False):
                yield piece
            yield None
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:  # errors of requests are OSErrors
        yield CutOffError() if answered else NoAnswerError(_why(error, urlsplit(url).hostname))


def _response(session: requests.Session, url: str, headers: Mapping[str, str]) -> requests.Response:
    """Send the request, encrypted or to the named local server; bodies of redirects are not read."""
    from requests.adapters import HTTPAdapter

    session.adapters.clear()
    session.mount("https://", HTTPAdapter())
    parts = urlsplit(url)
    if parts.scheme == "http" and parts.hostname == "127.0.0.1":
        session.mount(f"http://{parts.netloc}/", HTTPAdapter())
    session.max_redirects = _MOST_REDIRECTS
    session.hooks["response"].append(lambda response, **_: response.close() if response.is_redirect else None)
    return session.get(url, headers=headers, stream=True, timeout=_TIMEOUT_SECONDS)


def _why(error: Exception, host: str | None) -> str:
    """Say why there is no response and what to do."""
    from requests import exceptions

    if isinstance(error, exceptions.SSLError):
        advice = f"set REQUESTS_CA_BUNDLE to the certificate file of your institution, or {ELSEWHERE}"
        return f"the certificate of {host} is not trusted, perhaps because of a proxy that inspects traffic; {advice}"
    if isinstance(error, exceptions.ProxyError):
        return f"the proxy blocks it; check HTTPS_PROXY, or {ELSEWHERE}"
    if isinstance(error, (exceptions.InvalidSchema, exceptions.TooManyRedirects)):
        return f"{host} redirects to an unencrypted address (not https), or endlessly; {ELSEWHERE}"
    if isinstance(error, exceptions.Timeout):
        return f"{host} does not answer; try again later, or {ELSEWHERE}"
    return f"{host} cannot be reached; check the network, or {ELSEWHERE}"
