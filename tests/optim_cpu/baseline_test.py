"""Holds that no instruction set beyond the compiler's baseline is used outside the dispatched kernels: a
machine without AVX must be able to run everything else.

Usage: baseline_test.py ARCHIVE. Disassembles the archive; a function that uses registers of AVX must be
in the namespace of an instruction set. Skipped (77) on machines other than x86-64.
"""

import platform
import re
import subprocess
import sys
import unittest
from typing import Dict, List

FUNCTION = re.compile(r"^[0-9a-f]+ <(?P<name>.*)>:$")
WIDE_REGISTER = re.compile(r"%[yz]mm\d")
KERNELS = ("N_AVX2", "N_AVX3")

archive = sys.argv[1] if len(sys.argv) > 1 else ""


def functions_with_wide_registers() -> Dict[str, str]:
    """Their names, each with its first such instruction."""
    command = ["objdump", "--disassemble", "--demangle", "--no-show-raw-insn", archive]
    found: Dict[str, str] = {}
    name = ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if start := FUNCTION.match(line):
                name = start["name"]
            elif name not in found and WIDE_REGISTER.search(line):
                found[name] = line.strip()
    if process.returncode != 0:
        raise RuntimeError(f"objdump failed with {process.returncode}")
    return found


class Baseline(unittest.TestCase):
    def test_wide_registers_are_used_by_dispatched_kernels_only(self) -> None:
        functions = functions_with_wide_registers()
        kernels: List[str] = [name for name in functions if any(word in name for word in KERNELS)]
        self.assertGreater(len(kernels), 100, "the kernels have not been found")
        others = {name: line for name, line in functions.items() if name not in kernels}
        self.assertEqual(others, {})


if __name__ == "__main__":
    if platform.machine() != "x86_64":
        sys.exit(77)
    unittest.main(argv=sys.argv[:1])
