#include "strata/models/gpt2.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "models/small_gpt2.h"
#include "strata/base/error.h"

namespace strata::models::gpt2_test {
namespace {

using Weights = std::map<std::string, torch::Tensor>;

Gpt2 make(const Gpt2Config& config, Precision precision = Precision::kFp32) {
  return Gpt2(config, precision, [](const std::string& name, torch::Tensor& value) {
    // Large enough that every parameter, bias and norm included, changes the result visibly.
    Gpt2Config wide;
    wide.initializer_range = 0.3;
    random_initializer(wide, 3)(name.ends_with("bias") ? name + ".weight" : name, value);
    if (name.find("ln_") != std::string::npos) value += torch::randn_like(value) * 0.1;
  });
}

Weights weights_of(Gpt2& model) {
  Weights weights;
  model.visit_parameters(
      [&](const std::string& name, const torch::Tensor& value) { weights[name] = value; });
  return weights;
}

torch::Tensor random_tokens(const Gpt2Config& config, std::vector<std::int64_t> shape) {
  return torch::randint(config.vocab_size, shape, torch::kInt64);
}

/// GPT-2 as one reads it in the paper: masks and softmax written out, one head after the other.
class ReferenceGpt2 {
 public:
  ReferenceGpt2(const Gpt2Config& config, Weights weights)
      : config_(config), weights_(std::move(weights)) {}

  torch::Tensor logits(const torch::Tensor& tokens) const {
    torch::Tensor x = weight("transformer.wte.weight").index({tokens}) +
                      weight("transformer.wpe.weight").narrow(0, 0, tokens.size(1));
    for (std::int64_t i = 0; i < config_.n_layer; ++i) {
      const std::string block = "transformer.h." + std::to_string(i);
      x = x + attention(block + ".attn", norm(block + ".ln_1", x));
      const torch::Tensor hidden = gelu(matrix(block + ".mlp.c_fc", norm(block + ".ln_2", x)));
      x = x + matrix(block + ".mlp.c_proj", hidden);
    }
    const char* head = config_.tie_word_embeddings ? "transformer.wte.weight" : "lm_head.weight";
    return norm("transformer.ln_f", x).matmul(weight(head).t());
  }

 private:
  const torch::Tensor& weight(const std::string& name) const { return weights_.at(name); }

  torch::Tensor norm(const std::string& name, const torch::Tensor& x) const {
    const torch::Tensor centred = x - x.mean(-1, /*keepdim=*/true);
    const torch::Tensor variance = centred.square().mean(-1, /*keepdim=*/true);
    return centred / (variance + config_.layer_norm_epsilon).sqrt() * weight(name + ".weight") +
           weight(name + ".bias");
  }

  torch::Tensor matrix(const std::string& name, const torch::Tensor& x) const {
    return x.matmul(weight(name + ".weight")) + weight(name + ".bias");
  }

  static torch::Tensor gelu(const torch::Tensor& x) {
    return 0.5 * x * (1 + torch::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x.pow(3))));
  }

  torch::Tensor attention(const std::string& name, const torch::Tensor& x) const {
    const std::int64_t length = x.size(1), dim = config_.head_dim();
    const auto qkv = matrix(name + ".c_attn", x).chunk(3, 2);
    const torch::Tensor future = torch::ones({length, length}, torch::kBool).triu(1);
    std::vector<torch::Tensor> heads;
    for (std::int64_t h = 0; h < config_.n_head; ++h) {
      const auto of_head = [&](const torch::Tensor& t) { return t.narrow(2, h * dim, dim); };
      torch::Tensor scores = of_head(qkv[0]).matmul(of_head(qkv[1]).transpose(1, 2)) /
                             std::sqrt(static_cast<double>(dim));
      scores = scores.masked_fill(future, -INFINITY);
      heads.push_back(torch::softmax(scores, -1).matmul(of_head(qkv[2])));
    }
    return matrix(name + ".c_proj", torch::cat(heads, 2));
  }

  Gpt2Config config_;
  Weights weights_;
};

class Gpt2Numbers : public ::testing::TestWithParam<bool> {};

