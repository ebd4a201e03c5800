"""What the tests of the `ds_nvme_bench` program share: a directory to measure in, and running it."""

import os
import pathlib
import subprocess
import tempfile
import unittest
from typing import Any, Union

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

QUICK = ["--size=8M", "--runtime=200ms", "--ramp-time=0"]


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
        options.setdefault("stderr", subprocess.PIPE)
        process = subprocess.Popen(
            [self.program, *map(str, words)], cwd=self.space, stdout=subprocess.PIPE, text=True,
            **options)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                self.addCleanup(stream.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

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
