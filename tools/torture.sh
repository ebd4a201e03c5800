#!/usr/bin/env bash
# Runs the tests that draw their cases by a number over and over, with other numbers and many more
# cases than tools/test.sh makes: processes killed at every call that changes a file, the power
# lost, errors injected, bits flipped, steps with gradients that are not finite, ranks killed, the
# program killed at random instants on ext4 and tmpfs, and every parser fed with mutants (libFuzzer
# with ASan and UBSan where clang++ is there, else tests/fuzz/mutants.cpp). Ends when the time is
# over and writes what was done. A test that fails is named with the command that repeats it, and
# makes the exit code 1.
#
# Usage: tools/torture.sh --hours H [--seed S] [--out FILE] [--build DIR]
#   --hours H   how long, at least: the round under way is finished. A fraction (0.25) will do
#   --seed S    the number of the first round; the next ones count on from it (default: 1)
#   --out FILE  where the page of the figures goes too, as docs/results/reliability.md
#   --build DIR the release build (default: build/release; what it lacks is built)

set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

hours="" seed=1 out="" build=build/release
while (($# > 0)); do
  case "$1" in
    --hours) hours=${2-}; shift ;;
    --seed) seed=${2-}; shift ;;
    --out) out=${2-}; shift ;;
    --build) build=${2-}; shift ;;
    -h | --help) sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "torture: unknown argument '$1' (try --help)" >&2; exit 2 ;;
  esac
  shift
done
if ! [[ $hours =~ ^[0-9]+(\.[0-9]+)?$ && $seed =~ ^[0-9]+$ ]]; then
  echo "torture: --hours takes a number of hours, --seed a whole number (try --help)" >&2
  exit 2
fi
readonly START=$SECONDS
build=$(realpath -m "$build")  # tests run in directories of their own
seconds=$(awk -v hours="$hours" 'BEGIN { printf "%d", hours * 3600 }')
readonly FOR_LIBFUZZER=(checkpoint_manifest checkpoint_names ds_config json model_index
  safetensors_header sizes token_data)
# That of machine files stands above the optimizer, whose kernels take clang minutes.
readonly PARSERS=("${FOR_LIBFUZZER[@]}" machine)
readonly CORPUS=$PWD/tests/fuzz/corpus FUZZ=$PWD/build/fuzz
readonly LOG=$build/torture.log
scratch=$(mktemp -d) || exit
trap 'rm -rf "$scratch"' EXIT
readonly FUZZ_SECONDS=60 MUTANTS=100000  # of a parser in a round
libfuzzer=$(command -v clang++)
machine=$(python3 bench/machine.py "$build")
places=$(df --output=fstype /var/tmp /dev/shm | tail -n 2 | paste -s -d ' ' | sed 's/ / and /')

declare -A cases=()  # by kind
failures=()

# count KIND NUMBER
count() { cases["$1"]=$((${cases["$1"]-0} + $2)); }

# attempt COMMAND...: runs it, and counts the cases that its output names.
attempt() {
  if ! (cd "$scratch" && env "$@") >"$LOG" 2>&1; then
    tail -n 40 "$LOG"
    failures+=("$(printf '%q ' env "$@")")
    printf 'FAILED; this repeats it:\n  %s\n' "${failures[-1]}"
    return 1
  fi
  local number kind
  while read -r number kind; do count "$kind" "$number"; done < <(sed -n 's/^.*\btorture: //p' "$LOG")
}

# drawn CASES NUMBER PROGRAM ARGUMENT...: with that many times the usual cases.
drawn() { attempt "STRATA_TORTURE=$1" "STRATA_TORTURE_SEED=$2" "$build/bin/$3" "${@:4}"; }

deaths() {
  attempt "$build/bin/test_zero3_processes" '--gtest_filter=*Deaths*' --gtest_repeat=8 &&
    count "deaths of a rank" "$(grep -c '^\[       OK \] .*Deaths' "$LOG")"
}

# kills NUMBER DIRECTORY
kills() {
  attempt STRATA_TORTURE=20 "STRATA_TORTURE_SEED=$1" "TMPDIR=$2" \
    sh "$PWD/tests/run_python.sh" "$PWD/tests/finetune/resume_test.py" "$FAULTS" \
    Resume.test_a_run_that_is_killed_at_any_instant_loses_nothing "$build/bin/strata"
}

seeds_of() {
  case "$1" in
    ds_config) echo "$FUZZ/seeds/ds_config" ;;
    machine) echo "$PWD/configs/machines" ;;
    *) if [[ -d $CORPUS/$1 ]]; then echo "$CORPUS/$1"; fi ;;
  esac
}

fuzzer_of() {
  if [[ -x $FUZZ/bin/fuzz_$1 ]]; then echo "libFuzzer with ASan and UBSan"; else echo "mutants of its seeds"; fi
}

# fuzz PARSER NUMBER
fuzz() {
  local parser=$1 number=$2 found=$FUZZ/corpus/$1 seeds
  seeds=$(seeds_of "$parser")
  if [[ -x $FUZZ/bin/fuzz_$parser ]]; then
    mkdir -p "$found"
    attempt "$FUZZ/bin/fuzz_$parser" "-max_total_time=$FUZZ_SECONDS" "-seed=$number" -max_len=8192 \
      -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 "-artifact_prefix=$found-" "$found" \
      ${seeds:+"$seeds"} &&
      count "inputs to the parser of $parser" \
        "$(sed -n 's/^stat::number_of_executed_units: //p' "$LOG")"
  elif [[ -n $seeds ]]; then
    attempt "STRATA_TORTURE_SEED=$number" "$build/bin/mutants_$parser" "$MUTANTS" "$seeds" &&
      count "inputs to the parser of $parser" "$MUTANTS"
  fi
}

