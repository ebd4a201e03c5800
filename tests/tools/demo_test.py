"""Holds that tools/demo.sh says what a newcomer has to wait for. Usage: demo_test.py REPOSITORY"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

REPOSITORY = pathlib.Path(sys.argv.pop())


class FirstBuild(unittest.TestCase):
    """The demo in a copy where setting up, building and training only say that they began."""

    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = pathlib.Path(directory.name)
        self.make_program("tools/setup.sh", "echo setting up")
        for name in ("cmake", "ninja"):
            self.make_program(f"programs/{name}", f"echo {name}")
        shutil.copy(REPOSITORY / "tools/demo.sh", self.directory / "tools")

    def make_program(self, name: str, body: str):
        file = self.directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"#!/bin/sh\n{body}\n")
        file.chmod(0o755)

    def lines_on(self, cores: int) -> list[str]:
        self.make_program("programs/nproc", f"echo {cores}")
        (self.directory / "text").write_text("text")
        path = f"{self.directory / 'programs'}:{os.environ['PATH']}"
        run = subprocess.run(["bash", self.directory / "tools/demo.sh", "--data", "text"],
                             cwd=self.directory, env={**os.environ, "PATH": path},
                             capture_output=True, text=True, timeout=60)
        return run.stdout.splitlines()

    def test_is_said_to_take_how_long_before_anything_begins(self):
        for cores, minutes in ((1, 10), (2, 5), (64, 2)):
            first, second = self.lines_on(cores)[:2]
            self.assertIn(f"the first build takes about {minutes} minutes on {cores} cores", first)
            self.assertEqual(second, "setting up")

    def test_is_not_spoken_of_when_it_has_been_done(self):
        self.make_program("build/release/bin/strata", "echo training")
        lines = self.lines_on(2)
        self.assertEqual((lines[0], lines[-1]), ("setting up", "training"))


if __name__ == "__main__":
    unittest.main()
