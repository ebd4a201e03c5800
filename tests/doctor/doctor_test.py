"""`strata doctor`, run as users run it.

Usage: doctor_test.py PROGRAM
"""

import json
import subprocess
import sys
import tempfile
import unittest

PROGRAM = sys.argv.pop()


def doctor(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run([PROGRAM, "doctor", *words], capture_output=True, text=True, timeout=60,
                          check=False)


class Doctor(unittest.TestCase):
    def test_says_what_it_found_of_machine_and_directory(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            result = doctor(directory, "--json")
        found = json.loads(result.stdout)
        self.assertEqual(result.returncode, 1 if found["problems"] else 0, result.stderr)
        machine, place = found["places"]
        self.assertEqual(place["place"], directory)
        checks = {finding["check"]: finding for finding in machine["findings"]}
        self.assertLess({"kernel", "io_uring", "memory", "libtorch", "ranks"}, set(checks))
        self.assertRegex(checks["libtorch"]["found"], r"built with \d+\.\d+")
        for finding in machine["findings"] + place["findings"]:
            self.assertEqual(finding["severity"] == "ok", finding["cure"] is None, finding)

    def test_exits_with_1_for_a_problem_and_2_for_a_command_line(self) -> None:
        result = doctor("/proc/no/such/place")
        self.assertEqual(result.returncode, 1)
        self.assertIn("mkdir -p '/proc/no/such/place'", result.stdout)
        self.assertEqual(doctor("--no-such-option").returncode, 2)
        self.assertEqual(doctor("").returncode, 2)


if __name__ == "__main__":
    unittest.main(verbosity=2)