# ---- build -----------------------------------------------------------------------------------

targets=(test_formats_checkpoint_faults test_zero3_checkpoint_crash test_zero3_engine
  test_zero3_master_writer test_zero3_processes test_optim_cpu_simulated test_tiering strata
  strata_file_fault)
[[ -f $build/build.ninja ]] || cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release || exit 1
if [[ -n $libfuzzer ]]; then
  cmake -S . -B "$FUZZ" -G Ninja -DCMAKE_CXX_COMPILER=clang++ -DCMAKE_BUILD_TYPE=Release \
    -DSTRATA_WITH_TORCH=OFF -DSTRATA_FUZZ=ON -DSTRATA_SANITIZE=address,undefined >/dev/null &&
    ninja -C "$FUZZ" "${FOR_LIBFUZZER[@]/#/fuzz_}" || exit 1
fi
for parser in "${PARSERS[@]}"; do
  [[ -x $FUZZ/bin/fuzz_$parser || -z $(seeds_of "$parser") ]] || targets+=("mutants_$parser")
done
ninja -C "$build" "${targets[@]}" || exit 1
mkdir -p "$FUZZ/seeds/ds_config" && cp examples/*.json "$FUZZ/seeds/ds_config"  # libFuzzer takes directories
FAULTS=$(find "$build" -name libstrata_file_fault.so -print -quit)

# ---- rounds ----------------------------------------------------------------------------------

for ((number = seed; ; ++number)); do
  printf '==== round of seed %d\n' "$number"
  drawn 50 "$number" test_formats_checkpoint_faults
  drawn 12 "$number" test_zero3_checkpoint_crash
  drawn 7 "$number" test_zero3_engine '--gtest_filter=Nonfinite.*'
  drawn 5 "$number" test_zero3_master_writer '--gtest_filter=*WhateverTheDiskDoes'
  drawn 5 "$number" test_optim_cpu_simulated '--gtest_filter=*WhateverTheDiskDoes'
  drawn 50 "$number" test_tiering '--gtest_filter=*StoreFault*'
  deaths
  kills "$number" /var/tmp
  kills "$number" /dev/shm
  for parser in "${PARSERS[@]}"; do fuzz "$parser" "$number"; done
  ((SECONDS - START < seconds)) || break
done

# ---- figures ---------------------------------------------------------------------------------

# row WORDS WANTED KIND...: the cases of several kinds, beside those of a full run.
row() {
  local sum=0 kind
  for kind in "${@:3}"; do sum=$((sum + ${cases["$kind"]-0})); done
  printf '| %s | %d | %s |\n' "$1" "$sum" "$2"
}

page() {
  printf '# Killed, cut off and lied to\n\n'
  printf 'Cases that one run of `tools/torture.sh` made, beside those of a full run. Every case has to come out right: a run that was\n'
  printf 'interrupted goes on bit for bit, what is damaged is found, `latest` names a whole checkpoint, nothing hangs. A full run is as\n'
  printf 'many hours as it takes; this one ended after %d s, with seeds %d to %d and **%d failures**.\n\n' \
    $((SECONDS - START)) "$seed" "$number" "${#failures[@]}"
  printf '| what | cases | full run |\n|---|---:|---:|\n'
  row 'an engine is killed before, in the middle of or after a call that changes a file, and resumed bit for bit' \
    '500 x 3' 'kills of an engine at a call, resumed bit for bit'
  row 'a save below the engine is killed so' '' 'kills at a call of a save'
  row 'the power fails: what is not synced is lost, kept, reordered or torn' 2000 'power losses' 'power losses under an engine'
  row 'errors injected: each errno at each call, once and for good' 3000 'errors injected into a save' "errors injected into an engine's save"
  row 'loads that fail at a read or a write: old states, or an engine that refuses to train' '' 'loads that fail at a call'
  row 'bits flipped in a checkpoint, all found' 10000 'bit flips' "bit flips in an engine's checkpoint"
  row 'bursts, blocks of another place, stale blocks, truncations of a checkpoint, all found' '1000 each' \
    bursts 'misdirected blocks' 'stale blocks' truncations
  row 'wrong bytes from the disk of the nvme tier (flipped, lost, torn, misdirected), all found' '' 'wrong bytes from the disk of the nvme tier'
  row "optimizer steps and placements of first values over a disk that does all of that: right bytes or an error" '' \
    'optimizer steps over a disk that fails' 'placements of masters over a disk that fails'
  row 'steps with a gradient that is not finite, on 1 to 3 ranks: no bit of a state changes' 200 'poisoned steps'
  row 'deaths of a rank (killed, stopped, thrown), ended on the others within 8 s' 100 'deaths of a rank'
  row "the program under SIGKILL at random instants ($places)" 200 'kills of the program at any instant'
  local parser
  for parser in "${PARSERS[@]}"; do
    row "inputs to the parser of ${parser//_/ }, $(fuzzer_of "$parser")" '10 million' "inputs to the parser of $parser"
  done
  printf '\n'
  for failure in ${failures[@]+"${failures[@]}"}; do printf '    %s\n\n' "$failure"; done
  printf -- '- Machine: %s.\n' "$machine"
  printf -- '- %s, `tools/torture.sh --hours %s --seed %d`\n' "$(date -I)" "$hours" "$seed"
}

printf '\n'
if [[ -n $out ]]; then page | tee "$out"; else page; fi
exit $((${#failures[@]} > 0))
