#include "strata/models/generate.h"

#include <algorithm>
#include <string>
#include <utility>

#include "models/token_choice.h"
#include "strata/base/error.h"
#include "strata/models/key_value_cache.h"
#include "strata/models/model_config.h"

namespace strata::models {

namespace {

using torch::Tensor;
using Tokens = std::vector<std::int64_t>;

void check(const SamplingOptions& options) {
  if (options.count < 0 || !(options.temperature >= 0.0) || options.top_k < 0) {
    throw UsageError("generate needs count, temperature and top_k that are not negative");
  }
  if (!(options.top_p > 0.0 && options.top_p <= 1.0)) {
    throw UsageError("generate needs a top_p above 0 and at most 1");
  }
}

void check(const ModelConfig& config, std::span<const std::int64_t> prompt) {
  if (prompt.empty()) throw UsageError("generate needs a prompt of at least one token");
  for (const std::int64_t token : prompt) {
    if (token < 0 || token >= config.vocab_size()) {
      throw UsageError("token " + std::to_string(token) +
                       " of the prompt is beyond the vocabulary of " +
                       std::to_string(config.vocab_size()));
    }
  }
}

/// Switches dropout off while it lives.
class EvalScope {
 public:
  explicit EvalScope(CausalLm& model) : model_(model), was_training_(model.is_training()) {
    model_.eval();
  }
  ~EvalScope() { model_.train(was_training_); }
  EvalScope(const EvalScope&) = delete;
  EvalScope& operator=(const EvalScope&) = delete;

 private:
  CausalLm& model_;
  bool was_training_;
};

Tensor row_of(std::span<const std::int64_t> tokens) {
  return torch::tensor(torch::ArrayRef(tokens.data(), tokens.size()), torch::kInt64).unsqueeze(0);
}

/// The prompts beneath one another, [rows, longest], and their lengths.
struct Prompts {
  explicit Prompts(std::span<const Tokens> prompts) {
    std::size_t longest = 0;
    for (const Tokens& prompt : prompts) {
      longest = std::max(longest, prompt.size());
      lengths.push_back(static_cast<std::int64_t>(prompt.size()));
    }
    tokens = torch::zeros(
        {static_cast<std::int64_t>(prompts.size()), static_cast<std::int64_t>(longest)},
        torch::kInt64);
    for (std::size_t row = 0; row < prompts.size(); ++row) {
      tokens[static_cast<std::int64_t>(row)]
          .narrow(0, 0, lengths[row])
          .copy_(row_of(prompts[row])[0]);
    }
  }

  Tensor tokens;
  std::vector<std::int64_t> lengths;
};

}  // namespace

Tokens generate(CausalLm& model, std::span<const std::int64_t> prompt,
                const SamplingOptions& options, const std::function<void(std::int64_t)>& on_token) {
  const ModelConfig config = model.model_config();
  check(options);
  check(config, prompt);
  const torch::NoGradGuard no_grad;
  const EvalScope eval(model);
  const auto context = static_cast<std::size_t>(config.context());
  KeyValueCache cache(config, 1, kept_positions(prompt.size(), options.count, config.context()));

  Tokens tokens(prompt.begin(), prompt.end());
  for (std::int64_t made = 0; made < options.count; ++made) {
    Tensor logits;
    if (tokens.size() <= context) {
      const auto seen = static_cast<std::size_t>(cache.lengths().front());
      const Tensor next = row_of(std::span(tokens).subspan(seen));
      logits = model.next_token_logits(next, {next.size(1)}, cache);
    } else {
      logits = model.next_token_logits(row_of(std::span(tokens).last(context)));
    }
    tokens.push_back(choose_token(logits[0], options, 0, static_cast<std::uint64_t>(made)));
    if (on_token) on_token(tokens.back());
    if (std::ranges::count(options.stop_tokens, tokens.back()) > 0) break;
  }
  return {tokens.begin() + static_cast<std::ptrdiff_t>(prompt.size()), tokens.end()};
}

std::vector<Continuation> generate_batch(CausalLm& model, std::span<const Tokens> prompts,
                                         const SamplingOptions& options, std::uint64_t first,
                                         const GenerationHooks& hooks) {
  const ModelConfig config = model.model_config();
  check(options);
  std::size_t longest = 0;
  for (const Tokens& prompt : prompts) {
    check(config, prompt);
    longest = std::max(longest, prompt.size());
  }
  if (longest >= static_cast<std::size_t>(config.context())) {
    throw UsageError("a prompt of " + std::to_string(longest) +
                     " tokens leaves no room in the model's context of " +
                     std::to_string(config.context()));
  }
  std::vector<Continuation> made(prompts.size());
  if (prompts.empty() || options.count == 0) return made;
  const torch::NoGradGuard no_grad;
  const EvalScope eval(model);
  KeyValueCache cache(config, static_cast<std::int64_t>(prompts.size()),
                      kept_positions(longest, options.count, config.context()));

  auto [tokens, counts] = Prompts(prompts);
  for (std::int64_t number = 0; std::ranges::any_of(counts, [](auto count) { return count > 0; });
       ++number) {
    const Tensor logits = model.next_token_logits(tokens, counts, cache);
    if (hooks.after_pass) hooks.after_pass();
    tokens = torch::zeros({tokens.size(0), 1}, torch::kInt64);
    for (std::size_t row = 0; row < prompts.size(); ++row) {
      if (std::exchange(counts[row], 0) == 0) continue;
      const auto index = static_cast<std::int64_t>(row);
      const std::int64_t token =
          choose_token(logits[index], options, first + row, static_cast<std::uint64_t>(number));
      Continuation& own = made[row];
      own.tokens.push_back(token);
      if (hooks.on_token) hooks.on_token(row, token);
      if (std::ranges::count(options.stop_tokens, token) > 0) {
        own.completion = Completion::kStopToken;
      } else if (number + 1 == options.count) {
        own.completion = Completion::kCount;
      } else if (cache.lengths()[row] + 1 == config.context()) {
        own.completion = Completion::kContext;
      } else {
        tokens[index][0] = token;
        counts[row] = 1;
      }
    }
  }
  return made;
}

std::int64_t kept_positions(std::size_t longest_prompt, std::int64_t count, std::int64_t context) {
  const auto prompt = static_cast<std::int64_t>(longest_prompt);
  return prompt >= context || count >= context - prompt ? context : prompt + count;
}

}  // namespace strata::models
