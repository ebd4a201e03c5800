#!/usr/bin/env bash
# Builds a wheel of the Python package strata (docs/python.md).
#
# Usage: tools/build_wheel.sh [DIRECTORY]   (default: build/wheels)
#
# It is built for the Python that PYTHON names, else that of tools/setup.sh --test, else python3. From
# Python 3.12 on it is an abi3 wheel, for that Python and all later ones. It is linked to this
# machine's libraries (liburing, libaio, hwloc, highway, oneTBB, xxhash): the machine that it is
# installed on needs them too, unless a tool such as auditwheel has put copies of them into it.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case "${1-}" in
  -h | --help) sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; exit 0 ;;
esac
wheels=${1:-build/wheels}
python=${PYTHON:-.deps/test-venv/bin/python3}
[[ -n ${PYTHON-} || -x $python ]] || python=python3

# pip fetches what building needs, unless it is there.
isolation=()
"$python" -c 'import nanobind, scikit_build_core' 2>/dev/null && isolation=(--no-build-isolation)
"$python" -m pip wheel --quiet --disable-pip-version-check --no-deps "${isolation[@]}" \
  --wheel-dir "$wheels" .
ls "$wheels"/strata-*.whl
