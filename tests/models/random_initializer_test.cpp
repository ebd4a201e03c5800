#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <vector>

#include "strata/models/gpt2.h"
#include "strata/optim_cpu/normal_numbers.h"
#include "strata/zero3/ranged_initializer.h"

namespace strata::models::random_initializer_test {
namespace {

torch::Tensor values(const ParameterInitializer& initialize, const std::string& name,
                     std::vector<std::int64_t> shape) {
  torch::Tensor value = torch::full(shape, std::nan(""));
  initialize(name, value);
  return value;
}

TEST(RandomInitializer, GivesEveryKindOfParameterItsDistribution) {
  const Gpt2Config config = Gpt2Config::preset("gpt2");
  const ParameterInitializer initialize = random_initializer(config, 7);
  const auto deviation = [&](const char* name) {
    return values(initialize, name, {512, 512}).std().item<double>();
  };
  EXPECT_NEAR(deviation("transformer.wte.weight"), 0.02, 2e-4);
  EXPECT_NEAR(deviation("transformer.wpe.weight"), 0.02, 2e-4);
  EXPECT_NEAR(deviation("transformer.h.3.attn.c_attn.weight"), 0.02, 2e-4);
  EXPECT_NEAR(deviation("transformer.h.3.mlp.c_fc.weight"), 0.02, 2e-4);
  EXPECT_NEAR(deviation("transformer.h.3.attn.c_proj.weight"), 0.02 / std::sqrt(24.0), 4e-5);
  EXPECT_NEAR(deviation("transformer.h.3.mlp.c_proj.weight"), 0.02 / std::sqrt(24.0), 4e-5);
  for (const char* norm : {"h.0.ln_1", "h.11.ln_2", "ln_f"}) {
    const std::string name = std::string("transformer.") + norm;
    EXPECT_TRUE(values(initialize, name + ".weight", {9}).eq(1.0).all().item<bool>()) << name;
    EXPECT_TRUE(values(initialize, name + ".bias", {9}).eq(0.0).all().item<bool>()) << name;
  }
  EXPECT_TRUE(
      values(initialize, "transformer.h.3.mlp.c_proj.bias", {9}).eq(0.0).all().item<bool>());
}

TEST(RandomInitializer, DependsOnTheSeedAndTheNameAlone) {
  const Gpt2Config config = Gpt2Config::preset("gpt2");
  const std::string name = "transformer.h.0.mlp.c_fc.weight";
  const torch::Tensor first = values(random_initializer(config, 7), name, {40, 30});

  const ParameterInitializer again = random_initializer(config, 7);
  torch::manual_seed(99);
  const torch::Tensor other_name = values(again, "transformer.h.1.mlp.c_fc.weight", {40, 30});
  EXPECT_TRUE(torch::equal(values(again, name, {40, 30}), first));
  EXPECT_FALSE(torch::equal(other_name, first));
  EXPECT_FALSE(torch::equal(values(random_initializer(config, 8), name, {40, 30}), first));
}

TEST(RandomInitializer, GivesTheSameValuesAsAWholeAndBlockByBlockInAnyOrder) {
  const ParameterInitializer initialize = random_initializer(Gpt2Config::preset("gpt2"), 7);
  const auto* const ranged = initialize.target<RangedInitializer>();
  ASSERT_NE(ranged, nullptr);
  for (const char* const name : {"transformer.wte.weight", "transformer.h.1.ln_1.weight"}) {
    const torch::Tensor whole = values(initialize, name, {401, 1001});
    std::vector<float> blocks(static_cast<std::size_t>(whole.numel()));
    const std::uint64_t block = ranged->block_elements();
    for (std::uint64_t i = blocks.size() / block + 1; i-- > 0;) {
      const auto rest = std::span(blocks).subspan(i * block);
      ranged->fill()(name, i * block, rest.first(std::min(rest.size(), block)));
    }
    EXPECT_TRUE(
        std::ranges::equal(blocks, std::span(whole.const_data_ptr<float>(), blocks.size())));
  }
}

TEST(RandomInitializer, GivesASeedTheNumbersThatItAlwaysHad) {
  const torch::Tensor drawn = values(random_initializer(Gpt2Config::preset("gpt2"), 7),
                                     "transformer.wte.weight", {(1 << 16) + 1000});
  // What a name and a seed make of one another is part of the promise; the sequence is
  // NormalNumbers'.
  std::vector<float> expected((1 << 16) + 1000);
  optim_cpu::normal_numbers({}, 0xdd144f11b50447e6, 0, 0.02F, expected);
  EXPECT_TRUE(
      std::ranges::equal(expected, std::span(drawn.const_data_ptr<float>(), expected.size())));
}

TEST(RandomInitializer, DrawsIndependentNormalNumbers) {
  const Gpt2Config config = Gpt2Config::preset("gpt2");
  const torch::Tensor drawn =
      values(random_initializer(config, 7), "transformer.wte.weight", {1 << 20}).div_(0.02);
  // Of n numbers the mean and the correlation deviate by 1 / sqrt(n), the fourth moment, 3, by
  // sqrt(96 / n); five times that is allowed. The share beyond 3 deviations is 0.0027.
  EXPECT_NEAR(drawn.mean().item<double>(), 0.0, 5e-3);
  EXPECT_NEAR(drawn.pow(4).mean().item<double>(), 3.0, 0.05);
  EXPECT_NEAR(drawn.abs().gt(3.0).to(torch::kFloat32).mean().item<double>(), 0.0027, 0.0003);
  for (const std::int64_t distance :
       {std::int64_t{1}, std::int64_t{1} << 15, std::int64_t{1} << 16}) {
    const torch::Tensor both =
        drawn.narrow(0, 0, (1 << 20) - distance) * drawn.narrow(0, distance, (1 << 20) - distance);
    EXPECT_NEAR(both.mean().item<double>(), 0.0, 6e-3) << distance;
  }
}

}  // namespace
}  // namespace strata::models::random_initializer_test
