"""Faults of the disk and ends of the process, made to happen for real in the middle of any step."""

import contextlib
import os
import signal
import sys
import traceback

OPERATIONS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"}


@contextlib.contextmanager
def largest_file(size):
    """Let no file grow beyond a size, as on a full disk."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def before_operation(number, act, *, below):
    """Call a function in this process before its n-th operation, from 0, on files below a folder.

    The function may raise an OSError in place of the operation. It cannot be undone: for forked processes.
    """
    count = -1

    def hook(event, arguments):
        nonlocal count
        if event not in OPERATIONS or not isinstance(arguments[0], str | os.PathLike):
            return
        name = os.fspath(arguments[0])
        # When a folder is removed with all in it, names are relative to it.
        if name.startswith(str(below)) or (event != "open" and not name.startswith("/")):
            count += 1
            act(count - number)

    sys.addaudithook(hook)


def kill_at(number, *, below):
    """End this process, as a power cut does, before its n-th operation."""

    def act(distance):
        if distance == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    before_operation(number, act, below=below)


def fork(run):
    """Run a function in a copy of this process; return its id. An exception of its own makes it exit with 99."""
    child = os.fork()
    if child:
        return child
    code = 99
    try:
        code = run() or 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def ended(child):
    """Wait for a forked process and return its exit code, minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
