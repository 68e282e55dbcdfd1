"""The engine's process: listening to it, ending all of it, and saying in words how it ended.

The commands here are small programs in place of the engine, which cannot be made to crash on demand;
`test_job.py` runs the engine itself.
"""

import os
import signal
import stat
import subprocess
import sys
import textwrap
import time

import psutil
import pytest
from FoundationRegistrationBridge.errors import BridgeError
from FoundationRegistrationBridge.library import library_folder
from FoundationRegistrationBridge.private_folder import PrivateFolder
from FoundationRegistrationBridge.worker import RegistrationWorker, engine_command

POSIX = pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
LINGER = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


def program(text):
    return [sys.executable, "-c", textwrap.dedent(text)]


def ended(worker):
    while worker.running():
        time.sleep(0.01)
    return worker


def wait_for_line(worker, word):
    while not (found := [line for line in worker.log if word in line]):
        assert worker.running(), worker.log
        time.sleep(0.01)
    return found[0]


def alive(pid):
    """Whether a process still works after the two seconds in which it has to end."""
    deadline = time.monotonic() + 2.0
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
                return False
        except psutil.NoSuchProcess:
            return False
        time.sleep(0.02)
    return True


def test_progress_in_words_with_remaining_time():
    worker = RegistrationWorker(
        program("""
        import json, time
        for step, fraction in (("encoding", 0.2), ("encoding", 0.22), ("instance optimisation", 0.6)):
            print(json.dumps({"event": "progress", "step": step, "fraction": fraction}), flush=True)
            time.sleep(0.2)
        """)
    )
    assert worker.progress.fraction == 0.0
    seen = set()
    while worker.running():
        seen.add(worker.progress)
        time.sleep(0.01)
    assert {progress.step for progress in seen} >= {"encoding", "instance optimisation"}
    assert all(progress.remaining_seconds is None for progress in seen if progress.fraction < 0.25)
    assert worker.progress.remaining_seconds > 0.3  # at least 0.4 s for 40 % of the run, so as much for the last 40 %
    assert worker.failure() is None


def test_noise_neither_blocks_nor_grows():
    worker = ended(
        RegistrationWorker(
            program("""
        import sys
        for number in range(20000):
            sys.stderr.write(f"warning {number}\\n")
            print("{not json", number)
        print("[1, 2]"); print('"text"'); print('{"event": "progress", "step": "encoding"}'); print("3")
        sys.stdout.write("x" * 5_000_000)
        sys.stderr.write("y" * 5_000_000)
        sys.stdout.buffer.write(bytes([255, 254, 10]))
        """)
        )
    )
    assert worker.failure() is None
    assert len(worker.log) <= 200
    assert max(map(len, worker.log)) <= 2000


def test_error_of_the_engine_is_passed_on_as_it_is():
    worker = ended(
        RegistrationWorker(
            program("""
        import json, sys
        print(json.dumps({"event": "error", "kind": "InputError", "message": "The fixed mask is empty; draw it."}))
        sys.stderr.write("something else\\n")
        sys.exit(2)
        """)
        )
    )
    assert worker.failure() == "The fixed mask is empty; draw it."


@POSIX
@pytest.mark.parametrize(
    ("signal_number", "words"), [(signal.SIGSEGV, "crashed"), (signal.SIGABRT, "crashed"), (signal.SIGKILL, "memory")]
)
def test_crash_and_lack_of_memory_in_words(signal_number, words):
    worker = ended(
        RegistrationWorker(
            program(f"""
        import os, sys, resource
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        sys.stderr.write("loading the network\\n"); sys.stderr.flush()
        os.kill(os.getpid(), {int(signal_number)})
        """)
        )
    )
    assert words in worker.failure()
    assert "loading the network" in worker.failure()
    assert "\n" not in worker.failure()


def test_traceback_of_the_engine_becomes_its_last_lines():
    worker = ended(RegistrationWorker(program("raise ValueError('no such thing')")))
    assert "no such thing" in worker.failure()
    assert "\n" not in worker.failure()


def test_program_that_is_not_there(tmp_path):
    with pytest.raises(BridgeError, match="cannot be started"):
        RegistrationWorker(engine_command(["encoders"], tmp_path / "python"))


def test_cancel_ends_children_that_do_not_listen():
    worker = RegistrationWorker(
        program(f"""
        import signal, subprocess, sys, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen([sys.executable, "-c", {LINGER!r}])
        print("child", child.pid, flush=True)
        time.sleep(600)
        """)
    )
    child = int(wait_for_line(worker, "child").split()[1])
    worker.cancel()
    ended(worker)
    assert worker.cancelled
    assert not alive(worker.pid)
    assert not alive(child)


@POSIX
def test_children_of_a_crashed_engine_are_ended():
    worker = ended(
        RegistrationWorker(
            program(f"""
        import os, subprocess, sys
        child = subprocess.Popen([sys.executable, "-c", {LINGER!r}])
        print("child", child.pid, flush=True)
        os.abort()
        """)
        )
    )
    assert not alive(int(worker.log[0].split()[1]))


def test_engine_ends_with_the_application():
    application = subprocess.run(
        program(f"""
            import sys
            sys.path.append({str(library_folder() / "FoundationRegistration")!r})
            from FoundationRegistrationBridge.worker import RegistrationWorker
            print(RegistrationWorker([sys.executable, "-c", {LINGER!r}]).pid)
            """),
        check=True,
        capture_output=True,
        text=True,
    )
    assert not alive(int(application.stdout))


def test_private_folder_is_private_and_removed(tmp_path):
    folder = PrivateFolder(tmp_path)
    (folder.path / "volume.nrrd").write_bytes(b"patient")
    if os.name != "nt":
        assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    folder.remove()
    folder.remove()
    assert list(tmp_path.iterdir()) == []


def test_folder_of_a_killed_session_is_removed_by_the_next(tmp_path):
    session = subprocess.Popen(
        program(f"""
            import sys, time
            sys.path.append({str(library_folder() / "FoundationRegistration")!r})
            from pathlib import Path
            from FoundationRegistrationBridge.private_folder import PrivateFolder
            folder = PrivateFolder(Path({str(tmp_path)!r}))
            (folder.path / "volume.nrrd").write_bytes(b"patient")
            print("made", flush=True)
            time.sleep(600)
            """),
        stdout=subprocess.PIPE,
    )
    assert session.stdout.readline() == b"made\n"
    (left,) = tmp_path.iterdir()
    other = PrivateFolder(tmp_path)
    assert left.is_dir()  # still in use
    other.remove()
    session.kill()
    session.communicate()
    assert left.is_dir()
    PrivateFolder(tmp_path).remove()
    assert not left.exists()


def test_temporary_folder_that_cannot_be_written(tmp_path):
    with pytest.raises(BridgeError, match="temporary folder"):
        PrivateFolder(tmp_path / "missing")
