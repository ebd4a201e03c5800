#include <gmock/gmock.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "models/everything_on_nvme.h"
#include "models/small_gpt2.h"
#include "models/small_llama.h"
#include "models/small_neox.h"
#include "strata/base/error.h"
#include "strata/models/causal_lm.h"
#include "strata/models/generate.h"
#include "strata/models/key_value_cache.h"
#include "strata/models/model_config.h"
#include "strata/models/model_layout.h"
#include "strata/zero3/engine.h"

/// \file
/// Continuations of several prompts with kept keys and values are those of plain forwards.

namespace strata::models::generate_batch_test {
namespace {

namespace fs = std::filesystem;
using torch::Tensor;
using Tokens = std::vector<std::int64_t>;

ModelConfig lively(ModelConfig config) {
  if (auto family = config.family(); auto* gpt2 = std::get_if<Gpt2Config>(&family)) {
    gpt2->initializer_range = 0.5;
    return *gpt2;
  }
  if (auto family = config.family(); auto* neox = std::get_if<NeoxConfig>(&family)) {
    neox->initializer_range = 0.5;
    return *neox;
  }
  LlamaConfig llama = config.as<LlamaConfig>();
  llama.initializer_range = 0.5;
  return llama;
}

LlamaConfig window_in_all_layers(std::int64_t window) {
  LlamaConfig config = small_llama(LlamaConfig::Type::kMistral);
  config.sliding_window = window;
  return config;
}

struct Case {
  const char* name;
  ModelConfig config;
};

class GenerateBatch : public ::testing::TestWithParam<Case> {
 protected:
  GenerateBatch() {
    root_ = fs::path(::testing::TempDir()) / ("strata_generate_" + std::to_string(::getpid()));
    fs::create_directories(root_);
  }
  ~GenerateBatch() override { fs::remove_all(root_); }

  [[nodiscard]] std::unique_ptr<CausalLm> in_memory() const {
    return make_causal_lm(config_, Precision::kFp32, random_initializer(config_, 5));
  }

