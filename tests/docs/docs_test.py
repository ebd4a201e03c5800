"""Holds what the documents say about files of the repository.

Usage: docs_test.py REPOSITORY
"""

import pathlib
import re
import shutil
import subprocess
import sys
import unittest

REPOSITORY = pathlib.Path(sys.argv.pop(1))
DOCUMENTS = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)[^)]*\)")


def text_of(path: str) -> str:
    return (REPOSITORY / path).read_text(encoding="utf-8")


class Readme(unittest.TestCase):
    def test_shows_the_minimal_example_as_it_is(self):
        self.assertIn(f"```cpp\n{text_of('examples/minimal.cpp')}```\n", text_of("README.md"))

    def test_names_programs_and_configs_that_exist(self):
        for path in re.findall(r"\b(?:tools|configs|examples)/[\w/.-]+\w", text_of("README.md")):
            with self.subTest(path):
                self.assertTrue((REPOSITORY / path).exists())

    def test_lists_the_packages_that_find_package_names_when_they_are_missing(self):
        named = set(re.findall(r"[\w.-]+-dev\b", text_of("cmake/StrataPackageSystem.cmake")))
        (line,) = re.findall(r"apt-get install (pkg-config .*)", text_of("README.md"))
        # The C library's comes with any compiler.
        self.assertEqual(set(line.split()) - {"pkg-config"}, named - {"libc6-dev"})


class Links(unittest.TestCase):
    def test_lead_to_files(self):
        for document in DOCUMENTS:
            for target in LINK.findall(document.read_text(encoding="utf-8")):
                if "://" in target:
                    continue
                with self.subTest(document=document.name, target=target):
                    self.assertTrue((document.parent / target).exists())


class WorkedExamples(unittest.TestCase):
    """A worked example in a header is indented in its comment; clang-format once reflowed some."""

    EXAMPLE = [
        "/// Prose.",
        "///",
        "///     engine.step();" + 60 * " " + "// a line that is far too long",
        "///     if (done) {",
        "///       break;",
        "///     }",
    ]

    def test_are_left_as_they_are_by_clang_format(self):
        clang_format = shutil.which("clang-format-14") or shutil.which("clang-format")
        if not clang_format:
            self.skipTest("clang-format is not installed; tools/setup.sh --test installs it")
        self.assertGreater(max(map(len, self.EXAMPLE)), self.column_limit())
        member = [f"  {line}" for line in self.EXAMPLE]
        header = "\n".join([*self.EXAMPLE, "struct Example {", *member, "  int number;", "};", ""])
        formatted = subprocess.run(
            [clang_format, f"--assume-filename={REPOSITORY / 'include/example.h'}"],
            input=header, check=True, capture_output=True, text=True).stdout
        self.assertEqual(formatted, header)

    def test_stay_within_the_columns_themselves(self):
        for header in sorted((REPOSITORY / "include").rglob("*.h")):
            for number, line in enumerate(header.read_text(encoding="utf-8").splitlines(), start=1):
                if re.match(r" *///? {4,}", line):
                    with self.subTest(f"{header.name}:{number}"):
                        self.assertLessEqual(len(line), self.column_limit())

    @staticmethod
    def column_limit() -> int:
        return int(re.findall(r"ColumnLimit: (\d+)", text_of(".clang-format"))[0])


class Decisions(unittest.TestCase):
    def test_are_all_in_the_index(self):
        index = text_of("docs/decisions/README.md")
        for record in sorted((REPOSITORY / "docs/decisions").glob("[0-9]*.md")):
            with self.subTest(record.name):
                self.assertIn(f"[{record.name[:4]}]({record.name})", index)


if __name__ == "__main__":
    unittest.main(verbosity=2)
