"""Holds what find_package(Strata) promises to a project that uses an installed Strata.
Usage: find_package_test.py PREFIX CMAKE GENERATOR [LIBTORCH]

PREFIX is where Strata is installed; LIBTORCH the prefix of the LibTorch that it was built with, not
given for a Strata without. Each test configures a small project and compiles nothing.
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

PREFIX, CMAKE, GENERATOR = sys.argv[1:4]
LIBTORCH = sys.argv[4] if len(sys.argv) > 4 else None
del sys.argv[1:]


# A test of a package of the other kind is none of this run: it is left out, not skipped.
def needs_torch(test):
    return test if LIBTORCH else None


def needs_no_torch(test):
    return None if LIBTORCH else test


# Programs that are configured, never built.
USES_CORE = "add_executable(program main.cpp)\ntarget_link_libraries(program strata::aio)\n"
USES_TORCH = "add_executable(program main.cpp)\ntarget_link_libraries(program strata::zero3)\n"


def built_version():
    header = pathlib.Path(LIBTORCH, "include/torch/headeronly/version.h")
    if not header.exists():
        header = pathlib.Path(LIBTORCH, "include/torch/csrc/api/include/torch/version.h")
    return re.findall(r"#define TORCH_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", header.read_text())


class FindPackage(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = pathlib.Path(directory.name)
        self.source = self.directory / "source"
        self.source.mkdir()
        (self.source / "main.cpp").write_text("int main() {}\n")

    def configure(self, text, *arguments, languages="CXX", environment=None):
        """Runs CMake over a project of that text; gives its exit status and its words."""
        (self.source / "CMakeLists.txt").write_text(
            f"cmake_minimum_required(VERSION 3.22)\nproject(User LANGUAGES {languages})\n{text}"
        )
        clean = {k: v for k, v in os.environ.items() if k not in ("STRATA_TORCH", "LIBTORCH")}
        done = subprocess.run(
            [CMAKE, "-S", self.source, "-B", self.directory / "build", "-G", GENERATOR]
            + [f"-DCMAKE_PREFIX_PATH={PREFIX}", *arguments],
            env=clean | (environment or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.output = " ".join(done.stdout.split())  # CMake breaks lines where it likes
        return done.returncode

    def assert_configures(self, *arguments, **options):
        self.assertEqual(self.configure(*arguments, **options), 0, self.output)

    def assert_refused(self, *arguments, **options):
        self.assertNotEqual(self.configure(*arguments, **options), 0, self.output)

    def assert_says(self, *words):
        for each in words:
            self.assertIn(each, self.output)

    def fake_libtorch(self, version, with_config=False):
        """A prefix that looks like a LibTorch of that version, as far as CMake looks."""
        prefix = self.directory / f"libtorch-{version}"
        header = prefix / "include/torch/headeronly/version.h"
        header.parent.mkdir(parents=True)
        major, minor, patch = version.split(".")
        header.write_text(
            f"#define TORCH_VERSION_MAJOR {major}\n#define TORCH_VERSION_MINOR {minor}\n"
            f"#define TORCH_VERSION_PATCH {patch}\n"
        )
        (prefix / "include/torch/csrc/api/include").mkdir(parents=True)
        (prefix / "lib").mkdir()
        for library in ("torch_cpu", "c10"):
            (prefix / f"lib/lib{library}.so").write_text("std::__cxx11::basic_string\n")
        config = prefix / "share/cmake/Torch/TorchConfig.cmake"
        config.parent.mkdir(parents=True)
        config.write_text("add_library(torch INTERFACE IMPORTED)\nset(TORCH_LIBRARIES torch)\n")
        return prefix

    # ---- what is missing ----------------------------------------------------------------------

    def test_every_missing_package_is_named_with_what_to_install(self):
        empty = self.directory / "empty"
        empty.mkdir()
        self.assert_refused(
            "find_package(Strata REQUIRED)\n",
            "-DCMAKE_DISABLE_FIND_PACKAGE_TBB=ON",
            "-DCMAKE_DISABLE_FIND_PACKAGE_nlohmann_json=ON",
            environment={"PKG_CONFIG_LIBDIR": str(empty), "PKG_CONFIG_PATH": ""},
        )
        self.assert_says("libtbb-dev", "nlohmann-json3-dev", "liburing-dev", "libhwloc-dev")
        self.assert_says("libhwy-dev", "libxxhash-dev", "zlib1g-dev", "Strata_FOUND to FALSE")
        self.assertNotIn("libaio-dev", self.output)

    def test_missing_libraries_without_pkg_config_files_are_named(self):
        self.assert_refused(
            "set(CMAKE_FIND_LIBRARY_PREFIXES none)\nfind_package(Strata REQUIRED)\n"
        )
        self.assert_says("libaio-dev")

    def test_a_missing_pkg_config_is_named_rather_than_what_it_would_find(self):
        self.assert_refused(
            "find_package(Strata REQUIRED)\n", "-DCMAKE_DISABLE_FIND_PACKAGE_PkgConfig=ON"
        )
        self.assert_says("pkg-config")
        self.assertNotIn("liburing", self.output)

    def test_quiet_is_quiet_and_the_project_goes_on(self):
        self.assert_configures(
            "set(LIBTORCH /nowhere)\nfind_package(Strata QUIET COMPONENTS torch cuda)\n"
            'if(Strata_FOUND)\n  message(FATAL_ERROR "found")\nendif()\n'
            'file(WRITE ${CMAKE_BINARY_DIR}/why "${Strata_NOT_FOUND_MESSAGE}")\n',
            "-DCMAKE_DISABLE_FIND_PACKAGE_TBB=ON",
        )
        for word in ("Strata", "TBB", "LibTorch", "Warning"):
            self.assertNotIn(word, self.output)
        why = (self.directory / "build/why").read_text()
        for word in ("libtbb-dev", "cuda", "LibTorch"):
            self.assertIn(word, why)

    def test_without_required_the_project_goes_on_with_a_warning(self):
        self.assert_configures(
            'find_package(Strata)\nmessage(STATUS "goes on: ${Strata_FOUND}")\n',
            "-DCMAKE_DISABLE_FIND_PACKAGE_TBB=ON",
        )
        self.assert_says("libtbb-dev", "goes on: 0")

    def test_a_project_without_cxx_is_told_so(self):
        self.assert_refused("find_package(Strata REQUIRED)\n", languages="NONE")
        self.assert_says("LANGUAGES CXX")

    # ---- components ---------------------------------------------------------------------------

    def test_an_unknown_component_is_named(self):
        self.assert_refused("find_package(Strata REQUIRED COMPONENTS zero3)\n")
        self.assert_says("no component 'zero3'", "strata::zero3")

    def test_an_unknown_optional_component_is_left_out(self):
        self.assert_configures(
            "find_package(Strata REQUIRED OPTIONAL_COMPONENTS cuda)\n"
            'message(STATUS "cuda: ${Strata_cuda_FOUND}")\n' + USES_CORE
        )
        self.assert_says("cuda: FALSE", "no component 'cuda'")

    def test_linking_what_the_component_brings_without_it_says_what_to_write(self):
        self.assert_refused("find_package(Strata REQUIRED)\n" + USES_TORCH)
        self.assert_says("program: strata::zero3")
        if LIBTORCH:
            self.assert_says("find_package(Strata REQUIRED COMPONENTS torch)")
        else:
            self.assert_says("was built without LibTorch")
        self.assertNotIn("target was not found", self.output)

    def test_linking_it_in_a_directory_below_says_so_too(self):
        below = self.source / "below"
        below.mkdir()
        (below / "CMakeLists.txt").write_text(
            "add_library(inner INTERFACE)\ntarget_link_libraries(inner INTERFACE strata::models)\n"
        )
        self.assert_refused("find_package(Strata)\nadd_subdirectory(below)\n")
        self.assert_says("inner: strata::zero3, strata::cpu_adam, strata::models")

    def test_below_libtorch_nothing_looks_for_it(self):
        self.assert_configures(
            "set(LIBTORCH /nowhere)\nfind_package(Strata REQUIRED)\n"
            'if(TARGET strata::torch OR TARGET strata::zero3)\n  message(FATAL_ERROR "torch")\n'
            "endif()\n" + USES_CORE
        )

    @needs_no_torch
    def test_a_package_without_the_component_says_how_it_was_built(self):
        self.assert_refused("find_package(Strata REQUIRED COMPONENTS torch)\n")
        self.assert_says("was built without LibTorch", "STRATA_WITH_TORCH=OFF")
        self.assert_configures(
            "find_package(Strata REQUIRED OPTIONAL_COMPONENTS torch)\n"
            'message(STATUS "torch: ${Strata_torch_FOUND}")\n' + USES_CORE
        )
        self.assert_says("torch: FALSE", "was built without LibTorch")

    # ---- LibTorch -----------------------------------------------------------------------------

    @needs_torch
    def test_the_libtorch_that_it_was_built_with_is_remembered(self):
        other = self.fake_libtorch(".".join(built_version()))
        self.assert_configures(
            "find_package(Strata REQUIRED COMPONENTS torch)\n" + USES_TORCH,
            environment={"LIBTORCH": str(other), "PATH": "/usr/bin:/bin"},
        )
        self.assert_says(f"Found LibTorch {'.'.join(built_version())}: {LIBTORCH}")

    @needs_torch
    def test_another_of_the_same_version_is_taken_when_it_is_named(self):
        major, minor, patch = built_version()
        other = self.fake_libtorch(f"{major}.{minor}.{int(patch) + 1}")
        for name in (f"-DLIBTORCH={other}", f"-DTorch_DIR={other}/share/cmake/Torch"):
            self.assert_configures(
                "find_package(Strata REQUIRED COMPONENTS torch)\n" + USES_TORCH,
                name,
                "-ULIBTORCH" if "Torch_DIR" in name else "-UTorch_DIR",
            )
            self.assert_says(f": {other}")

    @needs_torch
    def test_another_version_is_refused_with_both_named(self):
        major, minor, patch = built_version()
        other = self.fake_libtorch(f"{major}.{int(minor) + 1}.0")
        self.assert_refused(
            "find_package(Strata REQUIRED COMPONENTS torch)\n", f"-DLIBTORCH={other}"
        )
        self.assert_says(
            f"built with LibTorch {major}.{minor}.{patch}", LIBTORCH, f"{major}.{int(minor) + 1}.0"
        )
        self.assert_configures(
            "find_package(Strata REQUIRED OPTIONAL_COMPONENTS torch)\n"
            'message(STATUS "torch: ${Strata_torch_FOUND}")\n' + USES_CORE,
            "-ULIBTORCH",
            f"-DTorch_DIR={other}/share/cmake/Torch",
        )
        self.assert_says("torch: FALSE", f"Torch_DIR={other}")

    @needs_torch
    def test_a_directory_that_is_no_libtorch_is_refused(self):
        self.assert_refused(
            "find_package(Strata REQUIRED COMPONENTS torch)\n", "-DLIBTORCH=/nowhere"
        )
        self.assert_says("-DLIBTORCH=/nowhere names no LibTorch", LIBTORCH)

    @needs_torch
    def test_one_whose_strings_are_old_is_refused(self):
        other = self.fake_libtorch(".".join(built_version()))
        (other / "lib/libc10.so").write_text("std::basic_string\n")
        self.assert_refused(
            "find_package(Strata REQUIRED COMPONENTS torch)\n", f"-DLIBTORCH={other}"
        )
        self.assert_says("old C++ string ABI")

    @needs_torch
    def test_find_package_torch_may_come_before_or_after(self):
        same = self.fake_libtorch(".".join(built_version()))
        find = ["find_package(Torch REQUIRED)\n", "find_package(Strata REQUIRED COMPONENTS torch)\n"]
        link = USES_TORCH + "target_link_libraries(program ${TORCH_LIBRARIES})\n"
        # Before: Strata follows it. After: the project has to name the same one.
        where = f"-DCMAKE_PREFIX_PATH={PREFIX};{same}"
        self.assert_configures("".join(find) + link, where)
        self.assert_says(f": {same}")
        self.assertNotIn("Warning", self.output)
        reverse = "".join(reversed(find)) + link
        self.assert_configures(reverse, where, "-UTorch_DIR", f"-DLIBTORCH={same}")
        self.assertNotIn("Warning", self.output)
        self.assert_configures(reverse, where, "-UTorch_DIR", "-ULIBTORCH")
        self.assert_says("Warning", LIBTORCH, str(same))

    @needs_torch
    def test_a_second_call_may_add_the_component(self):
        self.assert_configures(
            "find_package(Strata REQUIRED)\nfind_package(Strata REQUIRED COMPONENTS torch)\n"
            "find_package(Strata REQUIRED COMPONENTS torch)\n" + USES_TORCH
        )


if __name__ == "__main__":
    unittest.main()
