#!/usr/bin/env python3
"""Runs clang-tidy on the sources below LibTorch and remembers what passed.

A source is checked again when its text, a header of the project that it includes (however
indirectly), its compile command, .clang-tidy or clang-tidy itself has changed.

Sources with the same compile command are checked several at a time, as one text: most of the time
goes to the headers, which are then read once. Where such a bundle has complaints, each of its
sources is checked alone, and what is said of it then counts.

Usage: run_clang_tidy.py BUILD_DIRECTORY
"""

import collections
import concurrent.futures
import functools
import hashlib
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import time

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
CLANG_TIDY = "clang-tidy-14"
# The compile commands are g++'s, and it knows warnings that clang does not.
TIDY = [CLANG_TIDY, "--quiet", "--extra-arg=-Wno-unknown-warning-option"]
BUNDLE_SIZE = 8
UNNAMED_NAMESPACE = re.compile(r"^namespace \{$(.*?)^\}  // namespace$", re.MULTILINE | re.DOTALL)
TOP_LEVEL_NAME = re.compile(
    r"^(?![#/}\s]|template)(?:[^\n(={;]*[ *&])?(\w+)(?:\(| =|\{| \{|\[|;| :)", re.MULTILINE)
QUOTED_INCLUDE = re.compile(rb'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)


@functools.lru_cache(maxsize=None)
def text_and_headers(file: pathlib.Path) -> tuple[bytes, tuple[pathlib.Path, ...]]:
    """The text of a file and the project's headers that it includes itself."""
    text = file.read_bytes()
    headers = []
    for name in QUOTED_INCLUDE.findall(text):
        for root in (file.parent, REPOSITORY / "include", REPOSITORY / "src"):
            header = root / name.decode()
            if header.is_file():
                headers.append(header.resolve())
                break
    return text, tuple(headers)


def with_all_headers(source: pathlib.Path) -> list[pathlib.Path]:
    found, pending = set(), [source]
    while pending:
        file = pending.pop()
        if file not in found:
            found.add(file)
            pending.extend(text_and_headers(file)[1])
    return sorted(found)


def fingerprint(source: pathlib.Path, command: str, rules: bytes) -> str:
    digest = hashlib.sha256(rules + command.encode())
    for file in with_all_headers(source):
        digest.update(str(file).encode() + b"\0" + text_and_headers(file)[0])
    return digest.hexdigest()


def is_clean(command: list) -> tuple[bool, str]:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    # stderr otherwise counts warnings in others' headers
    return result.returncode == 0, result.stdout or result.stderr


def check(source: pathlib.Path, build: pathlib.Path) -> str:
    """Runs clang-tidy on one source; returns its complaints, "" when there are none."""
    clean, text = is_clean([*TIDY, "-p", build, source])
    return "" if clean else text


def is_clean_together(bundle: list[pathlib.Path], flags: list[str], text: pathlib.Path) -> bool:
    """Runs clang-tidy on the sources of a bundle, whose text it writes, at once."""
    text.write_text("".join(f'#line 1 "{source}"\n{source.read_text()}\n' for source in bundle))
    folders = [f"-iquote{folder}" for folder in sorted({source.parent for source in bundle})]
    return is_clean([*TIDY, f"--config-file={REPOSITORY / '.clang-tidy'}", text, "--", *flags,
                     *folders])[0]


def names_of_its_own(source: pathlib.Path) -> set[str]:
    """Names in a source's unnamed namespaces: two of the same cannot stand in one text."""
    parts = UNNAMED_NAMESPACE.findall(source.read_text())
    return {name for part in parts for name in TOP_LEVEL_NAME.findall(part)}


def bundles_of(sources: list[pathlib.Path]) -> list[list[pathlib.Path]]:
    bundles: list[tuple[list[pathlib.Path], set[str]]] = []
    for source in sorted(sources):
        names = names_of_its_own(source)
        for bundle, taken in bundles:
            if len(bundle) < BUNDLE_SIZE and not taken & names:
                bundle.append(source)
                taken |= names
                break
        else:
            bundles.append(([source], set(names)))
    return [bundle for bundle, _ in bundles]


def main() -> int:
    build = pathlib.Path(sys.argv[1]).resolve()
    passed = build / "clang-tidy"
    passed.mkdir(exist_ok=True)
    rules = (REPOSITORY / ".clang-tidy").read_bytes()
    rules += subprocess.run([CLANG_TIDY, "--version"], capture_output=True, check=True).stdout

    stamps, by_flags, sources = {}, collections.defaultdict(list), 0
    for entry in json.loads((build / "compile_commands.json").read_text()):
        source = pathlib.Path(entry["directory"], entry["file"]).resolve()
        ours = any(source.is_relative_to(REPOSITORY / root) for root in ("src", "tools"))
        if not ours or "strata_torch_pch" in entry["command"]:
            continue
        sources += 1
        stamp = passed / fingerprint(source, entry["command"], rules)
        if not stamp.exists():
            stamps[source] = stamp
            by_flags[entry["command"].split(" -o ")[0]].append(source)

    def complaints_of(number: int, flags: str, bundle: list[pathlib.Path]) -> list[str]:
        text = passed / f"bundle_{number}.cpp"
        clean = len(bundle) > 1 and is_clean_together(bundle, shlex.split(flags)[1:], text)
        text.unlink(missing_ok=True)
        complaints = {source: "" if clean else check(source, build) for source in bundle}
        for source, complaint in complaints.items():
            if not complaint:
                stamps[source].touch()
        return [complaint for complaint in complaints.values() if complaint]

    start = time.monotonic()
    failed = 0
    bundles = [(flags, bundle) for flags, group in by_flags.items() for bundle in bundles_of(group)]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = [pool.submit(complaints_of, i, *bundle) for i, bundle in enumerate(bundles)]
        for job in concurrent.futures.as_completed(jobs):
            for complaint in job.result():
                failed += 1
                print(complaint, end="")
    print(f"clang-tidy: {sources} sources, {len(stamps)} to check, {failed} with complaints, "
          f"{time.monotonic() - start:.0f} s")
    return 1 if failed or not sources else 0


if __name__ == "__main__":
    sys.exit(main())
