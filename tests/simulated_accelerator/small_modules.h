#pragma once

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <memory>
#include <string>
#include <vector>

/// \file
/// Modules of a few thousand parameters with the layers that language models have, and how two of
/// them are compared.

namespace strata::simulated {

struct NormedMlp : torch::nn::Module {
  NormedMlp() {
    norm = register_module("norm", torch::nn::LayerNorm(torch::nn::LayerNormOptions({32})));
    up = register_module("up", torch::nn::Linear(32, 64));
    down = register_module("down", torch::nn::Linear(64, 32));
  }
  torch::Tensor forward(const torch::Tensor& x) { return x + down(torch::gelu(up(norm(x)))); }
  torch::nn::LayerNorm norm{nullptr};
  torch::nn::Linear up{nullptr}, down{nullptr};
};

/// RMSNorm, causal attention and SwiGLU.
struct LlamaBlock : torch::nn::Module {
  LlamaBlock() {
    const auto linear = [this](const char* name, int inputs, int outputs) {
      return register_module(
          name, torch::nn::Linear(torch::nn::LinearOptions(inputs, outputs).bias(false)));
    };
    scale = register_parameter("scale", torch::ones({kWidth}));
    qkv = linear("qkv", kWidth, 3 * kWidth);
    out = linear("out", kWidth, kWidth);
    gate = linear("gate", kWidth, 2 * kWidth);
    up = linear("up", kWidth, 2 * kWidth);
    down = linear("down", 2 * kWidth, kWidth);
  }

  torch::Tensor normalize(const torch::Tensor& x) {
    const torch::Tensor wide = x.to(torch::kFloat);
    const torch::Tensor inverse = torch::rsqrt(wide.pow(2).mean(-1, /*keepdim=*/true) + 1e-6);
    return (wide * inverse).to(x.scalar_type()) * scale;
  }

  torch::Tensor forward(torch::Tensor x) {
    const auto batch = x.size(0);
    const auto tokens = x.size(1);
    const torch::Tensor heads = qkv(normalize(x))
                                    .view({batch, tokens, 3, kHeads, kWidth / kHeads})
                                    .permute({2, 0, 3, 1, 4});
    const torch::Tensor attended = torch::scaled_dot_product_attention(
        heads[0], heads[1], heads[2], /*attn_mask=*/{}, /*dropout_p=*/0.0, /*is_causal=*/true);
    x = x + out(attended.transpose(1, 2).reshape({batch, tokens, kWidth}));
    const torch::Tensor normed = normalize(x);
    return x + down(torch::silu(gate(normed)) * up(normed));
  }

  static constexpr int kWidth = 32;
  static constexpr int kHeads = 4;
  torch::Tensor scale;
  torch::nn::Linear qkv{nullptr}, out{nullptr}, gate{nullptr}, up{nullptr}, down{nullptr};
};

struct SmallLlama : torch::nn::Module {
  SmallLlama() {
    embedding = register_module("embedding", torch::nn::Embedding(kVocabulary, LlamaBlock::kWidth));
    for (int i = 0; i < 2; ++i) {
      blocks.push_back(
          register_module("block" + std::to_string(i), std::make_shared<LlamaBlock>()));
    }
    head = register_module("head", torch::nn::Linear(LlamaBlock::kWidth, kVocabulary));
  }

  torch::Tensor loss(const torch::Tensor& tokens, const torch::Tensor& targets) {
    torch::Tensor x = embedding(tokens);
    for (const auto& block : blocks) x = block->forward(x);
    return torch::cross_entropy_loss(head(x).view({-1, kVocabulary}).to(torch::kFloat),
                                     targets.view({-1}));
  }

  static constexpr int kVocabulary = 64;
  torch::nn::Embedding embedding{nullptr};
  std::vector<std::shared_ptr<LlamaBlock>> blocks;
  torch::nn::Linear head{nullptr};
};

/// A module with the parameters that this seed gives.
template <typename Module>
std::shared_ptr<Module> seeded(std::uint64_t seed, torch::ScalarType type) {
  torch::manual_seed(seed);
  auto module = std::make_shared<Module>();
  module->to(type);
  return module;
}

inline std::vector<torch::Tensor> gradients_of(const torch::nn::Module& module) {
  std::vector<torch::Tensor> gradients;
  for (const torch::Tensor& parameter : module.parameters()) gradients.push_back(parameter.grad());
  return gradients;
}

inline void expect_same_bits(const torch::Tensor& on_cpu, const torch::Tensor& on_device) {
  ASSERT_TRUE(on_cpu.defined() && on_device.defined());
  EXPECT_TRUE(on_device.device().is_privateuseone());
  EXPECT_TRUE(torch::equal(on_cpu, on_device.cpu()));
}

inline void expect_same_bits(const std::vector<torch::Tensor>& on_cpu,
                             const std::vector<torch::Tensor>& on_device) {
  ASSERT_EQ(on_cpu.size(), on_device.size());
  for (std::size_t i = 0; i < on_cpu.size(); ++i) {
    SCOPED_TRACE("tensor " + std::to_string(i));
    expect_same_bits(on_cpu[i], on_device[i]);
  }
}

}  // namespace strata::simulated
