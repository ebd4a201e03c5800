#!/usr/bin/env bash
# Builds Strata and runs everything that must pass before a change is published: formatting,
# clang-tidy, the tests, and the tests of the layers below LibTorch under sanitizers.
# Installs what is missing first (tools/setup.sh). A second run takes up where the first one ended.
# The last lines name every test that was skipped, with its reason, and count all tests.
#
# Usage: tools/test.sh [--fast | --slow]
#   --fast   without clang-tidy and the sanitizers
#   --slow   also the tests labelled slow: minutes of training each

set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

depth=normal
case "${1-}" in
  "") ;;
  --fast) depth=fast ;;
  --slow) depth=slow ;;
  -h | --help) sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; exit 0 ;;
  *) echo "test: unknown argument '$1' (try --help)" >&2; exit 2 ;;
esac

# ---- steps -----------------------------------------------------------------------------------

readonly REPORTS=build/reports  # one JUnit file for each run of ctest
summary=()
failed_steps=0
failures_without_report=0

# step NAME REPORT COMMAND...: runs the command, times it, and goes on whatever its outcome.
# REPORT is the file that counts the command's tests, "-" when it has none.
step() {
  local name=$1 report=$2 start=$SECONDS outcome=passed
  shift 2
  printf '\n==== %s\n' "$name"
  if ! "$@"; then
    outcome=FAILED
    failed_steps=$((failed_steps + 1))
    [[ -s $report ]] || failures_without_report=$((failures_without_report + 1))
  fi
  summary+=("$(printf '%-28s %-7s %5d s' "$name" "$outcome" $((SECONDS - start)))")
  [[ $outcome == passed ]]
}

sources() {
  git ls-files --cached --others --exclude-standard '*.h' '*.cpp' 2>/dev/null ||
    find include src python tests tools examples bench -name '*.h' -o -name '*.cpp'
}

check_format() { sources | xargs clang-format-14 --dry-run -Werror; }

# Configures each time: what setup.sh has just installed may let more be built than before.
build() {
  local directory=build/$1
  mkdir -p "$directory"
  if ! cmake --preset "$1" >"$directory/configure.log" 2>&1; then
    tail -n 40 "$directory/configure.log"
    return 1
  fi
  ninja -C "$directory" -j "$(nproc)"
}

# Whole outputs: what a passed script skipped stands in them.
run_tests() {
  ctest --preset "$1" --output-junit "$PWD/$REPORTS/$1.xml" --test-output-size-passed 1000000
}

build_and_run_tests() { build "$1" && run_tests "$1"; }

# ---- run -------------------------------------------------------------------------------------

bash tools/setup.sh --test || exit 1
shopt -s nullglob
mkdir -p "$REPORTS"
rm -f "$REPORTS"/*.xml

step "formatting" - check_format
if step "release build" - build release; then
  step "release tests" "$REPORTS/release.xml" run_tests release
  [[ $depth == fast ]] || step "clang-tidy" - python3 tools/run_clang_tidy.py build/release
fi
if [[ $depth != fast ]]; then
  step "asan + ubsan tests" "$REPORTS/asan.xml" build_and_run_tests asan
  step "tsan tests" "$REPORTS/tsan.xml" build_and_run_tests tsan
fi
if [[ $depth == slow ]]; then
  step "slow tests" "$REPORTS/slow.xml" run_tests slow
fi

# ---- summary ---------------------------------------------------------------------------------

printf '\n'
printf '%s\n' "${summary[@]}"
python3 tools/test_summary.py --more-failures "$failures_without_report" "$REPORTS"/*.xml
exit $((failed_steps > 0))
