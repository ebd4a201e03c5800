"""Sums up the tests of several runs of ctest: names what was skipped and why, and counts.

Usage: test_summary.py [--more-failures N] REPORT.xml...

A REPORT is what `ctest --output-junit` writes; its file name names the run. What ctest could not run,
though nobody skipped it, counts as failed. Of a GoogleTest program all tests count that it prints. Tests
within a Python script that were skipped count, when the script prints them
(`unittest.main(verbosity=2)`). N failures are added: of steps that have no
report. Prints one line for each skipped test, and the counts last.
"""

import argparse
import ast
import pathlib
import re
import xml.etree.ElementTree as xml
from typing import NamedTuple, Optional

GTEST_TEST = re.compile(r"^\[ RUN      \] (\S+)\n(.*?)^\[ +(OK|FAILED|SKIPPED) +\] \1\b[^\n]*\(\d+ ms\)$",
                        re.MULTILINE | re.DOTALL)
GTEST_SKIP = re.compile(r"^\S+:\d+: Skipped\n(.+?)\n$", re.MULTILINE | re.DOTALL)
UNITTEST_SKIP = re.compile(r"^(\w+) \(.*\)(?:\n.*)? \.\.\. skipped ('.*'|\".*\")$", re.MULTILINE)


class Skip(NamedTuple):
    test: str
    reason: str


class Outcome(NamedTuple):
    passed: int
    failed: int
    skips: list[Skip]


class Counts(NamedTuple):
    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def on_one_line(text: str) -> str:
    return " ".join(text.split())


def last_line(output: str) -> str:
    """What a script that skips itself says at last, which is why."""
    lines = output.strip().splitlines() or ["it gives no reason"]
    return on_one_line(lines[-1]).removeprefix("skipped: ")


def of_googletest(case: xml.Element) -> Optional[Outcome]:
    """The tests that a GoogleTest program ran as one test of ctest; none if it is no such program."""
    program = case.get("name", "").partition(".")[0]
    results = [(name, result, log) for name, log, result
               in GTEST_TEST.findall(case.findtext("system-out") or "")]
    if not results:
        return None
    failed = sum(result == "FAILED" for _, result, _ in results)
    if case.get("status") == "fail" and failed == 0:
        failed = 1  # it crashed, or ran out of time
    skips = [Skip(f"{program}.{name}", on_one_line(" ".join(dict.fromkeys(GTEST_SKIP.findall(log)))))
             for name, result, log in results if result == "SKIPPED"]
    return Outcome(sum(result == "OK" for _, result, _ in results), failed, skips)


def of_script(case: xml.Element) -> Outcome:
    name = case.get("name", "")
    output = case.findtext("system-out") or ""
    skipped = case.find("skipped")
    if case.get("status") == "disabled":
        return Outcome(0, 0, [Skip(name, "it is disabled")])
    if skipped is not None and skipped.get("message", "").startswith("SKIP_"):
        return Outcome(0, 0, [Skip(name, last_line(output))])
    if case.get("status") != "run":
        return Outcome(0, 1, [])
    return Outcome(1, 0, [Skip(f"{name}.{part}", on_one_line(ast.literal_eval(reason)))
                          for part, reason in UNITTEST_SKIP.findall(output)])


def summarize(reports: list[pathlib.Path]) -> tuple[list[str], Counts]:
    """A line for each skipped test, and the counts of all runs together."""
    runs_of: dict[Skip, list[str]] = {}
    passed = failed = skipped = 0
    for report in reports:
        for case in xml.parse(report).getroot().iter("testcase"):
            outcome = of_googletest(case) or of_script(case)
            for skip in outcome.skips:
                runs_of.setdefault(skip, []).append(report.stem)
            passed += outcome.passed
            failed += outcome.failed
            skipped += len(outcome.skips)
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
