"""Results of one run take their places together or not at all: every step is interrupted in every way.

Each case is a process of its own, which is really killed, stopped or refused by the system at one of its operations
on files.
"""

import errno
import itertools
import os
import random
import signal
import sys
import time

import pytest
from faults import before_operation, ended, fork, kill_at

from FoundationRegistrationLib.errors import OutputError, RegistrationCancelledError
from FoundationRegistrationLib.files.commit import UNFINISHED, settle
from FoundationRegistrationLib.files.outputs import staged_folder
from FoundationRegistrationLib.runtime import interruption
from FoundationRegistrationLib.runtime.interruption import Interruption

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are copied by fork")

OLD = {"a": "old", "b": "old", "map": "old", "other": "the user's"}
NEW = {"a": "new", "b": "new", "c": "new", "sub/d": "new", "other": "the user's"}
NO_LONGER = ("map",)
CANCELLED, REFUSED = 3, 2


def fill(folder, texts):
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def on_disk(folder):
    """Texts of all files, the hidden ones too."""
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def write(target, texts, guard=None):
    with staged_folder(target, guard, NO_LONGER) as staging:
        fill(staging, {name: text for name, text in texts.items() if name != "other"})


def exit_code_of(target, texts, guard=None):
    """Write results as a command does and return its exit code."""
    try:
        write(target, texts, guard)
    except OutputError as error:
        assert "\n" not in str(error)
        return REFUSED
    except RegistrationCancelledError:
        return CANCELLED
    return 0


def folders(tmp_path):
    """One folder of earlier results after the other."""
    for number in itertools.count():
        target = tmp_path / str(number) / "results"
        target.mkdir(parents=True)
        fill(target, OLD)
        yield target


def visible(target):
    """Texts of the files that people see."""
    return {name: text for name, text in on_disk(target).items() if not name.startswith(".")}


def test_kill_at_any_step_leaves_one_run_whole_at_the_next_use(tmp_path):
    kills, mixed_before, seen = 0, 0, set()
    for number, target in enumerate(folders(tmp_path)):
        code = ended(fork(lambda n=number, t=target: kill_at(n, below=tmp_path) or write(t, NEW)))
        if code == 0:
            break
        assert code == -signal.SIGKILL
        kills += 1
        mixed_before += visible(target) not in (OLD, NEW)
        settle(target)
        assert on_disk(target) in (OLD, NEW), number
        assert not list(target.parent.glob(".*"))
        seen.add(on_disk(target) == NEW)
    assert kills > 30
    assert mixed_before > 3, "nothing was ever half done, so that nothing was tried"
    assert seen == {True, False}


def test_kill_while_what_another_kill_left_is_finished(tmp_path):
    chance = random.Random(5)
    killed = 0
    for target in itertools.islice(folders(tmp_path), 40):
        numbers = [chance.randrange(15, 45), chance.randrange(12), chance.randrange(12)]
        codes = [ended(fork(lambda n=numbers[0], t=target: kill_at(n, below=tmp_path) or write(t, NEW)))]
        codes += [ended(fork(lambda n=n, t=target: kill_at(n, below=tmp_path) or settle(t))) for n in numbers[1:]]
        killed += codes.count(-signal.SIGKILL)
        assert 99 not in codes
        settle(target)
        assert on_disk(target) in (OLD, NEW), numbers
    assert killed > 40


@pytest.mark.parametrize("lasting", [False, True])
def test_disk_that_fails_at_any_step(tmp_path, lasting):
    """Once, or from then on until the next use."""
    met, refused = 10, 0

    def run(step, target):
        failed, number = [], (errno.ENOSPC, errno.EIO)[step % 2]

        def act(distance):
            if distance == 0 or (lasting and distance > 0):
                failed.append(distance)
                raise OSError(number, os.strerror(number))

        before_operation(step, act, below=tmp_path)
        return exit_code_of(target, NEW) + (met if failed else 0)

    for step, target in enumerate(folders(tmp_path)):
        code = ended(fork(lambda step=step, target=target: run(step, target)))
        if code == 0:
            break
        assert code in (met, met + REFUSED), step
        if not lasting or code == met:
            assert visible(target) == (NEW if code == met else OLD), step
        settle(target.parent)
        settle(target)
        assert on_disk(target.parent) in [
            {f"results/{name}": text for name, text in texts.items()} for texts in (OLD, NEW)
        ]
        refused += code == met + REFUSED
    assert refused > 10


