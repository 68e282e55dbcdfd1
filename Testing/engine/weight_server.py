"""A real HTTP server on this machine that serves one weight file, well or badly."""

import http.server
import re
import threading
from contextlib import contextmanager


class WeightServer(http.server.ThreadingHTTPServer):
    """Serves `content` at any path; the attributes say how well.

    Attributes:
        content: bytes of the file.
        etag, last_modified: validators, None for none.
        ranges: whether parts are served.
        cuts: bytes after which successive answers break off; None in it, or past its end, lets an answer end well.
        status: what is answered instead of the file, if not None.
        gate_at: after this many bytes an answer waits for `gate`; `reached` tells that it does.
        requests: the headers of the requests that came.
        bytes_sent: of all answers together.
    """

    daemon_threads = True

    def __init__(self, content):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content = content
        self.etag = '"first"'
        self.last_modified = None
        self.ranges = True
        self.cuts = []
        self.status = None
        self.gate_at = None
        self.gate = threading.Event()
        self.reached = threading.Event()
        self.requests = []
        self.bytes_sent = 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/sent.pth"

    def handle_error(self, request, client_address):
        """A client that goes away is what some tests are about."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server
        cut = server.cuts[len(server.requests)] if len(server.requests) < len(server.cuts) else None
        server.requests.append(dict(self.headers))
        if server.status is not None:
            self.send_error(server.status)
            return
        begin = self._begin()
        body = server.content[begin:]
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(server.content) - 1}/{len(server.content)}")
        self.send_header("Content-Length", str(len(body)))
        for name, value in (("ETag", server.etag), ("Last-Modified", server.last_modified)):
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        sent = body if cut is None else body[:cut]
        stop = len(sent) if server.gate_at is None else server.gate_at
        self._send(sent[:stop])
        if server.gate_at is not None:
            server.reached.set()
            server.gate.wait()
            self._send(sent[stop:])
        self.close_connection = cut is not None

    def _send(self, piece):
        self.server.bytes_sent += len(piece)  # before the client can have them
        self.wfile.write(piece)
        self.wfile.flush()

    def _begin(self):
        """The first byte asked for; the first of all if the client says it has a part of another version."""
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        version = self.headers.get("If-Range") or None
        same = version in (None, self.server.etag, self.server.last_modified) and not str(version).startswith("W/")
        return int(match.group(1)) if match and same and self.server.ranges else 0

    def log_message(self, *arguments):
        """The output belongs to the tests."""


@contextmanager
def serving(content):
    """Run a server for the block."""
    server = WeightServer(content)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.gate.set()
        server.shutdown()
        server.server_close()
        thread.join()