  ModelConfig config_ = lively(GetParam().config);
  fs::path root_;
  const std::vector<Tokens> prompts_ = {{3, 1, 4, 1, 5, 9, 2, 6, 5}, {7}, {2, 7, 1, 8}};
};

/// The likeliest tokens by forwards over everything so far.
Tokens by_plain_forwards(CausalLm& model, Tokens tokens, std::int64_t count) {
  const torch::NoGradGuard no_grad;
  const std::size_t begin = tokens.size();
  for (std::int64_t i = 0; i < count; ++i) {
    const Tensor logits = model.forward(torch::tensor(tokens).unsqueeze(0));
    tokens.push_back(logits.select(1, -1).argmax().item<std::int64_t>());
  }
  return {tokens.begin() + static_cast<std::ptrdiff_t>(begin), tokens.end()};
}

TEST_P(GenerateBatch, PromptsOfUnequalLengthsHaveTheTokensOfPlainForwards) {
  const auto model = in_memory();
  const auto made = generate_batch(*model, prompts_, {.count = 14, .temperature = 0.0});
  ASSERT_EQ(made.size(), prompts_.size());
  for (std::size_t i = 0; i < made.size(); ++i) {
    EXPECT_EQ(made[i].tokens, by_plain_forwards(*model, prompts_[i], 14)) << i;
    EXPECT_EQ(made[i].completion, Completion::kCount);
  }
  EXPECT_TRUE(model->is_training());
}

TEST_P(GenerateBatch, LogitsOfTokensInAnyPiecesAreThoseOfOneForward) {
  const torch::NoGradGuard no_grad;
  const auto model = in_memory();
  model->eval();
  torch::manual_seed(3);
  const Tensor tokens = torch::randint(config_.vocab_size(), {3, 20}, torch::kInt64);
  const Tensor expected = model->forward(tokens);
  KeyValueCache cache(config_, 3, 20);
  std::vector<std::int64_t> begin(3, 0);
  for (const std::vector<std::int64_t>& counts :
       {Tokens{2, 5, 1}, Tokens{1, 1, 1}, Tokens{7, 0, 3}, Tokens{4, 11, 1}}) {
    Tensor next = torch::zeros({3, *std::ranges::max_element(counts)}, torch::kInt64);
    for (std::int64_t row = 0; row < 3; ++row) {
      const auto r = static_cast<std::size_t>(row);
      next[row].narrow(0, 0, counts[r]).copy_(tokens[row].narrow(0, begin[r], counts[r]));
      begin[r] += counts[r];
    }
    const Tensor logits = model->next_token_logits(next, counts, cache);
    EXPECT_EQ(cache.lengths(), begin);
    for (std::int64_t row = 0; row < 3; ++row) {
      const auto r = static_cast<std::size_t>(row);
      if (counts[r] == 0) continue;
      const Tensor reference = expected[row][begin[r] - 1];
      EXPECT_LT((logits[row] - reference).abs().max().item<double>(),
                2e-5 * reference.abs().max().item<double>())
          << row << " up to " << begin[r];
    }
  }
}

TEST_P(GenerateBatch, DrawsOfAPromptDependOnTheSeedAndItsPlaceAlone) {
  const auto model = in_memory();
  const SamplingOptions options{
      .count = 12, .temperature = 1.3, .top_k = 9, .top_p = 0.95, .seed = 8};
  const auto together = generate_batch(*model, prompts_, options);
  for (std::size_t i = 0; i < prompts_.size(); ++i) {
    const auto alone = generate_batch(*model, std::span(prompts_).subspan(i, 1), options, i);
    EXPECT_EQ(alone.front().tokens, together[i].tokens) << i;
  }
  SamplingOptions other = options;
  other.seed = 9;
  EXPECT_NE(generate_batch(*model, prompts_, other)[0].tokens, together[0].tokens);
  const std::vector<Tokens> twice(2, prompts_[0]);
  const auto same = generate_batch(*model, twice, options);
  EXPECT_NE(same[0].tokens, same[1].tokens);
}

TEST_P(GenerateBatch, ATextEndsAtAStopTokenAndAtTheContextWhileOthersGoOn) {
  const auto model = in_memory();
  const auto whole = generate_batch(*model, prompts_, {.count = 12, .temperature = 0.0});
  const std::int64_t stop = whole[1].tokens[4];
  const auto stopped =
      generate_batch(*model, prompts_, {.count = 12, .temperature = 0.0, .stop_tokens = {stop}});
  for (std::size_t i = 0; i < prompts_.size(); ++i) {
    const auto end = std::ranges::find(whole[i].tokens, stop);
    const bool stops = end != whole[i].tokens.end();
    EXPECT_EQ(stopped[i].completion, stops ? Completion::kStopToken : Completion::kCount);
    EXPECT_EQ(stopped[i].tokens, Tokens(whole[i].tokens.begin(), stops ? end + 1 : end));
  }
  const auto full = generate_batch(*model, prompts_, {.count = 1000, .temperature = 0.0});
  for (std::size_t i = 0; i < prompts_.size(); ++i) {
    EXPECT_EQ(full[i].completion, Completion::kContext);
    EXPECT_EQ(full[i].tokens.size() + prompts_[i].size(),
              static_cast<std::size_t>(config_.context()));
  }
}

TEST_P(GenerateBatch, AModelThatIsReadOnlyHasTheTokensAndPlacesWeightsAlone) {
  const auto model = in_memory();
  const SamplingOptions options{.count = 10, .temperature = 0.0};
  const auto expected = generate_batch(*model, prompts_, options);
  formats::DsConfig config = everything_on_nvme("generate", root_, Precision::kFp32, 1);
  config.strata.host_cache = false;
  Engine engine(config);
  const auto frozen =
      make_causal_lm(config_, engine, random_initializer(config_, 5), ParameterUse::kRead);
  engine.prepare();
  const auto end_pass = [&] {
    engine.skip_micro_batch();
    (void)engine.step();
  };
  end_pass();
  std::size_t passes = 0;
  const auto made = generate_batch(*frozen, prompts_, options, 0, {.after_pass = [&] {
    ++passes;
    end_pass();
  }});
  EXPECT_EQ(passes, 10u);
  for (std::size_t i = 0; i < made.size(); ++i) EXPECT_EQ(made[i].tokens, expected[i].tokens) << i;
  for (const auto& unit : engine.plan_input().units) {
    EXPECT_EQ(unit.trainable_count + unit.fp32_trainable_count, 0u) << unit.name;
  }
  for (const auto& item : engine.plan().items) {
    EXPECT_THAT(item.what, ::testing::AnyOf("weights", "staging of weights", "unsharded units"));
  }
}

TEST_P(GenerateBatch, APassOverTilesHasTheTokensToo) {
  const auto model = in_memory();
  const SamplingOptions options{.count = 6, .temperature = 0.0};
  const auto expected = generate_batch(*model, prompts_, options);
  formats::DsConfig config = everything_on_nvme("generate", root_, Precision::kFp32, 1);
  const bool cuts_blocks = std::holds_alternative<Gpt2Config>(config_.family());
  config.strata.tile_bytes =
      cuts_blocks ? 1000 : unit_layouts(config_)[1].trainable_count * sizeof(float);
  Engine engine(config);
  const auto frozen =
      make_causal_lm(config_, engine, random_initializer(config_, 5), ParameterUse::kRead);
  const auto made = generate_batch(*frozen, prompts_, options);
  for (std::size_t i = 0; i < made.size(); ++i) EXPECT_EQ(made[i].tokens, expected[i].tokens) << i;
}

INSTANTIATE_TEST_SUITE_P(
    Models, GenerateBatch,
    ::testing::Values(Case{"gpt2", small_gpt2()}, Case{"llama", small_llama()},
                      Case{"qwen3_with_all", small_llama_with_all()},
                      Case{"gemma2", small_gemma2()}, Case{"smollm3", small_smollm3()},
                      Case{"gptj", small_gptj()}, Case{"gpt_neox", small_neox()},
                      Case{"mistral_window", window_in_all_layers(5)},
                      Case{"mistral_window_of_one", window_in_all_layers(1)},
                      Case{"mistral_window_of_the_context", window_in_all_layers(24)}),
    [](const auto& given) { return given.param.name; });

TEST(GenerateBatchRefusals, SayWhatIsWrong) {
  const ModelConfig config = small_llama();
  const auto model = make_causal_lm(config, Precision::kFp32, random_initializer(config, 5));
  const std::vector<Tokens> full = {Tokens(24, 1)}, empty = {{}}, beyond = {{37}}, one = {{1}};
  EXPECT_THROW((void)generate_batch(*model, full, {}), UsageError);
  EXPECT_THROW((void)generate_batch(*model, empty, {}), UsageError);
  EXPECT_THROW((void)generate_batch(*model, beyond, {}), UsageError);
  EXPECT_THROW((void)generate_batch(*model, one, {.top_p = 0.0}), UsageError);
  EXPECT_THROW((void)generate_batch(*model, one, {.top_p = 1.1}), UsageError);
  EXPECT_THROW(KeyValueCache(config, 0, 3), UsageError);
  EXPECT_THROW(KeyValueCache(config, 1, 25), UsageError);
  KeyValueCache cache(config, 1, 3);
  const Tensor four = torch::zeros({1, 4}, torch::kInt64);
  EXPECT_THROW((void)model->next_token_logits(four, {4}, cache), UsageError);
  EXPECT_THROW((void)model->next_token_logits(four, {1, 1}, cache), UsageError);
}

TEST(GenerateBatchTopP, LeavesTheLikeliestTokensThatHaveItTogether) {
  ModelConfig config = small_gpt2();
  config = lively(config);
  const auto model = make_causal_lm(config, Precision::kFp32, random_initializer(config, 5));
  const Tokens prompt = {3, 1, 4};
  model->eval();
  const torch::NoGradGuard no_grad;
  const Tensor sorted = std::get<0>(
      torch::softmax(
          model->next_token_logits(torch::tensor(prompt).unsqueeze(0))[0].to(torch::kFloat64) / 3.0,
          0)
          .sort(-1, /*descending=*/true));
  const double top_p = sorted.narrow(0, 0, 5).sum().item<double>() - 1e-6;
  const std::vector<Tokens> many(400, prompt);
  std::set<std::int64_t> seen;
  for (const Continuation& made :
       generate_batch(*model, many, {.count = 1, .temperature = 3.0, .top_p = top_p, .seed = 2})) {
    seen.insert(made.tokens.front());
  }
  EXPECT_EQ(seen.size(), 5u);
}

TEST(GenerateBatchDraws, FollowTheProbabilities) {
  const ModelConfig config = lively(small_gpt2());
  const auto model = make_causal_lm(config, Precision::kFp32, random_initializer(config, 5));
  const Tokens prompt = {3, 1, 4};
  model->eval();
  const torch::NoGradGuard no_grad;
  const Tensor expected = torch::softmax(
      model->next_token_logits(torch::tensor(prompt).unsqueeze(0))[0].to(torch::kFloat64) / 4.0, 0);
  const std::int64_t draws = 4000;
  const std::vector<Tokens> many(static_cast<std::size_t>(draws), prompt);
  Tensor counts = torch::zeros({config.vocab_size()}, torch::kFloat64);
  for (const Continuation& made :
       generate_batch(*model, many, {.count = 1, .temperature = 4.0, .seed = 4})) {
    counts[made.tokens.front()] += 1.0;
  }
  const Tensor variance = static_cast<double>(draws) * expected * (1 - expected);
  const Tensor deviations =
      (counts - static_cast<double>(draws) * expected) / variance.clamp_min(1.0).sqrt();
  EXPECT_LT(deviations.abs().max().item<double>(), 4.5);
}

TEST(KeyValueCacheBytes, AreWhatItsTensorsTake) {
  const LlamaConfig config = small_llama();
  EXPECT_EQ(KeyValueCache::bytes(config, Precision::kBf16, 3, 10),
            std::uint64_t{3} * 11 * 3 * 2 * 12 * 2);
  EXPECT_EQ(KeyValueCache::bytes(small_gpt2(), Precision::kFp32, 1, 1),
            std::uint64_t{2} * static_cast<std::uint64_t>(small_gpt2().n_layer) * 2 *
                static_cast<std::uint64_t>(small_gpt2().n_embd) * 4);
}

}  // namespace
}  // namespace strata::models::generate_batch_test
