#!/bin/sh
# Fine-tunes a chat model on the chats beside this file, with its weights and optimizer states on a
# disk, and lets it answer a question by its likeliest tokens.
#
# Usage: fine_tune.sh MODEL OUTPUT SCRATCH PROMPT [STRATA]
#   MODEL    directory of the model: config.json, safetensors, tokenizer with a chat template
#   OUTPUT   directory to make, with what MODEL has and the new weights
#   SCRATCH  directory on the disk
#   PROMPT   question as the chat template writes it, up to where the answer begins
#   STRATA   the program, if it is not on PATH
set -eu
model=$1 output=$2 scratch=$3 prompt=$4 strata=${5:-strata}
here=$(dirname "$0")

# With --show-batch 1 in the place of --output this shows what is learned instead: the answers.
"$strata" finetune --model "$model" --data "$here/chats.jsonl" --config "$here/ds_config.json" \
  --seq-len 128 --epochs 60 --nvme "$scratch" --output "$output" >&2

"$strata" generate --model "$output" --prompt "$prompt" --max-new-tokens 40
