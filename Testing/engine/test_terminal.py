"""Commands with standard streams that are closed, full, cut off or without Unicode, and without a home folder."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from faults import ended, fork

from FoundationRegistrationLib.cli.main import main

pytestmark = pytest.mark.skipif(os.name == "nt", reason="streams as POSIX shells give them")
TINY = "--encoder mind --working-spacing-mm 8 --iterations 0 --progress none"
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii:strict"}


def small_volume(folder):
    """A file with a bright ball in it."""
    position = np.mgrid[:24, :24, :24] - 11.5
    image = sitk.GetImageFromArray((900.0 * np.exp(-((position / 6.0) ** 2).sum(0))).astype(np.float32))
    image.SetSpacing((4.0, 4.0, 4.0))
    sitk.WriteImage(image, str(folder / "volume.nii.gz"))
    return folder / "volume.nii.gz"


def shell(line, tmp_path, **variables):
    """Run a line of the shell in which `fr` is the command."""
    environment = {**os.environ, "FR": f"{sys.executable} -m FoundationRegistrationLib", **variables}
    script = f"fr() {{ $FR \"$@\"; echo $? > '{tmp_path}/code'; }}\n{line}"
    run = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, encoding="utf-8", check=False)
    assert "Traceback" not in run.stderr
    assert "Exception" not in run.stderr
    return int((tmp_path / "code").read_text()), run.stdout, run.stderr


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("fr weights list >&-", 0),
        ("fr weights list 2>&-", 0),
        ("fr weights list <&- >&- 2>&-", 0),
        ("fr weights list | true", 0),
        ("fr --help | head -c 1 >&-", 0),
        ("fr weights path nonsense 2>&-", 2),
        ("fr weights path nonsense >&- 2>&-", 2),
        ("fr nonsense 2>&-", 2),
        ("fr weights path nonsense 2>/dev/full", 2),
        ("fr weights list 2>/dev/full", 0),
    ],
)
def test_streams_that_take_nothing(tmp_path, line, code):
    assert shell(line, tmp_path)[0] == code


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_an_answer_that_is_lost_on_a_full_disk_is_told(tmp_path):
    for command in ("weights list", "encoders"):
        code, _, said = shell(f"fr {command} >/dev/full", tmp_path)
        assert code == 2
        assert said.count("\n") == 1
        assert "Standard output cannot be written (No space left on device)" in said


@pytest.mark.parametrize("streams", ["<&- >&- 2>&-", "--progress json | true"])
def test_results_are_written_whatever_becomes_of_the_streams(tmp_path, streams):
    """Nothing that libraries print may get into a result, which a closed stream's number would let it."""
    volume = small_volume(tmp_path)
    options = f"{TINY} --output {tmp_path / 'result'}"
    assert shell(f"fr register {volume} {volume} {options} {streams}", tmp_path)[0] == 0
    assert json.loads((tmp_path / "result" / "report.json").read_text())["settings"]["encoder"] == "mind"


def test_terminal_without_unicode(tmp_path):
    code, listed, _ = shell("fr encoders --markdown", tmp_path, **ASCII)
    assert code == 0
    assert "\\xb2" in listed, "the list has a character that ASCII has not"
    assert shell("fr --help", tmp_path, **ASCII)[0] == 0
    code, _, said = shell("fr weights path 'Größe'", tmp_path, **ASCII)
    assert code == 2
    assert "There are no weights named" in said


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root can become a user who is not listed")
@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("weights list", 0, "dinov2-vits14"),
        ("weights path", 2, "home folder"),
        ("weights path dinov2-vits14", 2, "home folder"),
        ("weights download dinov2-vits14", 2, "variable FOUNDATION_REGISTRATION_CACHE"),
        ("encoders", 0, "dinov2"),
        ("register {volume} {volume} --overwrite --output {out} " + TINY, 0, "expected error"),
    ],
)
@pytest.mark.parametrize("given", [(), ("FOUNDATION_REGISTRATION_CACHE", "FOUNDATION_REGISTRATION_WEIGHTS")])
def test_user_without_a_home(tmp_path, given, command, code, words, capfd, monkeypatch):
    """In a container that runs under any number, the system lists no user of it, and HOME is not set."""
    for name in ("HOME", "XDG_CACHE_HOME", "FOUNDATION_REGISTRATION_CACHE", "FOUNDATION_REGISTRATION_WEIGHTS"):
        monkeypatch.delenv(name, raising=False)
    for name in given:
        monkeypatch.setenv(name, "~/kept")
    out = tmp_path / "out"
    volume = small_volume(tmp_path)
    arguments = command.format(volume=volume, out=out).split()
    # What is loaded now needs not be read by that user.
    assert main(["weights", "list"] if arguments[0] == "weights" else arguments) == 0
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    out.chmod(0o777)
    for folder in (tmp_path, *(parent for parent in tmp_path.parents if parent.stat().st_mode & 0o077 == 0)):
        folder.chmod(0o755)
    capfd.readouterr()

    def run():
        os.setuid(54321)
        os.chdir("/")
        return main(arguments)

    assert ended(fork(run)) == code
    said = "".join(capfd.readouterr())
    assert words in said
    assert "Traceback" not in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_the_process_closes_down_changes_nothing(tmp_path, number):
    """When all is done, the process is as good as gone; its results stand, and so does its exit code."""
    program = f"""
import atexit, os, sys
from FoundationRegistrationLib.cli.main import run
atexit.register(os.kill, os.getpid(), {int(number)})
sys.argv = ["foundation-registration", "weights", "path"]
run()
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 0
    assert run.stderr == ""


@pytest.mark.parametrize("closed", ["", "sys.stdout = None", "os.close(1)"])
def test_a_process_that_leaves_does_what_waits_for_its_end(tmp_path, closed):
    """It does not unload libraries, but flushes what was written and runs what was registered."""
    program = f"""
import atexit, os, pathlib, sys
from FoundationRegistrationLib.runtime.ending import leave
atexit.register(pathlib.Path({str(tmp_path / "last")!r}).write_text, "done")
sys.stdout.write("said")
{closed}
leave(3)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (3, "")
    assert closed or run.stdout == "said"
    assert (tmp_path / "last").read_text() == "done"
