#!/usr/bin/env bash
# Trains GPT-lite (85 M parameters, 1 GB of training state) from scratch on a text, with all of its
# state on disk, a host budget of 400 MiB, and 170 MiB that stand in for a GPU's memory; LibTorch and
# activations come on top. About three minutes after the build; ends with a sampled text, which so
# short a training leaves hardly readable, and a summary. Installs what is missing first
# (tools/setup.sh).
#
# Usage: tools/demo.sh [--data FILE] [--steps N]
#   --data FILE   the text to learn; default: this repository's own sources and documents
#   --steps N     optimizer steps, ended after three and a half minutes; default: 60

set -euo pipefail
start_directory=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() { echo "demo: $*" >&2; exit 1; }

# ---- arguments -------------------------------------------------------------------------------

data=
steps=60
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

# Sources and documents, in one order everywhere, so that every run learns the same text.
own_texts() {
  { git ls-files '*.md' '*.h' '*.cpp' '*.cmake' '*.py' '*.sh' 2>/dev/null ||
      find README.md CONTRIBUTING.md cmake docs include src tests tools -type f \
        \( -name '*.md' -o -name '*.h' -o -name '*.cpp' -o -name '*.cmake' -o -name '*.py' \
        -o -name '*.sh' \); } | LC_ALL=C sort
}

if [[ -z $data ]]; then
  data=$DEMO/corpus.txt
  own_texts | xargs cat >"$data"
fi

# ---- train -----------------------------------------------------------------------------------

rm -rf "$DEMO/output"
exec build/release/bin/strata finetune --preset gpt-lite --data "$data" \
  --config configs/demo.json --steps "$steps" --max-minutes 3.5 --seq-len 256 \
  --val-fraction 0.05 --eval-batches 5 --sample 120 \
  --budget host=400MiB,device=170MiB --nvme "$DEMO/nvme" --output "$DEMO/output"
