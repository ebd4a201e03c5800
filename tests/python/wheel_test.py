"""tools/build_wheel.sh makes a wheel that works where nothing but torch is.

Usage: wheel_test.py REPOSITORY
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import unittest
import zipfile

REPOSITORY = pathlib.Path(sys.argv.pop(1))
try:
    import nanobind  # noqa: F401
    import scikit_build_core  # noqa: F401
    import torch  # noqa: F401
except ImportError as error:
    print(f"skipped: {error}; tools/setup.sh --test installs what is missing")
    sys.exit(77)

PROGRAM = """
import torch, strata
weight = torch.nn.Parameter(torch.ones(100))
optimizer = strata.AdamW([weight], lr=0.1, nvme={disk!r}, host_budget="4MiB")
weight.square().sum().backward()
optimizer.step()
assert bool((weight < 1).all())
print(strata.__file__)
"""


class Wheel(unittest.TestCase):
    def test_is_built_and_trains(self):
        with tempfile.TemporaryDirectory() as space:
            built = subprocess.run(
                [REPOSITORY / "tools/build_wheel.sh", space],
                env={**os.environ, "PYTHON": sys.executable},
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )
            self.assertEqual(built.returncode, 0, built.stdout)
            (wheel,) = pathlib.Path(space).glob("strata-0.1.0-*.whl")
            with zipfile.ZipFile(wheel) as archive:
                names = set(archive.namelist())
                archive.extractall(f"{space}/site")
            for name in ("__init__.py", "_core.pyi", "_optimizer.py", "_rules.py", "py.typed"):
                self.assertIn(f"strata/{name}", names)
            self.assertFalse([n for n in names if not n.startswith(("strata/", "strata-"))])
            ran = subprocess.run(
                [sys.executable, "-c", PROGRAM.format(disk=space)], cwd=space,
                env={"PYTHONPATH": f"{space}/site"},
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )
            self.assertEqual(ran.returncode, 0, ran.stdout)
            self.assertIn(f"{space}/site/strata", ran.stdout)


if __name__ == "__main__":
    unittest.main()
