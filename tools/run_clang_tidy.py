#!/usr/bin/env python3
"""Runs clang-tidy on the sources below LibTorch and remembers what passed.

A source is checked again when its text, a header of the project that it includes (however
indirectly), its compile command, .clang-tidy or clang-tidy itself has changed.

Usage: run_clang_tidy.py BUILD_DIRECTORY
"""

import concurrent.futures
import functools
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import time

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
CLANG_TIDY = "clang-tidy-14"
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


def check(source: pathlib.Path, build: pathlib.Path, stamp: pathlib.Path) -> str:
    """Runs clang-tidy on one source; returns its complaints, "" when there are none."""
    # The compile commands are g++'s, and it knows warnings that clang does not.
    command = [CLANG_TIDY, "--quiet", "--extra-arg=-Wno-unknown-warning-option", "-p", build, source]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode == 0:
        stamp.touch()
        return ""
    return result.stdout or result.stderr  # stderr otherwise counts warnings in others' headers


def main() -> int:
    build = pathlib.Path(sys.argv[1]).resolve()
    passed = build / "clang-tidy"
    passed.mkdir(exist_ok=True)
    rules = (REPOSITORY / ".clang-tidy").read_bytes()
    rules += subprocess.run([CLANG_TIDY, "--version"], capture_output=True, check=True).stdout

    pending, sources = [], 0
    for entry in json.loads((build / "compile_commands.json").read_text()):
        source = pathlib.Path(entry["directory"], entry["file"]).resolve()
        ours = any(source.is_relative_to(REPOSITORY / root) for root in ("src", "tools"))
        if not ours or "strata_torch_pch" in entry["command"]:
            continue
        sources += 1
        stamp = passed / fingerprint(source, entry["command"], rules)
        if not stamp.exists():
            pending.append((source, stamp))

    start = time.monotonic()
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = [pool.submit(check, source, build, stamp) for source, stamp in pending]
        for job in concurrent.futures.as_completed(jobs):
            if job.result():
                failed += 1
                print(job.result(), end="")
    print(f"clang-tidy: {sources} sources, {len(pending)} to check, {failed} with complaints, "
          f"{time.monotonic() - start:.0f} s")
    return 1 if failed or not sources else 0


if __name__ == "__main__":
    sys.exit(main())
