#!/bin/sh
# Runs a test's script with the Python of tools/setup.sh --test if that has been made, else with the
# one on PATH. It is looked for when the test runs: the build may have been configured before the
# test environment was there, or the environment be gone since.
#
# Usage: tests/run_python.sh SCRIPT ARGUMENTS...

python=$(dirname "$0")/../.deps/test-venv/bin/python3
"$python" -c '' 2>/dev/null || python=python3
# Modules that several tests share.
PYTHONPATH=$(dirname "$0")/support
export PYTHONPATH
exec "$python" -B "$@"