@pytest.mark.parametrize("stuck", [False, True])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_at_any_step_is_heeded_or_the_results_are_complete(tmp_path, monkeypatch, number, stuck):
    """Stuck: the main thread goes on only when the watching thread would have ended the process long ago."""
    if stuck:
        monkeypatch.setattr(interruption, "_GRACE_SECONDS", 0.1)
    steps = range(number % 2, 60, 2)
    children = {}
    for step, target in zip(steps, folders(tmp_path), strict=False):

        def act(distance):
            if distance == 0:
                os.kill(os.getpid(), number)
                if stuck:
                    time.sleep(0.3)

        def run(step=step, target=target):
            signal.signal(number, signal.SIG_DFL)  # what this runs under may ignore it, as nohup does
            before_operation(step, act, below=tmp_path)
            with Interruption() as listening:
                code = exit_code_of(target, NEW, listening)
                return 128 + listening.signal_number if code == CANCELLED else code

        children[step, target] = fork(run)
    codes = []
    for (step, target), child in children.items():
        code = ended(child)
        codes.append(code)
        assert code in (0, 128 + number)
        assert on_disk(target) == (NEW if code == 0 else OLD), step
        if not stuck:
            assert not list(target.parent.glob(".*"))
        settle(target)
        settle(target.parent)
        assert not list(target.parent.glob(".*"))
    assert set(codes) == {0, 128 + number}


def test_signal_just_before_the_results_take_their_places(tmp_path):
    target = next(folders(tmp_path))
    with (
        pytest.raises(RegistrationCancelledError),
        Interruption() as listening,
        staged_folder(target, listening) as staging,
    ):
        fill(staging, {"a": "new"})
        os.kill(os.getpid(), signal.SIGTERM)
    assert on_disk(target) == OLD


def test_hang_up_that_the_user_told_to_survive(tmp_path):
    def run():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as `nohup` does
        with Interruption() as listening:
            os.kill(os.getpid(), signal.SIGHUP)
            return exit_code_of(tmp_path, {"a": "new"}, listening)

    assert ended(fork(run)) == 0
    assert on_disk(tmp_path) == {"a": "new"}


def test_runs_that_finish_at_once_into_one_folder(tmp_path):
    target = tmp_path / "new" / "results"
    for number in range(40):
        runs = [dict.fromkeys("abcdef", f"{number}.{run}") for run in range(3)]
        children = [fork(lambda texts=texts: exit_code_of(target, texts)) for texts in runs]
        assert [ended(child) for child in children] == [0, 0, 0]
        assert on_disk(target) in runs
        assert list(target.parent.iterdir()) == [target]


def test_two_runs_of_which_one_is_killed(tmp_path):
    chance = random.Random(7)
    for target in itertools.islice(folders(tmp_path), 25):
        other = {**NEW, **dict.fromkeys(("a", "b", "c", "sub/d"), "other")}
        step = chance.randrange(60)
        children = [
            fork(lambda n=step, t=target: kill_at(n, below=tmp_path) or exit_code_of(t, NEW)),
            fork(lambda t=target, o=other: exit_code_of(t, o)),
        ]
        assert [ended(child) for child in children][1] == 0
        settle(target)
        assert on_disk(target) in (NEW, other)


def test_the_folder_of_a_run_that_works_is_not_swept(tmp_path):
    with staged_folder(tmp_path) as staging:
        fill(staging, {"a": "1"})
        for _ in range(3):
            write(tmp_path, {"b": "2"})
        settle(tmp_path)
        assert on_disk(staging) == {"a": "1"}
    assert on_disk(tmp_path) == {"a": "1", "b": "2"}


def test_private_folders_made_and_swept_at_once(tmp_path):
    def run():
        return max(exit_code_of(tmp_path, {f"{os.getpid()}": "x"}) for _ in range(40))

    children = [fork(run) for _ in range(4)]
    assert [ended(child) for child in children] == [0] * 4
    assert on_disk(tmp_path) == {str(child): "x" for child in children}


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    import fcntl

    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    target = next(folders(tmp_path))
    monkeypatch.setattr(fcntl, "flock", refuse)
    write(target, NEW)
    assert on_disk(tmp_path) == {f"0/results/{name}": text for name, text in NEW.items()}
    monkeypatch.setattr("FoundationRegistrationLib.files.commit._PATIENCE_SECONDS", 0.1)
    unfinished = target / UNFINISHED
    for part in ("new", "old", "absent", "gone", "made"):
        (unfinished / part).mkdir(parents=True)
    fill(unfinished / "new", {"a": "newer"})
    settle(target)
    assert on_disk(target) == {**NEW, "a": "newer"}


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="mounts a file system, for which one must be root"
)
def test_unfinished_results_on_a_medium_that_cannot_be_written_are_refused(tmp_path):
    import subprocess

    target = next(folders(tmp_path))
    (target / UNFINISHED / "new").mkdir(parents=True)
    if subprocess.run(["mount", "--bind", "-o", "ro", target, target], check=False, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        with pytest.raises(OutputError, match=r"Read-only.*make the folder writable"):
            settle(target)
    finally:
        subprocess.run(["umount", target], check=True)
