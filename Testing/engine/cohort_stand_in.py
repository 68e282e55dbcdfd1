"""A worker of `cohort` that registers nothing: what it does is written in the fixed file of each pair.

Lines of that file: `fail WORDS`, `kill`, `say WORDS`, `begun FILE` (writes its process id there), `wait FILE` (until
it is there), `count FILE` (adds a line there).
"""

import json
import os
import queue
import signal
import sys
import threading
import time
from pathlib import Path

from FoundationRegistrationLib.files.outputs import complete_or_absent, staged_folder, write_json

HERE = Path(__file__)
FILES = ("transform.h5", "inverse.h5", "initial_transform.h5", "warped.nii.gz", "overview.png")
PATIENCE_SECONDS = 60.0
# A command line whose workers are these, for processes that a test may kill.
COMMAND_LINE = f"""
import sys
from FoundationRegistrationLib.cohort import workers
workers.COMMAND = (sys.executable, {str(HERE)!r})
from FoundationRegistrationLib.cli.main import main
sys.exit(main())
"""


def until(found, what):
    """Wait until a function returns something true, and return that."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not (value := found()):
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.005)
    return value


def work(command):
    fixed, moving = map(Path, command[1:3])
    folder = Path(next(part for part in command if part.startswith("--output=")).removeprefix("--output="))
    for line in fixed.read_text(encoding="utf-8").splitlines():
        word, _, rest = line.partition(" ")
        if word == "fail":
            sys.stderr.write("why it failed\n")
            return {"event": "failed", "message": rest}
        if word == "kill":
            os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
        elif word == "say":
            sys.stdout.write(f"{rest}\n")
        elif word == "begun":
            with complete_or_absent(rest) as unfinished:
                unfinished.write_text(str(os.getpid()))
        elif word == "wait":
            until(Path(rest).exists, rest)
        elif word == "count":
            with Path(rest).open("a", encoding="utf-8") as counted:
                counted.write(f"{fixed.name}\n")
    with staged_folder(folder) as staging:
        for name in FILES:
            (staging / name).write_bytes(name.encode() + fixed.read_bytes() + moving.read_bytes())
        dice = len(moving.read_bytes()) / 100.0
        labels = {"mean_dice_before": 0.5, "mean_dice_after": dice}
        report = {"verdict": {"level": "good", "reasons": []}, "evaluation": {"labels": labels}}
        write_json(staging / "report.json", {**report, "messages": [], "arguments": command[3:]})
    return {"event": "done"}


def main():
    jobs = queue.SimpleQueue()
    threading.Thread(target=read, args=(jobs,), daemon=True).start()
    while True:
        job = jobs.get()
        answer({"event": "progress", "step": "work", "fraction": 0.5})
        answer({"event": "done"} if "pictures" in job else work(job["commands"][0]))


def read(jobs):
    for line in sys.stdin:
        jobs.put(json.loads(line))
    os._exit(0)  # the caller has ended


def answer(content):
    sys.stdout.write(json.dumps(content) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