TEST_P(Gpt2Numbers, EqualThoseOfTheFormulasWrittenOut) {
  torch::manual_seed(4);
  Gpt2Config config = small_gpt2();
  config.tie_word_embeddings = GetParam();
  Gpt2 model = make(config);
  const torch::Tensor tokens = random_tokens(config, {2, 19});
  const torch::Tensor targets = random_tokens(config, {2, 19});

  const torch::Tensor expected = ReferenceGpt2(config, weights_of(model)).logits(tokens);
  const torch::Tensor logits = model.forward(tokens);
  EXPECT_TRUE(torch::allclose(logits, expected, 1e-4, 1e-4))
      << (logits - expected).abs().max().item<double>();
  EXPECT_TRUE(torch::allclose(model.next_token_logits(tokens), expected.select(1, -1), 1e-4, 1e-4));

  const torch::Tensor expected_loss =
      torch::nn::functional::cross_entropy(expected.flatten(0, 1), targets.flatten());
  EXPECT_NEAR(model.loss(tokens, targets).item<double>(), expected_loss.item<double>(), 1e-4);
}

TEST_P(Gpt2Numbers, HaveTheGradientsOfTheFormulasWrittenOut) {
  torch::manual_seed(5);
  Gpt2Config config = small_gpt2();
  config.tie_word_embeddings = GetParam();
  Gpt2 model = make(config);
  const torch::Tensor tokens = random_tokens(config, {2, 19});
  const torch::Tensor targets = random_tokens(config, {2, 19});
  model.loss(tokens, targets).backward();

  Weights copies;
  for (const auto& [name, value] : weights_of(model)) {
    copies[name] = value.detach().clone().requires_grad_();
  }
  const torch::Tensor logits = ReferenceGpt2(config, copies).logits(tokens);
  torch::nn::functional::cross_entropy(logits.flatten(0, 1), targets.flatten()).backward();
  for (const auto& [name, value] : weights_of(model)) {
    EXPECT_TRUE(torch::allclose(value.grad(), copies[name].grad(), 1e-3, 1e-5)) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Head, Gpt2Numbers, ::testing::Values(true, false),
                         [](const auto& test) { return test.param ? "Tied" : "Untied"; });

class Gpt2Precisions : public ::testing::TestWithParam<Precision> {};

TEST_P(Gpt2Precisions, StayCloseToFp32) {
  torch::manual_seed(6);
  const Gpt2Config config = small_gpt2();
  const torch::Tensor tokens = random_tokens(config, {2, 24});
  const torch::Tensor targets = random_tokens(config, {2, 24});
  const auto initialize = random_initializer(config, 1);
  Gpt2 exact(config, Precision::kFp32, initialize);
  Gpt2 model(config, GetParam(), initialize);

  const torch::Tensor logits = model.forward(tokens);
  EXPECT_EQ(logits.element_size(), static_cast<std::int64_t>(weight_bytes(GetParam())));
  EXPECT_TRUE(torch::allclose(logits.to(torch::kFloat32), exact.forward(tokens), 0, 0.02));
  const torch::Tensor loss = model.loss(tokens, targets);
  EXPECT_EQ(loss.scalar_type(), torch::kFloat32);
  EXPECT_NEAR(loss.item<double>(), exact.loss(tokens, targets).item<double>(), 0.01);
  loss.backward();
  for (const torch::Tensor& parameter : model.parameters()) {
    EXPECT_EQ(parameter.grad().scalar_type(), logits.scalar_type());
  }
}

INSTANTIATE_TEST_SUITE_P(All, Gpt2Precisions,
                         ::testing::Values(Precision::kFp32, Precision::kBf16, Precision::kFp16),
                         [](const auto& test) { return std::string(name_of(test.param)); });

TEST(Gpt2, SeesNoToken_AfterTheOneItPredicts) {
  const Gpt2Config config = small_gpt2();
  Gpt2 model = make(config);
  torch::Tensor tokens = random_tokens(config, {1, 20});
  const torch::Tensor before = model.forward(tokens);
  tokens[0][12] = (tokens[0][12] + 1) % config.vocab_size;
  const torch::Tensor after = model.forward(tokens);
  EXPECT_TRUE(torch::allclose(before.narrow(1, 0, 12), after.narrow(1, 0, 12)));
  EXPECT_FALSE(torch::allclose(before.narrow(1, 12, 1), after.narrow(1, 12, 1)));
}

TEST(Gpt2, DropsOutInTrainingOnly) {
  Gpt2Config config = small_gpt2();
  config.resid_pdrop = config.embd_pdrop = config.attn_pdrop = 0.5;
  Gpt2 model = make(config);
  const torch::Tensor tokens = random_tokens(config, {1, 20});
  torch::manual_seed(1);
  const torch::Tensor first = model.forward(tokens);
  EXPECT_FALSE(torch::equal(model.forward(tokens), first));
  torch::manual_seed(1);
  EXPECT_TRUE(torch::equal(model.forward(tokens), first));

  model.eval();
  EXPECT_FALSE(model.is_training());
  EXPECT_TRUE(torch::equal(model.forward(tokens), model.forward(tokens)));
}

TEST(Gpt2, NamesAndShapesItsParametersAsTransformersDoes) {
  Gpt2Config config = small_gpt2();
  config.n_layer = 1;
  config.tie_word_embeddings = false;
  Gpt2 model = make(config);
  std::map<std::string, std::vector<std::int64_t>> shapes;
  for (const auto& [name, value] : weights_of(model)) shapes[name] = value.sizes().vec();
  const std::map<std::string, std::vector<std::int64_t>> expected = {
      {"transformer.wte.weight", {37, 16}},
      {"transformer.wpe.weight", {24, 16}},
      {"transformer.h.0.ln_1.weight", {16}},
      {"transformer.h.0.ln_1.bias", {16}},
      {"transformer.h.0.attn.c_attn.weight", {16, 48}},
      {"transformer.h.0.attn.c_attn.bias", {48}},
      {"transformer.h.0.attn.c_proj.weight", {16, 16}},
      {"transformer.h.0.attn.c_proj.bias", {16}},
      {"transformer.h.0.ln_2.weight", {16}},
      {"transformer.h.0.ln_2.bias", {16}},
      {"transformer.h.0.mlp.c_fc.weight", {16, 64}},
      {"transformer.h.0.mlp.c_fc.bias", {64}},
      {"transformer.h.0.mlp.c_proj.weight", {64, 16}},
      {"transformer.h.0.mlp.c_proj.bias", {16}},
      {"transformer.ln_f.weight", {16}},
      {"transformer.ln_f.bias", {16}},
      {"lm_head.weight", {37, 16}},
  };
  EXPECT_EQ(shapes, expected);
}

TEST(Gpt2, LaysOutOneOuterUnitAndOneForEachBlock) {
  const Gpt2Config config = small_gpt2();
  const std::vector<zero3::UnitLayout> units = unit_layouts(config);
  ASSERT_EQ(units.size(), 4u);
  EXPECT_EQ(units[0].name, "transformer");
  EXPECT_EQ(units[1].name, "transformer.h.0");
  EXPECT_EQ(units[3].name, "transformer.h.2");

  Gpt2 model = make(config);
  std::uint64_t in_memory = 0;
  for (const torch::Tensor& parameter : model.parameters()) {
    in_memory += static_cast<std::uint64_t>(parameter.numel());
  }
  EXPECT_EQ(parameter_count(config), in_memory);
}

TEST(Gpt2, RefusesTokensAndTargetsOfOtherShapes) {
  const Gpt2Config config = small_gpt2();
  Gpt2 model = make(config);
  EXPECT_THROW((void)model.forward(random_tokens(config, {1, 25})), UsageError);
  EXPECT_THROW((void)model.forward(random_tokens(config, {5})), UsageError);
  EXPECT_THROW((void)model.forward(torch::zeros({1, 5})), UsageError);
  EXPECT_THROW((void)model.loss(random_tokens(config, {1, 5}), random_tokens(config, {1, 6})),
               UsageError);
}

}  // namespace
}  // namespace strata::models::gpt2_test
