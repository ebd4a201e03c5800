#include "strata/models/generate.h"

#include <gmock/gmock.h>

#include <set>

#include "models/small_gpt2.h"
#include "strata/base/error.h"
#include "strata/models/gpt2.h"

namespace strata::models::generate_test {
namespace {

using ::testing::Each;

class Generate : public ::testing::Test {
 protected:
  static Gpt2 make() {
    Gpt2Config config = small_gpt2();
    config.initializer_range = 0.5;
    return Gpt2(config, Precision::kFp32, random_initializer(config, 5));
  }

  Gpt2 model_ = make();
  const std::vector<std::int64_t> prompt_ = {3, 1, 4};
};

TEST_F(Generate, TakesTheMostLikelyTokenAtTemperatureZero) {
  const auto tokens = generate(model_, prompt_, {.count = 4, .temperature = 0.0});
  std::vector<std::int64_t> text = prompt_;
  for (const std::int64_t token : tokens) {
    const torch::Tensor logits = model_.forward(torch::tensor(text).unsqueeze(0));
    EXPECT_EQ(token, logits.select(1, -1).argmax().item<std::int64_t>());
    text.push_back(token);
  }
  EXPECT_EQ(tokens, generate(model_, prompt_, {.count = 4, .temperature = 1.0, .top_k = 1}));
}

TEST_F(Generate, GivesTheSameTextForTheSameSeed) {
  const SamplingOptions options{.count = 40, .seed = 11};
  const auto first = generate(model_, prompt_, options);
  torch::manual_seed(123);
  EXPECT_EQ(generate(model_, prompt_, options), first);
  EXPECT_NE(generate(model_, prompt_, {.count = 40, .seed = 12}), first);
}

TEST_F(Generate, LeavesTheDefaultGeneratorAndTheTrainingModeAlone) {
  torch::manual_seed(1);
  const torch::Tensor expected = torch::rand({3});
  torch::manual_seed(1);
  (void)generate(model_, prompt_, {.count = 3});
  EXPECT_TRUE(torch::equal(torch::rand({3}), expected));
  EXPECT_TRUE(model_.is_training());
}

TEST_F(Generate, ChoosesAmongTheTopK) {
  const torch::Tensor logits = model_.next_token_logits(torch::tensor(prompt_).unsqueeze(0))[0];
  std::set<std::int64_t> likely;
  const torch::Tensor top = std::get<1>(logits.topk(3));
  for (int i = 0; i < 3; ++i) likely.insert(top[i].item<std::int64_t>());
  std::set<std::int64_t> seen;
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    seen.insert(
        generate(model_, prompt_, {.count = 1, .temperature = 50.0, .top_k = 3, .seed = seed})[0]);
  }
  EXPECT_EQ(seen, likely);
}

TEST_F(Generate, GoesOnBeyondTheContext) {
  const std::vector<std::int64_t> long_prompt(40, 2);  // the context is 24
  std::vector<std::int64_t> seen;
  const auto tokens = generate(model_, long_prompt, {.count = 30},
                               [&](std::int64_t token) { seen.push_back(token); });
  EXPECT_EQ(tokens.size(), 30u);
  EXPECT_EQ(tokens, seen);
  EXPECT_THAT(tokens, Each(::testing::AllOf(::testing::Ge(0), ::testing::Lt(37))));
}

TEST_F(Generate, RefusesWhatItCannotContinue) {
  const std::vector<std::int64_t> beyond = {37};
  EXPECT_THROW((void)generate(model_, {}, {}), UsageError);
  EXPECT_THROW((void)generate(model_, beyond, {}), UsageError);
  EXPECT_THROW((void)generate(model_, prompt_, {.temperature = -1.0}), UsageError);
  EXPECT_THROW((void)generate(model_, prompt_, {.top_k = -1}), UsageError);
}

}  // namespace
}  // namespace strata::models::generate_test
