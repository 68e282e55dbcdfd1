"""Downloads: whole and as published or not at all, going on where they stopped, whatever server and network do."""

import hashlib
import io
import json
import os
import signal
import socket
import subprocess
import sys

import pytest
import torch
from weight_server import serving

from FoundationRegistrationLib.errors import RegistrationCancelledError, WeightsError
from FoundationRegistrationLib.weights import WeightsEntry, accept_license, download, license_accepted, locate, remove

IN_A_PROCESS = """
import json, sys
from FoundationRegistrationLib.weights import WeightsEntry, download
entry = WeightsEntry(**json.loads(sys.argv[1]))
print("ready", flush=True)
print(download(entry, progress=lambda event: print(event.step, flush=True)), flush=True)
"""


@pytest.fixture(autouse=True)
def downloads(tmp_path, monkeypatch):
    """The download folder of the test."""
    monkeypatch.setenv("FOUNDATION_REGISTRATION_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FOUNDATION_REGISTRATION_WEIGHTS", raising=False)
    return tmp_path / "cache" / "weights"


def checkpoint(seed=0):
    """The bytes of a checkpoint of 0.8 MB."""
    file = io.BytesIO()
    torch.save({"weight": torch.randn(200_000, generator=torch.Generator().manual_seed(seed))}, file)
    return file.getvalue()


CONTENT = checkpoint()


@pytest.fixture
def server():
    with serving(CONTENT) as running:
        yield running


def facts(server, **changes):
    return {
        "name": "test-net",
        "title": "A test network",
        "filename": "test_net.pth",
        "url": server.url,
        "license": "MIT",
        "license_url": "https://example.org/license",
        "citation": "nobody",
        **changes,
    }


def entry(server, **changes):
    return WeightsEntry(**facts(server, **changes))


def left_over(folder):
    """What lies in the download folder, apart from the lock."""
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def stop_after(pieces):
    """A function that says "stop" when asked for the given time."""
    answers = iter([False] * pieces)
    return lambda: next(answers, True)


