"""A real SLURM of one node on this machine: its three daemons with a configuration of their own, in a folder."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cohort_stand_in import until

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "sinfo")
# The node claims more than the machine may have; nothing is bound to processors or limited.
CONFIGURATION = """ClusterName=one
SlurmctldHost=localhost
SlurmUser=root
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
SchedulerParameters=sched_interval=1,batch_sched_delay=0
NodeName=localhost NodeAddr=127.0.0.1 CPUs=16 RealMemory=64000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=600 State=UP
"""


def why_no_slurm():
    """Why SLURM cannot be started here; empty if it can."""
    if not sys.platform.startswith("linux"):
        return "SLURM runs on Linux"
    if os.geteuid() != 0:
        return "SLURM's daemons need root"
    missing = [name for name in PROGRAMS if program(name) is None]
    return f"{', '.join(missing)} not installed; Debian has them in slurm-wlm and munge" if missing else ""


def program(name):
    """Where a program of SLURM is."""
    return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin")))


class Slurm:
    """What a test asks of it.

    Attributes:
        environment: for programs that use it.
    """

    def __init__(self, folder):
        # Snakemake's jobs call `srun` without SLURM_CONF.
        wrapper = folder / "bin" / "srun"
        wrapper.parent.mkdir()
        wrapper.write_text(f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {program("srun")} "$@"\n')
        wrapper.chmod(0o755)
        path = os.pathsep.join((str(wrapper.parent), os.environ["PATH"]))
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "PATH": path}

    def ask(self, name, *arguments, cwd=None):
        """What a program of SLURM answers."""
        command = [program(name), *map(str, arguments)]
        asked = subprocess.run(
            command, env=self.environment, cwd=cwd, capture_output=True, text=True, check=False, timeout=30
        )
        assert asked.returncode == 0, asked.stderr
        return asked.stdout.strip()

    def jobs(self):
        """The numbers of all jobs that have not ended; those of an array with the number in it."""
        return self.ask("squeue", "--noheader", "--array", "--format=%i").split()

    def is_ready(self):
        asked = subprocess.run(
            [program("sinfo"), "--noheader", "--format=%T"],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return asked.stdout.strip() == "idle"


@contextmanager
def running_slurm(folder):
    """Start it in an empty folder with a short name, and stop it after the block."""
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o600)
    with socket.socket() as first, socket.socket() as second:
        for one in (first, second):
            one.bind(("127.0.0.1", 0))
        ports = [one.getsockname()[1] for one in (first, second)]
    (folder / "slurm.conf").write_text(CONFIGURATION.format(folder=folder, ports=ports))
    slurm = Slurm(folder)
    munge = [
        *("munged", "--foreground", "--force", "--num-threads=2", f"--key-file={key}"),
        *(
            f"--{name}={folder}/munge.{name.split('-')[0]}"
            for name in ("socket", "pid-file", "log-file", "seed-file")
        ),
    ]
    with ExitStack() as stack:
        for command in (munge, ["slurmctld", "-D"], ["slurmd", "-D", "-N", "localhost"]):
            stack.enter_context(_daemon(folder, command, slurm.environment))
            if command is munge:
                until((folder / "munge.socket").exists, "munged")
        until(slurm.is_ready, "slurmd")
        try:
            yield slurm
        finally:
            for job in slurm.jobs():
                slurm.ask("scancel", "--quiet", job)
            until(lambda: not slurm.jobs(), "the end of all jobs")


@contextmanager
def _daemon(folder, command, environment):
    with (folder / f"{command[0]}.out").open("wb") as said:
        process = subprocess.Popen(
            [program(command[0]), *command[1:]], env=environment, stdout=said, stderr=subprocess.STDOUT
        )
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def folder_of(factory):
    """A folder whose name is short enough for a socket."""
    folder = factory.mktemp("slurm")
    assert len(str(folder)) < 90, "sockets have short names"
    return Path(folder)
