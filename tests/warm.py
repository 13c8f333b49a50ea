"""Commands in processes of their own that need not import anything: forked from one that has, and has run nothing.

A new interpreter takes seconds to import torch and transformers. Where a test is about a process (it is killed, it is one
of two, it reads a pipe) and not about how an interpreter starts, it begins here.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

MODULES = ["abbie_lens.collecting", "abbie_lens.training.run", "app.cli", "app.exporting"]
"""What the first process imports."""

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(MODULES)


class Warm:
    """A started command, after the fashion of subprocess.Popen."""

    def __init__(
        self, arguments: Sequence[str], env: Mapping[str, str], cwd: Path | None, given: bytes
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="warm-")
        self._streams = [Path(self._folder.name) / name for name in ("in", "out", "err")]
        for path, content in zip(self._streams, (given, b"", b""), strict=True):
            path.write_bytes(content)
        environment = {**os.environ, **env}
        self._process = _processes.Process(
            target=_run, args=(list(arguments), environment, cwd, self._streams), daemon=True
        )
        self._process.start()

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.exitcode

    def wait(self, seconds: float = 120) -> int:
        """Its exit code, once it is over."""
        self._process.join(seconds)
        assert self._process.exitcode is not None, f"not over after {seconds} s: {self.stderr}"
        return self._process.exitcode

    def kill(self) -> int:
        """SIGKILL; the exit code, which is another if it was over before."""
        assert self._process.pid is not None
        os.kill(self._process.pid, signal.SIGKILL)
        return self.wait()

    @property
    def stdout(self) -> str:
        """What it wrote so far."""
        return self._streams[1].read_text("utf-8")

    @property
    def stderr(self) -> str:
        """What it wrote so far."""
        return self._streams[2].read_text("utf-8")


def start(
    *arguments: str,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    given: bytes = b"",
) -> Warm:
    """A Python with these arguments (`-m module …` or a file and its own) that reads `given`; `env` adds to this one's."""
    return Warm(arguments, env or {}, cwd, given)


def run(*arguments: str, **options) -> Warm:
    """The same, when it is over."""
    process = start(*arguments, **options)
    process.wait()
    return process


def pair() -> list[dict[str, str]]:
    """What torchrun tells each of two processes on this machine, by environment variables."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {
        "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
    }  # fmt: skip
    return [{**shared, "RANK": rank, "LOCAL_RANK": rank} for rank in ("0", "1")]


def _run(arguments: list[str], env: dict[str, str], cwd: Path | None, streams: list[Path]) -> None:
    os.environ.clear()
    os.environ.update(env)
    if cwd is not None:
        os.chdir(cwd)
    for number, (path, mode) in enumerate(zip(streams, ("rb", "ab", "ab"), strict=True)):
        with open(path, mode) as file:
            os.dup2(file.fileno(), number)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout, sys.stderr = (open(n, "w", encoding="utf-8", closefd=False) for n in (1, 2))  # noqa: SIM115
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")
