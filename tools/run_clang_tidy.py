#!/usr/bin/env python3
"""Runs clang-tidy on the sources below LibTorch and remembers what passed.

A source is checked again when its text, a header of the project that it includes (however
indirectly), its compile command, .clang-tidy or clang-tidy itself has changed.

Sources that the build compiles as one are checked as one text: most of the time goes to the headers,
which are then read once. Where such a batch has complaints, each of its sources is checked alone, and
what is said of it then counts.

Usage: run_clang_tidy.py BUILD_DIRECTORY
"""

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
BATCH_INCLUDE = re.compile(r'^#include "([^"]+\.cpp)"$', re.MULTILINE)
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


def sources_of(entry: dict) -> list[pathlib.Path]:
    """The project's own sources that a compile command compiles."""
    file = pathlib.Path(entry["directory"], entry["file"]).resolve()
    batch = BATCH_INCLUDE.findall(file.read_text()) if file.parent.name == "Unity" else [file]
    return [source for source in map(pathlib.Path, batch)
            if any(source.is_relative_to(REPOSITORY / root) for root in ("src", "tools"))]


def complaints_of(sources: list[pathlib.Path], flags: list[str], batch: pathlib.Path) -> dict:
    """Runs clang-tidy on sources at once, as the text `batch`, which it writes, and then on each alone
    if it must; returns what it says of each, "" when it has no complaint."""
    def run(text: pathlib.Path, folders: list[str]) -> tuple[bool, str]:
        return is_clean([*TIDY, f"--config-file={REPOSITORY / '.clang-tidy'}", text, "--", *flags,
                         *folders])

    if len(sources) > 1:
        batch.write_text("".join(f'#line 1 "{source}"\n{source.read_text()}\n'
                                 for source in sources))
        clean, _ = run(batch, [f"-iquote{folder}" for folder in {s.parent: 0 for s in sources}])
        batch.unlink()
        if clean:
            return dict.fromkeys(sources, "")
    return {source: "" if clean else text
            for source in sources for clean, text in [run(source, [])]}


def main() -> int:
    build = pathlib.Path(sys.argv[1]).resolve()
    passed = build / "clang-tidy"
    passed.mkdir(exist_ok=True)
    rules = (REPOSITORY / ".clang-tidy").read_bytes()
    rules += subprocess.run([CLANG_TIDY, "--version"], capture_output=True, check=True).stdout

    stamps, batches, seen = {}, [], 0
    for entry in json.loads((build / "compile_commands.json").read_text()):
        if "strata_torch_pch" in entry["command"]:
            continue
        sources = sources_of(entry)
        seen += len(sources)
        for source in sources:
            stamps[source] = passed / fingerprint(source, entry["command"], rules)
        unchecked = [source for source in sources if not stamps[source].exists()]
        if unchecked:
            flags = shlex.split(entry["command"].split(" -o ")[0])[1:]
            batches.append((unchecked, flags, passed / f"batch_{len(batches)}.cpp"))

    start = time.monotonic()
    checked = failed = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = [pool.submit(complaints_of, *batch) for batch in batches]
        for job in concurrent.futures.as_completed(jobs):
            for source, complaint in job.result().items():
                checked += 1
                if complaint:
                    failed += 1
                    print(complaint, end="")
                else:
                    stamps[source].touch()
    print(f"clang-tidy: {seen} sources, {checked} to check, {failed} with complaints, "
          f"{time.monotonic() - start:.0f} s")
    return 1 if failed or not seen else 0


if __name__ == "__main__":
    sys.exit(main())
