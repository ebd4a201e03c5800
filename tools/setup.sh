#!/usr/bin/env bash
# Installs what building Strata needs and this machine lacks. Tried on Debian 12; Ubuntu 24.04 has
# the same packages in newer versions; those of Ubuntu 22.04 (liburing 2.1) are too old.
# When nothing is missing it changes nothing and takes less than a second.
#
# System packages come by apt: as root or with passwordless sudo; otherwise the command to run is
# printed and the exit status is 1. LibTorch: an existing one is used (cmake/FindLibTorch.cmake says
# where it is looked for); if there is none, the pinned version goes into .deps/venv.
#
# Usage: tools/setup.sh [--test]
#   --test   also what tools/test.sh needs: clang-format, clang-tidy, fio, Python's headers, and a
#            Python environment in .deps/test-venv with the libraries that the tests read Strata's
#            output with and that the Python package is built with

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly TORCH_VERSION=2.11.0
readonly LIBRARIES=(liburing-dev libaio-dev libhwloc-dev libhwy-dev libtbb-dev libxxhash-dev zlib1g-dev
                    nlohmann-json3-dev libgloo-dev libcli11-dev libgtest-dev libgmock-dev libbenchmark-dev)
readonly PROGRAMS=(g++ cmake ninja:ninja-build ccache pkg-config git python3)
readonly TEST_PROGRAMS=(clang-format-14 clang-tidy-14 fio)

say() { echo "setup: $*"; }
fail() { echo "setup: $*" >&2; exit 1; }

# ---- system packages -------------------------------------------------------------------------

# The packages of the programs that are not on PATH. A program may be written command:package.
missing_programs() {
  local program
  for program in "$@"; do
    command -v "${program%%:*}" >/dev/null || echo "${program##*:}"
  done
}

missing_libraries() {
  local installed
  installed=$(dpkg-query -W -f='${Package} ${db:Status-Status}\n' "$@" 2>/dev/null |
              sed -n 's/ installed$//p') || true
  printf '%s\n' "$@" | grep -vxF -e "${installed:-none}" || true
}

install_packages() {
  local packages=("$@") as_root=()
  local command="apt-get update && apt-get install -y --no-install-recommends ${packages[*]}"
  if [[ $EUID -ne 0 ]]; then
    sudo -n true 2>/dev/null || fail "missing packages. Run this, then start again:
  sudo sh -c '$command'"
    as_root=(sudo -n)
  fi
  say "installing ${packages[*]}"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive sh -c "$command" >.deps/apt.log 2>&1 ||
    { tail -n 20 .deps/apt.log >&2; fail "this failed (log: .deps/apt.log): $command"; }
}

has_python_headers() {
  local python=python3
  [[ ! -x .deps/venv/bin/python ]] || python=.deps/venv/bin/python
  "$python" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' 2>/dev/null
}

ensure_packages() {
  if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    say "no apt here: taking it that ${PROGRAMS[*]##*:} ${LIBRARIES[*]} are installed"
    return
  fi
  local programs=("${PROGRAMS[@]}") missing
  $with_tests && programs+=("${TEST_PROGRAMS[@]}")
  missing=$(missing_programs "${programs[@]}"; missing_libraries "${LIBRARIES[@]}")
  # Making a virtual environment needs ensurepip, which Debian packs apart from python3.
  [[ -d .deps/venv ]] || python3 -c 'import ensurepip' 2>/dev/null || missing+=" python3-venv"
  # The Python package is built against the headers of the Python that the tests run on.
  ! $with_tests || has_python_headers || missing+=" python3-dev"
  # shellcheck disable=SC2086  # a list of names
  [[ -z ${missing// /} ]] || install_packages $missing
}

# ---- LibTorch --------------------------------------------------------------------------------

find_libtorch() { cmake -P cmake/FindLibTorch.cmake 2>/dev/null; }

ensure_libtorch() {
  if ! libtorch=$(find_libtorch); then
    say "no LibTorch found: installing torch $TORCH_VERSION into .deps/venv (5 GB, some minutes)"
    trap 'rm -rf .deps/venv' EXIT  # an interrupted installation must not be found next time
    python3 -m venv .deps/venv
    .deps/venv/bin/python -m pip install --quiet --disable-pip-version-check \
      "torch==$TORCH_VERSION" numpy || fail "pip could not install torch==$TORCH_VERSION.
  Give an unpacked LibTorch instead: STRATA_TORCH=/path/to/libtorch $0"
    trap - EXIT
    libtorch=$(find_libtorch) || fail "LibTorch was installed into .deps/venv but is not found there"
  fi
}

# ---- Python environment of the tests ---------------------------------------------------------

# The Python whose torch package was found (that of its virtual environment, or that on PATH), or
# nothing for a LibTorch without one.
python_of_libtorch() {
  local python
  for python in "$libtorch/../../../../bin/python" python3; do
    if "$python" -c "import importlib.util as u, os, sys
sys.exit(not os.path.samefile(u.find_spec('torch').submodule_search_locations[0], '$libtorch'))" \
        2>/dev/null; then
      echo "$python"
      return
    fi
  done
}

ensure_test_environment() {
  local venv=.deps/test-venv stamp=.deps/test-venv/made-from python made_from
  made_from="$libtorch $(cksum <tools/requirements-test.txt)"
  [[ -f $stamp && $(<"$stamp") == "$made_from" ]] && return
  python=$(python_of_libtorch)
  if [[ -z $python ]]; then
    say "no Python has the torch of $libtorch: the tests that need transformers will be skipped"
    return
  fi
  say "making $venv"
  rm -rf "$venv"
  "$python" -m venv "$venv"
  # Sees the torch that was found, and its dependencies, without a second copy of 5 GB.
  dirname "$libtorch" >"$("$venv/bin/python" -c \
    'import sysconfig; print(sysconfig.get_path("purelib"))')/libtorch.pth"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    -r tools/requirements-test.txt || fail "pip could not install tools/requirements-test.txt"
  echo "$made_from" >"$stamp"
}

# ---- main ------------------------------------------------------------------------------------

with_tests=false
case "${1-}" in
  "") ;;
  --test) with_tests=true ;;
  -h | --help) sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; exit 0 ;;
  *) fail "unknown argument '$1' (try --help)" ;;
esac

mkdir -p .deps
ensure_packages
ensure_libtorch
if $with_tests; then
  ensure_test_environment
fi
say "ready: LibTorch at $libtorch"
