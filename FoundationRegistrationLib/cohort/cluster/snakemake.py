"""Runs the packaged workflow with Snakemake, which is found when it is needed."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ...errors import InputError, OutputError, RegistrationCancelledError
from ...files.outputs import write_json
from ..names import PARTS_FOLDER

SNAKEFILE = Path(__file__).with_name("Snakefile")
COMMAND = (sys.executable, "-m", "FoundationRegistrationLib")
_VALUES = "workflow.json"
_POLL_SECONDS = 0.1
_SLURM_JOBS = 100


def snakemake_program() -> list[str]:
    """Return the words that start Snakemake: of this environment, else from the search path.

    Raises:
        InputError: it is not installed.
    """
    if importlib.util.find_spec("snakemake") is not None:
        return [sys.executable, "-m", "snakemake"]
    found = shutil.which("snakemake")
    if found is None:
        msg = "Snakemake is not installed; install it with: pip install 'FoundationRegistration[cluster]'"
        raise InputError(msg)
    return [found]


def prepare_workflow(
    source: Sequence[str],
    output: Path,
    options: Sequence[str],
    profile: str,
    jobs: int | None,
    pairs_per_job: int | None,
    needs: Mapping[str, int],
) -> list[str]:
    """Write the values of the workflow for a cohort into its folder; return the arguments of Snakemake.

    They are in a file, since values on the command line would replace all those of a profile.

    Args:
        source: words of the command `cohort` that say which pairs there are: a table, or a BIDS dataset.
        output: folder for the results.
        options: of the command `cohort`, for each part.
        profile: "local", "slurm", or a folder with a profile of Snakemake.
        jobs: parts at the same time; if None, 1 on this machine and 100 in the queue of SLURM.
        pairs_per_job: at most; None for what the workflow or the profile says.
        needs: values of the workflow for memory and time; those of a profile take precedence.

    Raises:
        InputError: there is no such profile, or Snakemake is not installed.
        OutputError: the folder cannot be written.
    """
    config: dict[str, str | int] = {
        "source": shlex.join(source),
        "output": str(output),
        "options": shlex.join(options),
        "command": shlex.join(COMMAND),
        **needs,
    }
    if pairs_per_job is not None:
        config["pairs_per_job"] = pairs_per_job
    if profile == "local":
        threads = max(1, (os.cpu_count() or 1) // (jobs or 1))
        config["threads"] = threads
        where = ["--cores", str(threads * (jobs or 1))]
    elif profile == "slurm":
        where = ["--executor", "slurm", "--jobs", str(jobs or _SLURM_JOBS)]
    elif Path(profile).is_dir():
        where = ["--profile", str(Path(profile).absolute()), *(["--jobs", str(jobs)] if jobs else [])]
    else:
        msg = f"--profile is '{profile[:40]}'; give local, slurm, or a folder with a profile of Snakemake."
        raise InputError(msg)
    snakemake_program()
    values = output / PARTS_FOLDER / _VALUES
    try:
        values.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"'{values.parent}' cannot be written ({error.strerror or error}); choose another --output."
        raise OutputError(msg) from error
    write_json(values, config)
    return ["--snakefile", str(SNAKEFILE), "--configfile", str(values), "--keep-going", "--retries", "1", *where]


def run_snakemake(words: Sequence[str], cancelled: Callable[[], bool]) -> int:
    """Run Snakemake and return its exit code.

    Args:
        words: its arguments.
        cancelled: checked often; Snakemake is asked to end, and to cancel its jobs, when it returns True.

    Raises:
        InputError: it is not installed.
        RegistrationCancelledError: `cancelled` returned True.
    """
    path = [str(Path(__file__).parents[3]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}  # the same engine as here
    # In a group of its own, so that a terminal's Ctrl-C reaches it once.
    process = subprocess.Popen([*snakemake_program(), *words], env=environment, start_new_session=True)
    while process.poll() is None:
        if cancelled():
            if os.name == "nt":
                process.terminate()
            else:
                os.killpg(process.pid, signal.SIGINT)
            process.wait()
            msg = "The run was stopped; give the same command again to go on."
            raise RegistrationCancelledError(msg)
        time.sleep(_POLL_SECONDS)
    return process.returncode
