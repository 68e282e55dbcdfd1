"""One request to a server that may do anything: encrypted all the way, bytes as they are sent, never waited for long.

It runs in a thread of its own, which is left behind when the server says too little: no library ends a read on
which a few bytes arrive now and then.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .store import ELSEWHERE

if TYPE_CHECKING:
    import requests

_PIECE_BYTES = 2**16
_TIMEOUT_SECONDS = (10.0, 30.0)
_POLL_SECONDS = 1.0
_WAITING_PIECES = 16
_MOST_REDIRECTS = 10


class NoAnswerError(Exception):
    """There is no answer, or next to none; the message says why and what to do, without a full stop."""


class CutOffError(Exception):
    """The transfer ended early; it may go on from where it stopped."""


@contextmanager
def asking(
    url: str, headers: Mapping[str, str], patience_seconds: float, check: Callable[[], None]
) -> Iterator[tuple[int, Mapping[str, str], Iterator[bytes]]]:
    """Send a GET request; give status and headers (by their names in any case), and the body in pieces, not decoded.

    Redirects are followed where they stay encrypted. An address that is not encrypted is asked only if the caller
    names it itself and it is on this machine (127.0.0.1), never because a server says so.

    The answer, and each piece of 64 KB, is waited for no longer than `patience_seconds`. Meanwhile `check` is called
    again and again; it may raise to end the waiting.

    Raises:
        NoAnswerError: there is no answer, or the body comes too slowly.
        CutOffError: the body ends early.
    """
    items: queue.Queue[Any] = queue.Queue(_WAITING_PIECES)
    left = threading.Event()

    def exchange() -> None:
        for item in _exchange(url, headers):
            items.put(item)
            if left.is_set():
                return

    threading.Thread(target=exchange, daemon=True, name="download").start()
    try:
        pieces = iter(lambda: _next(items, patience_seconds, check, urlsplit(url).hostname), None)
        yield *next(pieces), pieces
    finally:
        left.set()  # the thread ends when it has handed over one item more
        with suppress(queue.Empty):
            items.get_nowait()  # for which there is room now


def _next(items: queue.Queue[Any], patience_seconds: float, check: Callable[[], None], host: str | None) -> Any:
    """Return the next item, or raise it; NoAnswerError if it does not come in time."""
    end = time.monotonic() + patience_seconds
    while True:
        with suppress(queue.Empty):
            item = items.get(timeout=max(0.0, min(end - time.monotonic(), _POLL_SECONDS)))
            break
        check()
        if time.monotonic() >= end:
            item = NoAnswerError(f"{host} sends next to nothing; run it again later to go on, or {ELSEWHERE}")
            break
    if isinstance(item, Exception):
        raise item
    return item


def _exchange(url: str, headers: Mapping[str, str]) -> Iterator[Any]:
    """Give status and headers, the pieces of the body, and None behind them; an exception for what does not come."""
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
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:  # those of requests are OSErrors
        yield CutOffError() if answered else NoAnswerError(_why(error, urlsplit(url).hostname))


def _response(session: requests.Session, url: str, headers: Mapping[str, str]) -> requests.Response:
    """Ask, encrypted or the one server named on this machine; no body of a redirect is read, however long."""
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
    """Say why there is no answer and what to do."""
    from requests import exceptions

    if isinstance(error, exceptions.SSLError):
        advice = f"name the certificate file of your institution in REQUESTS_CA_BUNDLE, or {ELSEWHERE}"
        return f"the certificate of {host} is not trusted, as behind a proxy that inspects traffic; {advice}"
    if isinstance(error, exceptions.ProxyError):
        return f"the proxy does not let it through; check HTTPS_PROXY, or {ELSEWHERE}"
    if isinstance(error, (exceptions.InvalidSchema, exceptions.TooManyRedirects)):
        return f"{host} sends on to another address that is not encrypted (https), or on and on; {ELSEWHERE}"
    if isinstance(error, exceptions.Timeout):
        return f"{host} does not answer; try again later, or {ELSEWHERE}"
    return f"{host} cannot be reached; check the network, or {ELSEWHERE}"
