#!/usr/bin/env python3
"""Training steps of the GPT-2-small shape with DeepSpeed on a CPU, for bench/deepspeed_step.py: reads lines
"turn STEPS" and answers each with seconds and loss, as `step_benchmark`'s contestants do, and
"peak_rss" with bytes.

    gpt2_deepspeed.py {cpu,nvme,nvme-default,nvme-pipelined,nvme-weights} --tokens 128 --nvme DIR

  cpu              weights and optimizer states in host memory (ZeRO-Offload)
  nvme             weights in host memory, optimizer states on NVMe (ZeRO-Infinity); sub-groups as small as
                   they can be, which takes least memory
  nvme-default     the same with DeepSpeed's own sub_group_size, 1e9: one sub-group
  nvme-pipelined   as nvme, reading ahead and writing behind
  nvme-weights     as nvme, weights on NVMe too

Same shape, precision, optimizer, clipping and batch size as there: 12 layers, width 768, vocabulary 50304,
a tied head, bf16, AdamW, clipping at 1.0; with states on NVMe blocks are computed again in backward.
Runs in a Python environment of its own that has torch and deepspeed 0.19.8.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from typing import Any, Dict

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

LAYERS, WIDTH, HEADS, VOCABULARY, CONTEXT = 12, 768, 12, 50304, 1024


class Embedding(nn.Embedding):
    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, 0.0, 0.02)


class Block(nn.Module):
    def __init__(self, recompute: bool) -> None:
        super().__init__()
        self.recompute = recompute
        self.ln_1 = nn.LayerNorm(WIDTH)
        self.c_attn = nn.Linear(WIDTH, 3 * WIDTH)
        self.c_proj = nn.Linear(WIDTH, WIDTH)
        self.ln_2 = nn.LayerNorm(WIDTH)
        self.c_fc = nn.Linear(WIDTH, 4 * WIDTH)
        self.mlp_c_proj = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return checkpoint(self.body, x, use_reentrant=False) if self.recompute else self.body(x)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        rows, length, _ = x.shape
        heads = self.c_attn(self.ln_1(x)).view(rows, length, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(heads[0], heads[1], heads[2], is_causal=True)
        x = x + self.c_proj(attended.transpose(1, 2).reshape(rows, length, WIDTH))
        return x + self.mlp_c_proj(F.gelu(self.c_fc(self.ln_2(x)), approximate="tanh"))


class Gpt2(nn.Module):
    def __init__(self, recompute: bool) -> None:
        super().__init__()
        self.wte = Embedding(VOCABULARY, WIDTH)
        self.wpe = Embedding(CONTEXT, WIDTH)
        self.blocks = nn.ModuleList(Block(recompute) for _ in range(LAYERS))
        self.ln_f = nn.LayerNorm(WIDTH)

    def forward(self, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.ln_f(x), self.wte.weight)
        return F.cross_entropy(logits.view(-1, VOCABULARY), targets.view(-1))


def config_of(kind: str, nvme: str) -> Dict[str, Any]:
    largest = VOCABULARY * WIDTH
    on_nvme = {"device": "nvme", "nvme_path": nvme}
    pipelined = kind == "nvme-pipelined"
    states: Dict[str, Any] = {"device": "cpu"}
    weights: Dict[str, Any] = {"device": "cpu"}
    if kind != "cpu":
        # Of the default, 4, an assertion of DeepSpeed says that they are too few.
        states = {**on_nvme, "buffer_count": 12 if pipelined else 5, "pipeline_read": pipelined,
                  "pipeline_write": pipelined}  # fmt: skip
    if kind == "nvme-weights":
        # Each parameter takes a buffer, whatever its size, and all of them have the largest one's.
        weights = {**on_nvme, "buffer_count": 12 * LAYERS + 4, "buffer_size": largest}
    sub_group = {} if kind == "nvme-default" else {"sub_group_size": largest}
    return {
        "train_micro_batch_size_per_gpu": 1, "gradient_accumulation_steps": 1, "gradient_clipping": 1.0,
        "bf16": {"enabled": True},
        "optimizer": {"type": "AdamW", "params": {"lr": 3e-4, "weight_decay": 0.1}},
        "zero_optimization": {"stage": 3, "offload_param": weights, "offload_optimizer": states, **sub_group},
        "aio": {"block_size": 1 << 20, "queue_depth": 32, "intra_op_parallelism": 2},
    }  # fmt: skip


KINDS = ["cpu", "nvme", "nvme-default", "nvme-pipelined", "nvme-weights"]


class Trainer:
    def __init__(self, kind: str, tokens: int, nvme: str) -> None:
        os.environ.update({"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"})
        os.environ.setdefault("MASTER_PORT", "29577")
        import deepspeed

        torch.manual_seed(1)
        deepspeed.init_distributed("gloo")
        config = config_of(kind, nvme)
        with deepspeed.zero.Init(config_dict_or_path=config, dtype=torch.bfloat16):
            model = Gpt2(recompute=kind != "cpu")
        self.engine = deepspeed.initialize(model=model, model_parameters=model.parameters(), config=config)[0]
        self.tokens = tokens
        self.count = 0

    def step(self) -> float:
        generator = torch.Generator().manual_seed(self.count)
        self.count += 1
        tokens = torch.randint(0, VOCABULARY, (1, self.tokens + 1), generator=generator)
        loss = self.engine(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())
        self.engine.backward(loss)
        self.engine.step()
        return loss.item()

    def turn(self, steps: int) -> Dict[str, float]:
        start = time.perf_counter()
        for _ in range(steps):
            loss = self.step()
        return {"seconds": (time.perf_counter() - start) / steps, "loss": loss}


def peak_rss_bytes() -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM:"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--nvme", default=".")
    options = parser.parse_args()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what DeepSpeed prints is no answer
    with tempfile.TemporaryDirectory(dir=options.nvme) as directory:
        trainer = Trainer(options.kind, options.tokens, directory)
        for request in sys.stdin:
            word, *rest = request.split()
            answer = trainer.turn(int(rest[0])) if word == "turn" else peak_rss_bytes()
            print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
