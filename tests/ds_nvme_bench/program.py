"""What the tests of the `ds_nvme_bench` program share: a place to measure in, and running it."""

import os
import pathlib
import pty
import subprocess
import tempfile
import unittest
from typing import Any, Union

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

QUICK = ["--size=8M", "--runtime=200ms", "--ramp-time=0"]


class Terminal:
    """A terminal for a program to write its standard error to."""

    def __init__(self) -> None:
        self.ours, self.its = pty.openpty()
        self.shown = ""

    def read(self) -> bool:
        """Adds what the program shows next; false when it has ended."""
        try:
            piece = os.read(self.ours, 4096)
        except OSError:  # the other end is closed
            return False
        self.shown += piece.decode()
        return bool(piece)

    def close(self) -> None:
        os.close(self.ours)


class ProgramTest(unittest.TestCase):
    """A fresh directory for each test; `program` is set by the script."""

    program = ""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory(prefix="ds_nvme_bench_")
        self.addCleanup(directory.cleanup)
        self.space = pathlib.Path(directory.name)
        self.disk = self.space / "disk"
        self.disk.mkdir()

    def bench(self, *words: Union[str, pathlib.Path], **options: Any) -> subprocess.CompletedProcess:
        return subprocess.run(
            [self.program, *map(str, words)], cwd=self.space, capture_output=True, text=True,
            timeout=120, check=False, **options)

    def start(self, *words: Union[str, pathlib.Path], **options: Any) -> subprocess.Popen:
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        process = subprocess.Popen([self.program, *map(str, words)], cwd=self.space, text=True,
                                   **options)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                self.addCleanup(stream.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def start_in_terminal(self, *words: Union[str, pathlib.Path]) -> tuple:
        """The process, and the terminal where its line is drawn as it goes."""
        terminal = Terminal()
        self.addCleanup(terminal.close)
        process = self.start(*words, stderr=terminal.its)
        os.close(terminal.its)
        return process, terminal

    def start_measuring(self, *words: Union[str, pathlib.Path]) -> tuple:
        """The same, once the line shows how much is moved."""
        process, terminal = self.start_in_terminal(*words)
        while "GB/s" not in terminal.shown:
            if not terminal.read():
                self.fail(f"it ended ({process.wait()}): {terminal.shown}")
        return process, terminal

    def end(self, process: subprocess.Popen, terminal: Terminal) -> tuple:
        """What it wrote to its standard output and showed in its terminal, until it ended."""
        while terminal.read():
            pass
        output, _ = process.communicate(timeout=60)
        return output, terminal.shown

    def read_until(self, process: subprocess.Popen, word: str) -> str:
        """What it says on its standard error, up to the line with `word`."""
        said = ""
        while word not in said:
            line = process.stderr.readline()
            if not line:
                self.fail(f"it ended ({process.wait()}) without \"{word}\": {said}")
            said += line
        return said

    def wait_for_files(self, process: subprocess.Popen) -> None:
        """Until the process has a deleted file open in our directory of its full size."""
        folder = pathlib.Path(f"/proc/{process.pid}/fd")
        while process.poll() is None:
            for link in folder.iterdir():
                try:
                    target = os.readlink(link)
                    if target.startswith(str(self.space)) and link.stat().st_size >= 8 << 20:
                        return
                except OSError:
                    continue  # closed meanwhile
        self.fail(f"it ended: {process.stderr.read()}")
