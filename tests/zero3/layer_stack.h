#pragma once

#include <torch/torch.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "zero3/ranks/ranks.h"
#include "zero3/small_engine.h"

namespace strata::small {

/// A rank's engine of `count` layers.
struct Stack {
  explicit Stack(const formats::DsConfig& config, int count = 2,
                 const std::vector<std::int64_t>& frozen = {}, std::int64_t width = kWidth,
                 zero3::Ranks* ranks = nullptr)
      : rank(ranks != nullptr ? ranks->rank() : 0), engine(config, {.ranks = ranks}) {
    for (int i = 0; i < count; ++i) {
      torch::nn::Linear layer =
          linear(static_cast<std::uint64_t>(i), kWidth, i + 1 == count ? width : kWidth);
      if (std::ranges::find(frozen, i) != frozen.end()) layer->weight.set_requires_grad(false);
      layers.push_back(engine.shard(layer, {.name = "layers." + std::to_string(i)}));
    }
  }
  /// A micro-batch, and its step when the accumulation is full.
  StepReport train(std::uint64_t batch) {
    torch::Tensor x =
        input(batch * 8 + static_cast<unsigned>(rank)).to(layers[0]->parameters()[0].scalar_type());
    for (auto& layer : layers) x = layer(x);
    return train_once(engine, x.to(torch::kFloat32).square().mean());
  }
  int rank;
  Engine engine;
  std::vector<Sharded<torch::nn::Linear>> layers;
};

}  // namespace strata::small
