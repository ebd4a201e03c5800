"""What the machine and its disks give, as Python values and as `python -m strata` shows it.

Usage: machine_test.py PACKAGE_FOLDER
"""

import errno
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import unittest

from package import PackageTest, strata

PACKAGE = str(pathlib.Path(strata.__file__).parent.parent)
SMALL = {"seconds": 0.02, "file_size": "64MiB"}


def shown(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "strata", *map(str, arguments)], capture_output=True, text=True,
        check=False, env={**os.environ, "PYTHONPATH": PACKAGE},
    )


class Values(PackageTest):
    def test_the_machine_is_what_the_system_says(self):
        here = strata.machine()
        self.assertIn(here.instruction_set, here.instruction_sets)
        self.assertEqual(here.instruction_sets[-1], "SCALAR")
        self.assertGreaterEqual(here.threads, 1)
        self.assertLessEqual(here.threads, len(os.sched_getaffinity(0)))
        self.assertLessEqual(here.available_bytes, here.memory_bytes)

    def test_a_disk_is_what_the_system_says(self):
        found = strata.disk(self.disk)
        there = os.statvfs(self.disk)
        self.assertEqual(found.total_bytes, there.f_blocks * there.f_frsize)
        self.assertLessEqual(found.free_bytes, found.total_bytes)
        self.assertTrue(found.file_system)

    def test_speeds_are_measured_and_leave_nothing(self):
        other = self.space / "other"
        other.mkdir()
        speeds = strata.bench([self.disk, other], io="threads", beside_compute=True, **SMALL)
        self.assertGreater(speeds.read, 1e6)
        self.assertGreater(speeds.write, 1e6)
        self.assertLessEqual(speeds.overlap, 1)
        self.assertGreater(speeds.beside_compute, 0)
        self.assertIn("threads", speeds.engine)
        self.assertEqual(list(other.iterdir()), [])

    def test_the_time_of_both_ways_is_by_their_overlap(self):
        speeds = strata.DiskSpeeds(read=4e9, write=2e9, overlap=1, beside_compute=1, engine="")
        self.assertEqual(speeds.seconds(4e9, 4e9), 2)
        self.assertEqual(speeds._replace(overlap=0).seconds(4e9, 4e9), 3)

    def test_bad_arguments_are_refused(self):
        for arguments, words in (({"nvme": []}, "no directory"), ({"seconds": 0}, "seconds"),
                                 ({"io": "magic"}, "io_uring"), ({"file_size": "much"}, "much"),
                                 ({"file_size": "1MiB", "operation_size": "2MiB"}, "file")):
            with self.subTest(arguments), self.assertRaisesRegex(strata.ConfigError, words):
                strata.bench(**{"nvme": self.disk, **SMALL, **arguments})
        with self.assertRaises(strata.IoError) as caught:
            strata.bench(self.space / "nowhere", **SMALL)
        self.assertEqual(caught.exception.errno, errno.ENOENT)

    def test_ctrl_c_ends_a_measurement(self):
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
        with self.assertRaises(KeyboardInterrupt):
            strata.bench(self.disk, seconds=30, file_size="64MiB")


class Program(PackageTest):
    def test_shows_the_machine_and_the_speeds_of_directories(self):
        result = shown(self.disk, "--seconds", 0.02, "--file-size", "64MiB")
        self.assertEqual(result.returncode, 0, result.stderr)
        for words in ("kernels", "memory", "io_uring", str(self.disk), "read", "GB/s", "AdamW"):
            self.assertIn(words, result.stdout)

    def test_json_has_the_same_without_a_measurement(self):
        found = json.loads(shown("--json").stdout)
        self.assertEqual(found["machine"]["threads"], strata.machine().threads)
        self.assertEqual((found["disks"], found["speeds"]), ({}, None))

    def test_an_error_is_a_line_and_a_code(self):
        result = shown(self.space / "nowhere")
        self.assertEqual(result.returncode, 1)
        self.assertRegex(result.stderr, r"\Astrata: .*nowhere.*\n\Z")


if __name__ == "__main__":
    unittest.main(verbosity=2)
