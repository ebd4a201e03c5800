// Trains one step of a linear layer with the engine of an installed Strata, and one with its
// optimizer alone.

#include <torch/torch.h>

#include <fstream>
#include <iostream>

#include "strata/cpu_adam/cpu_adam.h"
#include "strata/zero3/engine.h"

int main() {
  std::ofstream("ds_config.json") << R"({
    "train_batch_size": 1,
    "optimizer": {"type": "AdamW", "params": {"lr": 0.1}},
    "zero_optimization": {"stage": 3}
  })";
  auto engine = strata::Engine::from_config("ds_config.json");
  auto layer = engine.shard(torch::nn::Linear(4, 1));

  engine.backward(layer(torch::ones({1, 4})).sum());
  const strata::StepReport report = engine.step();

  std::cout << "step " << report.step << ", gradient norm " << report.grad_norm << '\n';

  torch::nn::Linear in_memory(4, 1);
  strata::CpuAdam optimizer(in_memory->parameters());
  const torch::Tensor before = in_memory->weight.detach().clone();
  in_memory(torch::ones({1, 4})).sum().backward();
  optimizer.step();
  return report.updated && !in_memory->weight.equal(before) ? 0 : 1;
}
