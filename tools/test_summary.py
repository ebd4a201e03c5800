"""Sums up the tests of several runs of ctest: names what was skipped and why, and counts.

Usage: test_summary.py [--more-failures N] REPORT.xml...

A REPORT is what `ctest --output-junit` writes; its file name names the run. What ctest could not run,
though nobody skipped it, counts as failed. Tests within a Python script that were skipped count, when
the script prints them (`unittest.main(verbosity=2)`). N failures are added: of steps that have no
report. Prints one line for each skipped test, and the counts last.
"""

import argparse
import ast
import pathlib
import re
import xml.etree.ElementTree as xml
from typing import Iterator, NamedTuple

GTEST_SKIP = re.compile(r"^\S+:\d+: Skipped\n(.+?)\n(?:\n|\[  SKIPPED \])", re.MULTILINE | re.DOTALL)
UNITTEST_SKIP = re.compile(r"^(\w+) \(.*\)(?:\n.*)? \.\.\. skipped ('.*'|\".*\")$", re.MULTILINE)


class Skip(NamedTuple):
    test: str
    reason: str


class Counts(NamedTuple):
    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def on_one_line(text: str) -> str:
    return " ".join(text.split())


def reason_in(output: str) -> str:
    """Why a test was skipped as a whole: GoogleTest's message, or the last line of a script."""
    messages = GTEST_SKIP.findall(output)
    if messages:
        return on_one_line(" ".join(dict.fromkeys(messages)))
    lines = output.strip().splitlines() or ["it gives no reason"]
    return on_one_line(lines[-1]).removeprefix("skipped: ")


def skips_of(case: xml.Element) -> Iterator[Skip]:
    name = case.get("name", "")
    output = case.findtext("system-out") or ""
    skipped = case.find("skipped")
    if case.get("status") == "disabled":
        yield Skip(name, "it is disabled")
    elif skipped is not None and skipped.get("message", "").startswith("SKIP_"):
        yield Skip(name, reason_in(output))
    elif case.get("status") == "run":
        for part, reason in UNITTEST_SKIP.findall(output):
            yield Skip(f"{name}.{part}", on_one_line(ast.literal_eval(reason)))


def summarize(reports: list[pathlib.Path]) -> tuple[list[str], Counts]:
    """A line for each skipped test, and the counts of all runs together."""
    runs_of: dict[Skip, list[str]] = {}
    passed = failed = skipped = 0
    for report in reports:
        for case in xml.parse(report).getroot().iter("testcase"):
            skips = list(skips_of(case))
            for skip in skips:
                runs_of.setdefault(skip, []).append(report.stem)
            skipped += len(skips)
            if case.get("status") == "run":
                passed += 1
            elif not skips:
                failed += 1
    lines = [f"skipped in {', '.join(runs)}: {skip.test}: {skip.reason}"
             for skip, runs in runs_of.items()]
    return lines, Counts(passed, failed, skipped)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--more-failures", type=int, default=0)
    parser.add_argument("reports", nargs="*", type=pathlib.Path)
    arguments = parser.parse_args()
    lines, counts = summarize(arguments.reports)
    print(*lines, counts._replace(failed=counts.failed + arguments.more_failures), sep="\n")


if __name__ == "__main__":
    main()
