#pragma once

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>
#include <cstdint>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "strata/zero3/engine.h"
#include "support/message_of.h"

/// \file
/// Engines and layers small enough to compare with plain LibTorch number by number.

namespace strata::small {

inline constexpr std::int64_t kWidth = 24;

/// Everything on `device`, no clipping, AdamW at 1e-2 without decay.
inline formats::DsConfig config_for(formats::OffloadDevice device,
                                    Precision precision = Precision::kFp32) {
  formats::DsConfig config;
  config.name = "engine_test";
  config.train_micro_batch_size_per_gpu = 1;
  config.gradient_accumulation_steps = 1;
  config.gradient_clipping = 0.0;
  config.optimizer.lr = 1e-2;
  config.bf16.enabled = precision == Precision::kBf16;
  config.fp16.enabled = precision == Precision::kFp16;
  config.zero.offload_param.device = device;
  config.zero.offload_optimizer.device = device;
  config.strata.nvme_directories = {"."};
  config.strata.chunk_bytes = 4096;
  return config;
}

inline formats::DsConfig on_nvme(Precision precision = Precision::kFp32) {
  return config_for(formats::OffloadDevice::kNvme, precision);
}

/// Seeds LibTorch's generator, which ranks that are threads share, for as long as the lock is held.
[[nodiscard]] inline std::unique_lock<std::mutex> seeded(std::uint64_t seed) {
  static std::mutex of_generator;
  std::unique_lock lock(of_generator);
  torch::manual_seed(seed);
  return lock;
}

inline torch::nn::Linear linear(std::uint64_t seed, std::int64_t in = kWidth,
                                std::int64_t out = kWidth) {
  const auto lock = seeded(seed);
  return torch::nn::Linear(in, out);
}

/// The least device tier in which one `linear` at a time is trained.
inline std::uint64_t room_for_one_linear(const formats::DsConfig& config) {
  Engine engine(config);
  const auto layer = engine.shard(linear(0));
  return zero3::smallest_budgets(engine.plan_input()).device;
}

inline torch::Tensor input(std::uint64_t seed = 99) {
  const auto lock = seeded(seed);
  return torch::randn({4, kWidth});
}

/// The parameters as they are, in fp32.
template <class Module>
std::vector<torch::Tensor> values_of(Sharded<Module>& unit) {
  std::vector<torch::Tensor> values;
  unit.with_unsharded([&] {
    for (const torch::Tensor& parameter : unit->parameters()) {
      values.push_back(parameter.detach().to(torch::kFloat32).clone());
    }
  });
  return values;
}

inline torch::Tensor weight_of(Sharded<torch::nn::Linear>& layer) { return values_of(layer)[0]; }

/// The fp32 masters of all parameters.
inline std::vector<torch::Tensor> masters_of(Engine& engine) {
  std::vector<torch::Tensor> values;
  engine.visit_masters(
      [&](const std::string&, const torch::Tensor& value) { values.push_back(value.clone()); });
  return values;
}

/// Fails the running test at every tensor whose values differ.
inline void expect_same(const std::vector<torch::Tensor>& left,
                        const std::vector<torch::Tensor>& right) {
  ASSERT_EQ(left.size(), right.size());
  for (std::size_t i = 0; i < left.size(); ++i) {
    EXPECT_TRUE(torch::equal(left[i], right[i])) << "parameter " << i;
  }
}

inline StepReport train_once(Engine& engine, const torch::Tensor& loss) {
  engine.backward(loss);
  return engine.step();
}

/// The global norm of the gradients in plain LibTorch.
inline double norm_of(const std::vector<torch::Tensor>& parameters) {
  double sum = 0.0;
  for (const torch::Tensor& parameter : parameters) {
    if (parameter.grad().defined()) {
      sum += parameter.grad().to(torch::kFloat64).square().sum().item<double>();
    }
  }
  return std::sqrt(sum);
}

/// torch's own AdamW with the config's hyperparameters.
inline torch::optim::AdamW adamw(std::vector<torch::Tensor> parameters, double weight_decay = 0.0) {
  return torch::optim::AdamW(std::move(parameters),
                             torch::optim::AdamWOptions(1e-2).weight_decay(weight_decay));
}

using support::message_of;

}  // namespace strata::small
