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
from FoundationRegistrationBridge.process.private_folder import PrivateFolder
from FoundationRegistrationBridge.process.worker import RegistrationWorker, engine_command

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
        time.sleep(0.5)
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
            from FoundationRegistrationBridge.process.worker import RegistrationWorker
            print(RegistrationWorker([sys.executable, "-c", {LINGER!r}]).pid)
            """),
        check=True,
        capture_output=True,
        text=True,
    )
    assert not alive(int(application.stdout))


@POSIX
@pytest.mark.parametrize("way", ["ends by itself", "crashes", "cancelled", "reaped by another"])
def test_no_signal_goes_to_an_id_that_may_be_another_process(way):
    """The system gives the id of a process away once its end is taken note of; who has it then is left alone.

    Every call of the system that sends a signal to a group is watched, and whether its leader is still ours then.
    """
    watched = program(f"""
        import gc, os, signal, subprocess, sys, time
        import psutil
        sys.path.append({str(library_folder() / "FoundationRegistration")!r})
        from FoundationRegistrationBridge.process.worker import RegistrationWorker
        sent = []
        def watch(event, arguments):
            if event == "os.killpg":
                ours = psutil.pid_exists(arguments[0]) and psutil.Process(arguments[0]).ppid() == os.getpid()
                sent.append((int(arguments[1]), ours))
        sys.addaudithook(watch)
        way = {way!r}
        engines = {{"ends by itself": "pass", "crashes": "import os; os.abort()"}}
        text = engines.get(way, "import time; time.sleep(600)")
        worker = RegistrationWorker([sys.executable, "-c", text])
        if way == "cancelled":
            worker.cancel()
        if way == "reaped by another":
            os.kill(worker.pid, signal.SIGKILL)
            os.waitpid(worker.pid, 0)
        while worker.running():
            time.sleep(0.01)
        worker.cancel()
        time.sleep(0.3)
        del worker
        gc.collect()
        print(sent)
        """)
    sent = eval(subprocess.run(watched, check=True, capture_output=True, text=True).stdout)
    assert all(ours for _, ours in sent)
    assert len(sent) == {"cancelled": 2, "reaped by another": 0}.get(way, 1)


@POSIX
def test_grandchildren_of_an_engine_that_ended_are_ended_while_its_id_is_kept():
    """All of the group is gone when the engine is said to have ended, also what it started and left behind."""
    for _ in range(10):
        worker = ended(
            RegistrationWorker(
                program(f"""
            import subprocess, sys
            for _ in range(3):
                child = subprocess.Popen([sys.executable, "-S", "-c", {LINGER!r}])
                print("child", child.pid, flush=True)
            """)
            )
        )
        assert worker.failure() is None
        children = [int(line.split()[1]) for line in worker.log]
        assert len(children) == 3
        assert not any(alive(child) for child in children)


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
            from FoundationRegistrationBridge.process.private_folder import PrivateFolder
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


def test_folders_made_at_once_do_not_take_each_other_for_abandoned(tmp_path):
    """Several sessions make folders, use and remove them, all at the same time."""
    session = program(f"""
        import sys
        sys.path.append({str(library_folder() / "FoundationRegistration")!r})
        from pathlib import Path
        from FoundationRegistrationBridge.process.private_folder import PrivateFolder
        sys.stdin.readline()
        for number in range(150):
            folder = PrivateFolder(Path({str(tmp_path)!r}))
            (folder.path / "volume.nrrd").write_bytes(b"patient")
            assert (folder.path / "volume.nrrd").read_bytes() == b"patient"
            folder.remove()
        """)
    sessions = [subprocess.Popen(session, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    for process in sessions:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in sessions:
        assert process.communicate()[1] == ""
        assert process.returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_temporary_folder_that_cannot_be_written(tmp_path):
    with pytest.raises(BridgeError, match="temporary folder"):
        PrivateFolder(tmp_path / "missing")