def start(server, **changes):
    """Download in a process of its own; return it when it is about to begin."""
    process = subprocess.Popen(
        [sys.executable, "-c", IN_A_PROCESS, json.dumps(facts(server, **changes))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_file_comes_whole_with_rising_progress_and_is_not_fetched_twice(server, downloads):
    events = []
    path = download(entry(server), progress=events.append)
    assert path == downloads / "test_net.pth"
    assert path.read_bytes() == CONTENT
    assert left_over(downloads) == ["test_net.pth"]
    fractions = [event.fraction for event in events]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert all("test-net" in event.step for event in events)
    assert download(entry(server)) == path
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("etag", "last_modified"),
    [('"first"', None), (None, "Wed, 01 Oct 2025 10:00:00 GMT"), ('W/"weak"', "Wed, 01 Oct 2025 10:00:00 GMT")],
)
def test_a_broken_connection_is_taken_up_where_it_broke(server, etag, last_modified):
    server.etag, server.last_modified = etag, last_modified
    server.cuts = [300_000, 200_000]
    assert download(entry(server)).read_bytes() == CONTENT
    assert len(server.requests) == 3
    assert "Range" in server.requests[1]
    assert server.bytes_sent < 1.2 * len(CONTENT)


@pytest.mark.parametrize("missing", ["ranges", "validators"])
def test_where_a_server_cannot_go_on_the_download_begins_anew(server, missing):
    if missing == "ranges":
        server.ranges = False
    else:
        server.etag = None
    server.cuts = [300_000]
    assert download(entry(server)).read_bytes() == CONTENT
    assert server.bytes_sent >= len(CONTENT) + 200_000


def test_parts_of_two_versions_of_a_file_are_never_joined(server):
    with pytest.raises(RegistrationCancelledError):
        download(entry(server), cancelled=stop_after(5))
    server.content, server.etag = checkpoint(seed=1), '"second"'
    assert download(entry(server)).read_bytes() == server.content
    assert "If-Range" in server.requests[-1]


def test_a_connection_that_always_breaks_is_given_up_and_what_came_is_kept(server, downloads):
    server.cuts = [100_000] * 5
    with pytest.raises(WeightsError, match="run it again to resume"):
        download(entry(server))
    assert locate(entry(server)) is None
    assert download(entry(server)).read_bytes() == CONTENT
    assert server.bytes_sent < 1.5 * len(CONTENT)
    assert left_over(downloads) == ["test_net.pth"]


def test_what_came_whole_but_was_not_moved_is_not_fetched_again(server, downloads):
    with pytest.raises(RegistrationCancelledError):
        download(entry(server), cancelled=stop_after(5))
    (downloads / "test_net.pth.part").write_bytes(CONTENT)
    before = len(server.requests)
    assert download(entry(server)).read_bytes() == CONTENT
    assert len(server.requests) == before
    assert left_over(downloads) == ["test_net.pth"]


def test_a_cancelled_download_leaves_no_file_and_goes_on_later(server, downloads):
    with pytest.raises(RegistrationCancelledError, match="run it again"):
        download(entry(server), cancelled=stop_after(5))
    assert locate(entry(server)) is None
    assert "test_net.pth" not in left_over(downloads)
    assert download(entry(server)).read_bytes() == CONTENT
    assert "Range" in server.requests[-1]


def test_the_published_checksum_is_compared_as_far_as_it_goes(server, downloads):
    for algorithm, digits in (("md5", 6), ("sha256", 8), ("sha256", 64)):
        published = hashlib.new(algorithm, CONTENT).hexdigest()[:digits]
        path = download(entry(server, checksum=f"{algorithm}:{published}"))
        assert path.read_bytes() == CONTENT
        path.unlink()
    with pytest.raises(WeightsError, match="not the published file"):
        download(entry(server, checksum="md5:000000"))
    assert left_over(downloads) == []


def test_a_damaged_file_is_replaced_by_a_download(server, downloads):
    published = entry(server, checksum=f"sha256:{hashlib.sha256(CONTENT).hexdigest()}")
    path = download(published)
    path.write_bytes(CONTENT[:-1] + b"x")
    assert download(published).read_bytes() == CONTENT
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("sent", "named"),
    [
        (b"<!DOCTYPE html><html><head><title>Quota exceeded</title></head></html>", "web page.*Quota exceeded"),
        (b'{"error": "not found"}', "JSON.*not found"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n", "Git LFS pointer"),
        (CONTENT[:-1000], "truncated"),
        (b"", "empty"),
    ],
)
def test_what_is_sent_instead_of_weights_is_named_and_thrown_away(server, downloads, sent, named):
    server.content = sent
    with pytest.raises(WeightsError, match=named):
        download(entry(server))
    assert left_over(downloads) == []


@pytest.mark.parametrize(
    ("status", "advice"), [(404, "no longer exists"), (403, "refuses access"), (407, "refuses"), (503, "try again")]
)
def test_refusals_of_the_server_are_explained_in_one_line(server, downloads, status, advice):
    server.status = status
    with pytest.raises(WeightsError, match=advice) as caught:
        download(entry(server))
    assert str(status) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert left_over(downloads) == []


def test_without_a_network_the_way_for_offline_machines_is_told(server):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}/file.pth"
        with pytest.raises(WeightsError, match=r"cannot be reached.*--weights"):
            download(entry(server, url=address))


def test_a_server_one_cannot_trust_is_explained(server):
    with pytest.raises(WeightsError, match="REQUESTS_CA_BUNDLE"):
        download(entry(server, url=server.url.replace("http:", "https:")))


def test_a_folder_that_cannot_be_written_is_named(server, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(WeightsError, match=r"file' cannot be written.*choose another folder"):
        download(entry(server), folder=tmp_path / "file")


@pytest.mark.skipif(sys.platform == "win32", reason="file sizes are limited by other means there")
def test_a_disk_that_runs_full_is_explained_and_nothing_half_is_left_under_the_name(server, downloads):
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))" + IN_A_PROCESS
    run = subprocess.run(
        [sys.executable, "-c", limited, json.dumps(facts(server))], capture_output=True, text=True, check=False
    )
    assert "WeightsError" in run.stderr
    assert "free some space" in run.stderr
    assert "test_net.pth" not in left_over(downloads)


def test_another_folder_can_be_chosen(server, tmp_path, downloads):
    assert download(entry(server), folder=tmp_path / "usb stick") == tmp_path / "usb stick" / "test_net.pth"
    assert not downloads.exists()


