"""The wheel of the Python package, as somebody gets it who has no compiler.

Usage: wheel_test.py COMPILER [unittest's arguments]
"""

import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
import zipfile

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
COMPILER = sys.argv.pop(1)

for module in ("torch", "scikit_build_core", "nanobind", "auditwheel", "mypy"):
    if not importlib.util.find_spec(module):
        print(f"skipped: there is no {module}; tools/setup.sh --test installs what is missing")
        sys.exit(77)

STEP = """
import pathlib, shutil, sys, tempfile
assert shutil.which("c++") is None and shutil.which("cc") is None
import strata, torch
assert pathlib.Path(strata.__file__).is_relative_to(sys.prefix), strata.__file__
pair = [torch.nn.Parameter(torch.linspace(-1, 1, 1_000_000)) for _ in range(2)]
for each in pair:
    each.grad = torch.ones_like(each)
with tempfile.TemporaryDirectory() as disk:
    own = strata.AdamW(pair[:1], lr=1e-2, nvme=disk, host_budget="5MiB", window_elements=65536)
    own.step()
    assert own.usage().states_on_nvme > 0
    own.close()
torch.optim.AdamW(pair[1:], lr=1e-2).step()
torch.testing.assert_close(pair[0], pair[1], rtol=1e-6, atol=1e-7)
"""


class Metadata(unittest.TestCase):
    def test_names_the_version_of_the_library_and_the_oldest_torch_and_python(self):
        with tempfile.TemporaryDirectory() as space:
            script = "import sys; from scikit_build_core import build as b; " \
                     "b.prepare_metadata_for_build_wheel(sys.argv[1])"
            subprocess.run([sys.executable, "-c", script, space], cwd=REPOSITORY, check=True,
                           capture_output=True)
            (file,) = pathlib.Path(space).glob("*.dist-info/METADATA")
            lines = file.read_text(encoding="utf-8").splitlines()
        project = (REPOSITORY / "CMakeLists.txt").read_text(encoding="utf-8")
        version = re.search(r"project\(Strata VERSION (\S+)", project)[1]
        for line in ("Name: strata", f"Version: {version}", "Requires-Dist: torch>=2.4",
                     "Requires-Python: >=3.9"):
            self.assertIn(line, lines)


class Types(unittest.TestCase):
    def test_are_whole_and_hold_within_the_package(self):
        checked = subprocess.run(
            [sys.executable, "-m", "mypy", "--strict", "--cache-dir", os.devnull, "python/strata"],
            cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.assertEqual(checked.returncode, 0, checked.stdout)


class Wheel(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.space = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        environment = {**os.environ, "STRATA_PYTHON": sys.executable, "CXX": COMPILER}
        built = subprocess.run([REPOSITORY / "tools" / "build_wheel.sh", cls.space / "dist"],
                               env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               text=True)
        if built.returncode:
            raise AssertionError(f"build_wheel.sh failed:\n{built.stdout[-4000:]}")
        (cls.wheel,) = (cls.space / "dist").iterdir()

    def test_is_for_every_later_python_where_there_is_such_an_interface(self):
        major, minor = sys.version_info[:2]
        tag = "cp312-abi3" if minor >= 12 else f"cp{major}{minor}-cp{major}{minor}"
        self.assertIn(f"-{tag}-manylinux_", self.wheel.name)

    def test_holds_the_package_and_its_libraries_and_nothing_else(self):
        with zipfile.ZipFile(self.wheel) as wheel:
            names = wheel.namelist()
        sources = (REPOSITORY / "python" / "strata").iterdir()
        for name in [file.name for file in sources if file.suffix in (".py", ".pyi", ".typed")]:
            self.assertIn(f"strata/{name}", names)
        self.assertEqual({name.split("/")[0].split("-")[0] for name in names},
                         {"strata", "strata.libs"})

    def test_is_built_of_nothing_that_it_does_not_need(self):
        (build,) = (REPOSITORY / "build").glob(
            "wheel-cp312-abi3-*" if sys.version_info >= (3, 12) else
            f"wheel-cp{sys.version_info[0]}{sys.version_info[1]}-*")
        objects = [file.relative_to(build).parts for file in build.rglob("*.cpp.o")]
        self.assertEqual({parts[1] if parts[0] == "src" else parts[0] for parts in objects},
                         {"base", "aio", "tiering", "optim_cpu", "formats", "python"})

    def test_runs_a_step_in_a_fresh_environment_without_a_compiler(self):
        venv = self.space / "venv"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
        python = venv / "bin" / "python"
        (packages,) = venv.glob("lib/python*/site-packages")
        torch = importlib.util.find_spec("torch").submodule_search_locations[0]
        (packages / "torch.pth").write_text(f"{pathlib.Path(torch).parent}\n", encoding="utf-8")
        # Without an index: nothing but torch may be asked for.
        subprocess.run([sys.executable, "-m", "pip", "--python", python, "install", "--quiet",
                        "--no-index", "--disable-pip-version-check", self.wheel], check=True)
        nothing = self.space / "empty"
        nothing.mkdir()
        ran = subprocess.run([python, "-c", STEP], cwd=nothing, env={"PATH": str(nothing)},
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.assertEqual(ran.returncode, 0, ran.stdout)

        (module,) = (packages / "strata").glob("_core*.so")
        needed = subprocess.run([shutil.which("ldd"), module], check=True, stdout=subprocess.PIPE,
                                text=True).stdout
        self.assertNotRegex(needed, r"libtorch|libc10|not found")
        for library in ("libtbb", "libhwloc", "liburing", "libaio", "libxxhash", "libhwy"):
            bundled = rf"{library}\S* => {re.escape(str(packages))}/\S*strata\.libs/"
            self.assertRegex(needed, bundled)


if __name__ == "__main__":
    unittest.main()
