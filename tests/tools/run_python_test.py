"""Holds that a test in Python is never skipped for the order of configuring and installing.

Usage: run_python_test.py REPOSITORY CMAKE CTEST
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

CTEST = sys.argv.pop()
CMAKE = sys.argv.pop()
REPOSITORY = pathlib.Path(sys.argv.pop())

PROJECT = """
cmake_minimum_required(VERSION 3.22)
project(OnePythonTest LANGUAGES NONE)
enable_testing()
include(cmake/StrataPythonTest.cmake)
strata_add_python_test(NAME needs_the_environment SCRIPT script.py ARGS "one argument" two)
"""

SCRIPT = """
import sys
assert sys.argv[1:] == ["one argument", "two"], sys.argv
try:
    import installed_in_the_environment
except ImportError:
    sys.exit(77)
"""


class PythonOfATest(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.project = pathlib.Path(directory.name) / "a project"
        for file in ("cmake/StrataPythonTest.cmake", "tests/run_python.sh"):
            (self.project / file).parent.mkdir(parents=True)
            shutil.copy(REPOSITORY / file, self.project / file)
        (self.project / "CMakeLists.txt").write_text(PROJECT)
        (self.project / "script.py").write_text(SCRIPT)

    def environment(self) -> pathlib.Path:
        return self.project / ".deps/test-venv"

    def configure(self):
        subprocess.run([CMAKE, "-S", self.project, "-B", self.project / "build"],
                       check=True, capture_output=True, timeout=60)

    def make_environment(self):
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", self.environment()],
                       check=True, timeout=60)
        (packages,) = self.environment().glob("lib/python*/site-packages")
        (packages / "installed_in_the_environment.py").touch()

    def outcome(self) -> str:
        run = subprocess.run([CTEST, "--test-dir", self.project / "build"],
                             capture_output=True, text=True, timeout=60)
        for outcome in ("Skipped", "Passed"):
            if outcome in run.stdout:
                return outcome
        return run.stdout + run.stderr

    def test_is_the_environments_when_that_was_made_before_the_build_was_configured(self):
        self.make_environment()
        self.configure()
        self.assertEqual(self.outcome(), "Passed")

    def test_is_the_environments_when_that_was_made_after_the_build_was_configured(self):
        self.configure()
        self.assertEqual(self.outcome(), "Skipped")
        self.make_environment()
        self.assertEqual(self.outcome(), "Passed")

    def test_is_that_on_path_when_the_environment_is_gone_or_half_made(self):
        self.make_environment()
        self.configure()
        (self.environment() / "bin/python3").unlink()
        self.assertEqual(self.outcome(), "Skipped")
        shutil.rmtree(self.environment())
        self.assertEqual(self.outcome(), "Skipped")


if __name__ == "__main__":
    unittest.main()
