#!/usr/bin/env python3
"""The optimizers that others have for the CPU, for bench/peers/hop7.py: reads lines "NAME THREADS" and
answers each with the seconds of one update of 100 M parameters, as `adam_benchmark --serve` does.

  torch_fused              torch.optim.AdamW(fused=True): parameter, gradient, m and v in fp32
  deepspeed                DeepSpeedCPUAdam: the same
  deepspeed_three_passes   the whole job up to a bf16 weight, as ZeRO-Offload does it: multiply the
                           fp32 gradient by the scale, DeepSpeedCPUAdam, cast the parameter. That the
                           gradient was widened from bf16 before is not counted.
  deepspeed_bf16           DeepSpeedCPUAdam with parameter, gradient, m and v in bf16, which has no
                           fp32 master: scale the gradient, update

Runs in a Python environment of its own that has torch and deepspeed 0.19.8.
"""

import sys
import time
from typing import Callable, Dict

import torch

ELEMENTS = 100_000_000
OPTIONS = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01}
GRADIENT_SCALE = 1.0  # the gradient is scaled again and again and must not vanish


def random_values(dtype: torch.dtype) -> torch.Tensor:
    values = torch.empty(ELEMENTS)
    values.normal_(0, 0.02, generator=torch.Generator().manual_seed(1))
    return values.to(dtype)


def parameter(dtype: torch.dtype) -> torch.nn.Parameter:
    own = torch.nn.Parameter(random_values(dtype))
    own.grad = random_values(dtype)
    return own


def deepspeed_adam(own: torch.nn.Parameter, **options: bool) -> torch.optim.Optimizer:
    from deepspeed.ops.adam import DeepSpeedCPUAdam

    return DeepSpeedCPUAdam([own], adamw_mode=True, **OPTIONS, **options)


def torch_fused() -> Callable[[], None]:
    return torch.optim.AdamW([parameter(torch.float32)], fused=True, **OPTIONS).step


def deepspeed() -> Callable[[], None]:
    return deepspeed_adam(parameter(torch.float32)).step


def deepspeed_three_passes() -> Callable[[], None]:
    own = parameter(torch.float32)
    optimizer = deepspeed_adam(own)
    weight = random_values(torch.bfloat16)

    def update() -> None:
        own.grad.mul_(GRADIENT_SCALE)
        optimizer.step()
        weight.copy_(own.data)

    return update


def deepspeed_bf16() -> Callable[[], None]:
    own = parameter(torch.bfloat16)
    optimizer = deepspeed_adam(own, fp32_optimizer_states=False)

    def update() -> None:
        own.grad.mul_(GRADIENT_SCALE)
        optimizer.step()

    return update


MAKERS = {
    "torch_fused": torch_fused,
    "deepspeed": deepspeed,
    "deepspeed_three_passes": deepspeed_three_passes,
    "deepspeed_bf16": deepspeed_bf16,
}


def main() -> None:
    answers = sys.stdout
    sys.stdout = sys.stderr  # where the libraries may say what they like
    updates: Dict[str, Callable[[], None]] = {}
    for line in sys.stdin:
        name, threads = line.split()
        torch.set_num_threads(int(threads))
        with torch.no_grad():
            if name not in updates:
                updates[name] = MAKERS[name]()
                updates[name]()  # makes the moments
            start = time.perf_counter()
            updates[name]()
            print(time.perf_counter() - start, file=answers, flush=True)


if __name__ == "__main__":
    main()
