#!/usr/bin/env bash
# Trains GPT-lite (85 M parameters, 1 GB of training state) from random weights, with all of its state
# on disk, a host budget of 400 MiB, and 170 MiB that stand in for a GPU's memory; LibTorch and
# activations come on top. It learns a verse of 188 bytes (tools/demo_text.txt) by heart: the last
# lines are what it writes when it is given the first half, beside the verse itself. At most five
# minutes after the build. Installs what is missing first (tools/setup.sh).
#
# Usage: tools/demo.sh [--data FILE] [--steps N]
#   --data FILE   another text; one of more than 257 bytes takes far more than the default steps
#   --steps N     optimizer steps, ended after two and a half minutes; default: 25

set -euo pipefail
start_directory=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() { echo "demo: $*" >&2; exit 1; }

# ---- arguments -------------------------------------------------------------------------------

data=
steps=25
while [[ $# -gt 0 ]]; do
  case $1 in
    --data) data=${2-}; [[ -n $data ]] || fail "--data needs a file"; shift 2 ;;
    --steps) steps=${2-}; [[ $steps =~ ^[1-9][0-9]*$ ]] || fail "--steps needs a number"; shift 2 ;;
    -h | --help) sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) fail "unknown argument '$1' (try --help)" ;;
  esac
done
if [[ -n $data ]]; then
  [[ $data == /* ]] || data=$start_directory/$data
  [[ -f $data && -r $data ]] || fail "--data $data: is not a file that can be read"
fi

# ---- set-up and build ------------------------------------------------------------------------

# Compiling takes about ten minutes of one core. However many there are, the longest files and linking
# take two.
if [[ ! -x build/release/bin/strata ]]; then
  cores=$(nproc)
  minutes=$(((10 + cores - 1) / cores))
  echo "demo: the first build takes about $((minutes > 2 ? minutes : 2)) minutes on $cores cores, after" \
       "what tools/setup.sh may have to install; a later run starts to train at once"
fi
bash tools/setup.sh
readonly DEMO=build/demo
mkdir -p build/release "$DEMO/nvme"
if [[ ! -f build/release/build.ninja ]] &&
    ! cmake --preset release >build/release/configure.log 2>&1; then
  tail -n 40 build/release/configure.log >&2
  fail "CMake could not configure the build (log: build/release/configure.log)"
fi
ninja -C build/release -j "$(nproc)" strata

# ---- text ------------------------------------------------------------------------------------

# The model's context is 256 tokens, and its tokens are bytes. A text that fits is one sequence, the
# same in every step: that is learnt in about twenty.
readonly CONTEXT=256 VERSE=tools/demo_text.txt LINES_GIVEN=2

is_verse=
[[ -n $data ]] || { data=$VERSE; is_verse=yes; }
rest_of_verse() { tail -n +$((LINES_GIVEN + 1)) "$VERSE"; }

bytes=$(wc -c <"$data")
sequence=$((bytes > CONTEXT ? CONTEXT : bytes > 1 ? bytes - 1 : 1))
sample=(--sample 120)
if [[ $is_verse ]]; then
  prompt=$(head -n "$LINES_GIVEN" "$VERSE")$'\n'
  sample=(--prompt "$prompt" --temperature 0 --sample "$(rest_of_verse | wc -c)")
fi

# ---- train -----------------------------------------------------------------------------------

rm -rf "$DEMO/output"
build/release/bin/strata finetune --preset gpt-lite --data "$data" \
  --config configs/demo.json --steps "$steps" --max-minutes 2.5 --seq-len "$sequence" \
  --budget host=400MiB,device=170MiB --nvme "$DEMO/nvme" --output "$DEMO/output" "${sample[@]}"

if [[ $is_verse ]]; then
  echo "The verse goes on ($VERSE)"
  rest_of_verse
fi