def test_two_processes_fetch_a_file_once_and_both_get_it_whole(server, downloads):
    server.gate_at = 300_000
    processes = [start(server), start(server)]
    assert server.reached.wait(30)
    server.gate.set()
    answers = [process.communicate(timeout=60) for process in processes]
    assert [out.splitlines()[-1:] for out, _ in answers] == [[str(downloads / "test_net.pth")]] * 2, answers
    assert (downloads / "test_net.pth").read_bytes() == CONTENT
    assert len(server.requests) == 1


def test_a_killed_process_leaves_a_part_that_another_completes(server, downloads):
    server.gate_at = 500_000
    process = start(server)
    assert server.reached.wait(30)
    assert process.stdout.readline().startswith("test-net: "), "something has come"
    process.kill()
    process.communicate(timeout=30)
    assert locate(entry(server)) is None
    server.gate_at = None
    assert download(entry(server)).read_bytes() == CONTENT
    assert "Range" in server.requests[-1]


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_download_even_if_the_server_is_silent(server, downloads, number):
    program = """
import argparse, json, sys
from FoundationRegistrationLib.errors import RegistrationCancelledError
from FoundationRegistrationLib.runtime.interruption import Interruption
from FoundationRegistrationLib.weights import WeightsEntry
from FoundationRegistrationLib.cli.weights import add_weights_arguments, weights_command
parser = argparse.ArgumentParser()
add_weights_arguments(parser)
entry = WeightsEntry(**json.loads(sys.argv[1]))
with Interruption() as interruption:
    arguments = parser.parse_args(["download", entry.name])
    try:
        weights_command(arguments, lambda event: None, interruption, {entry.name: entry})
    except RegistrationCancelledError:
        sys.exit(128 + interruption.signal_number)
"""
    server.gate_at = 100_000
    process = subprocess.Popen([sys.executable, "-c", program, json.dumps(facts(server))])
    assert server.reached.wait(30)
    os.kill(process.pid, number)
    assert process.wait(timeout=30) == 128 + number
    assert "test_net.pth" not in left_over(downloads)


def test_a_licence_that_restricts_use_is_accepted_once(server, downloads):
    restricted = entry(server, needs_consent=True)
    sibling = entry(server, name="sibling", filename="sibling.pth", needs_consent=True)
    with pytest.raises(WeightsError, match=r"https://example\.org/license.*--accept-license"):
        download(restricted)
    assert server.requests == []
    accept_license(restricted)
    assert download(restricted).read_bytes() == CONTENT
    assert license_accepted(sibling)
    assert not license_accepted(entry(server, needs_consent=True, license_url="https://example.org/other"))
    (downloads / "licenses.json").write_text("damaged")
    assert not license_accepted(restricted)
    accept_license(restricted)
    assert license_accepted(restricted)


@pytest.mark.parametrize(("access", "told"), [("browser", "with a browser"), ("login", "permission")])
def test_what_only_a_person_can_fetch_is_explained_and_found_where_told(server, downloads, access, told):
    by_hand = entry(server, access=access)
    place = downloads / "test-net" / "test_net.pth"
    with pytest.raises(WeightsError, match=told) as caught:
        download(by_hand)
    assert str(place) in str(caught.value)
    assert server.url in str(caught.value)
    place.write_bytes(CONTENT)
    assert download(by_hand) == place
    assert locate(by_hand) == place
    assert server.requests == []


def test_remove_deletes_what_was_downloaded_and_nothing_else(server, downloads, tmp_path, monkeypatch):
    own = tmp_path / "own"
    own.mkdir()
    (own / "test_net.pth").write_bytes(CONTENT)
    downloaded = download(entry(server), folder=downloads)
    monkeypatch.setenv("FOUNDATION_REGISTRATION_WEIGHTS", str(own))
    assert remove(entry(server)) == [downloaded]
    assert locate(entry(server)) == own / "test_net.pth"
    assert remove(entry(server)) == []
    monkeypatch.delenv("FOUNDATION_REGISTRATION_WEIGHTS")
    with pytest.raises(RegistrationCancelledError):
        download(entry(server), cancelled=stop_after(5))
    assert len(remove(entry(server))) == 2
    assert left_over(downloads) == []
