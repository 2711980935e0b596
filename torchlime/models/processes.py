"""Processes: how a decoder is started and ended, and what its end is called."""

import contextlib
import multiprocessing.spawn
import os
import signal
import socket
import subprocess
from pathlib import Path

POSSIBLE = os.name == "posix"  # elsewhere photos are read in the program itself
_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP) if POSSIBLE else ()
_ENVIRONMENT = {"MALLOC_ARENA_MAX": "2", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def started(program: Path, link: socket.socket) -> "subprocess.Popen[bytes]":
    """A program of Python's, told the number of its end of a socket."""
    python = [os.fsdecode(multiprocessing.spawn.get_executable()), "-I"]
    return subprocess.Popen(
        [*python, str(program), str(link.fileno())],
        pass_fds=[link.fileno()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | _ENVIRONMENT,
        start_new_session=True,  # what it starts ends with it
    )


def kill(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process and what it started, if it is still there."""
    if process.poll() is None:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()


def ending(code: int | None) -> tuple[str, bool]:
    """How a process ended (None: not by itself), in words; and whether somebody killed it."""
    if code is None:
        return "answers nonsense", False
    if code >= 0:
        return f"ends with code {code}", False
    name = signal.Signals(-code).name
    if -code in _OUTSIDE:
        return f"is killed each time (by {name}), as by a system that is short of memory", True
    return f"crashes ({name})", False
