"""Holds that the last lines of tools/test.sh name every skipped test with its reason.

Usage: test_summary_test.py REPOSITORY CMAKE CTEST. The reports are those of a real ctest.
"""

import pathlib
import subprocess
import sys
import tempfile
import unittest

CTEST = sys.argv.pop()
CMAKE = sys.argv.pop()
SUMMARY = pathlib.Path(sys.argv.pop()) / "tools/test_summary.py"

PROJECT = """
cmake_minimum_required(VERSION 3.22)
project(Tests LANGUAGES NONE)
enable_testing()
function(add name)
  add_test(NAME ${name} COMMAND ${ARGN})
  set_tests_properties(${name} PROPERTIES SKIP_RETURN_CODE 77)
endfunction()
add(passes "@PYTHON@" -c "print('[  SKIPPED ] is only said')")
add(fails "@PYTHON@" -c "raise SystemExit(1)")
add(is_not_there /no/such/program)
add(script_skips "@PYTHON@" script.py)
add(disk.1_of_2 "@PYTHON@" googletest.py)
add(disk.2_of_2 "@PYTHON@" crash.py)
add(skips_without_a_word "@PYTHON@" -c "raise SystemExit(77)")
add(passes_in_part "@PYTHON@" parts.py)
add(is_disabled "@PYTHON@" -c "")
set_tests_properties(is_disabled PROPERTIES DISABLED ON)
set_tests_properties(script_skips disk.1_of_2 disk.2_of_2 passes_in_part PROPERTIES
                     WORKING_DIRECTORY "${CMAKE_SOURCE_DIR}")
"""

SCRIPT = """
print("looking for it")
print("skipped: no module named 'x'; tools/setup.sh --test installs it")
raise SystemExit(77)
"""

GOOGLETEST = """
print('''[==========] Running 4 tests from 1 test suite.
[ RUN      ] Disk.reads
[       OK ] Disk.reads (0 ms)
[ RUN      ] Disk.is_full
/source/disk_test.cpp:90: Skipped
mounting a file system
needs root

/source/disk_test.cpp:91: Skipped
no loop device

[  SKIPPED ] Disk.is_full (0 ms)
[ RUN      ] Disk.writes/fast
/source/disk_test.cpp:12: Failure
[  FAILED  ] Disk.writes/fast, where GetParam() = 3 (4 ms)
[ RUN      ] Disk.writes/slow
[       OK ] Disk.writes/slow (4 ms)
[==========] 4 tests from 1 test suite ran. (8 ms total)
[  FAILED  ] 1 test, listed below:
[  FAILED  ] Disk.writes/fast, where GetParam() = 3''')
raise SystemExit(1)
"""

CRASH = """
print('''[ RUN      ] Disk.opens
[       OK ] Disk.opens (0 ms)
[ RUN      ] Disk.closes''')
raise SystemExit(139)
"""

PARTS = """
import os
import unittest

class Parts(unittest.TestCase):
    def test_runs(self):
        print("much output " * 10000)

    @unittest.skip("root isn't refused")
    def test_as_root(self):
        pass

    @unittest.skip('neither "this" isn\\'t\\nthere')
    def test_in_two_lines(self):
        "Has a title of its own."

unittest.main(verbosity=2)
"""


class Summary(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        cls.directory = pathlib.Path(directory.name)
        for file, text in {"CMakeLists.txt": PROJECT.replace("@PYTHON@", sys.executable),
                           "script.py": SCRIPT, "googletest.py": GOOGLETEST,
                           "crash.py": CRASH, "parts.py": PARTS}.items():
            (cls.directory / file).write_text(text)
        subprocess.run([CMAKE, "-S", cls.directory, "-B", cls.directory / "build"],
                       check=True, capture_output=True, timeout=60)
        for run in ("release", "asan"):
            subprocess.run([CTEST, "--test-dir", cls.directory / "build",
                            "--test-output-size-passed", "1000000",
                            "--output-junit", cls.directory / f"{run}.xml"],
                           capture_output=True, timeout=60)

    def summary(self, *arguments: str) -> list[str]:
        run = subprocess.run([sys.executable, SUMMARY, *arguments], cwd=self.directory,
                             check=True, capture_output=True, text=True, timeout=60)
        return run.stdout.splitlines()

    def test_names_every_skipped_test_with_its_reason(self):
        self.assertEqual(sorted(self.summary("release.xml")[:-1]), [
            "skipped in release: disk.Disk.is_full: mounting a file system needs root no loop device",
            "skipped in release: is_disabled: it is disabled",
            "skipped in release: passes_in_part.test_as_root: root isn't refused",
            'skipped in release: passes_in_part.test_in_two_lines: neither "this" isn\'t there',
            "skipped in release: script_skips: no module named 'x'; "
            "tools/setup.sh --test installs it",
            "skipped in release: skips_without_a_word: it gives no reason",
        ])

    def test_counts_last_and_takes_for_failed_what_could_not_be_run(self):
        self.assertEqual(self.summary("release.xml")[-1], "5 passed, 4 failed, 6 skipped")

    def test_names_a_test_once_with_all_runs_that_skipped_it(self):
        lines = self.summary("release.xml", "asan.xml")
        self.assertEqual(len(lines), 7)
        self.assertIn("skipped in release, asan: is_disabled: it is disabled", lines)
        self.assertEqual(lines[-1], "10 passed, 8 failed, 12 skipped")

    def test_adds_the_failures_that_have_no_report(self):
        self.assertEqual(self.summary("--more-failures", "3"), ["0 passed, 3 failed, 0 skipped"])


if __name__ == "__main__":
    unittest.main()
