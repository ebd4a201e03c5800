#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "strata/models/causal_lm.h"

namespace strata::models {

/// How the next token is chosen. Of the tokens that `top_k` leaves, `top_p` leaves the likeliest
/// ones that together have at least this probability; the order of transformers' generate.
struct SamplingOptions {
  std::int64_t count = 100;  ///< tokens to make
  double temperature = 1.0;  ///< logits are divided by it; 0: always the most likely token
  std::int64_t top_k = 0;    ///< choose among the k most likely; 0: among all
  double top_p = 1.0;        ///< above 0, at most 1
  std::uint64_t seed = 0;    ///< seed of the draws; the default generator is not touched
  std::vector<std::int64_t> stop_tokens = {};  ///< a text that has come to one of them is complete
};

/// Continues `prompt` (at least one token) and returns the new tokens. `on_token`, when given, sees
/// each as it is made. Beyond the model's context every token is a forward over the last tokens
/// that the context has room for. Dropout is off meanwhile. Throws UsageError for an empty prompt,
/// a token beyond the vocabulary, or options out of range; DataError for logits that are NaN.
[[nodiscard]] std::vector<std::int64_t> generate(
    CausalLm& model, std::span<const std::int64_t> prompt, const SamplingOptions& options,
    const std::function<void(std::int64_t)>& on_token = {});

/// Why a continuation is complete.
enum class Completion {
  kCount,      ///< it has as many tokens as were asked for
  kStopToken,  ///< its last token is a stop token
  kContext     ///< the model's context is full
};

struct Continuation {
  std::vector<std::int64_t> tokens;
  Completion completion = Completion::kCount;
};

/// What a caller of generate_batch sees on the way; each may be empty.
struct GenerationHooks {
  /// A token of prompt `prompt`, as it is made.
  std::function<void(std::size_t prompt, std::int64_t token)> on_token = {};
  /// The end of a pass over all weights, which made a token of every prompt that is not complete.
  /// An engine whose model is read only (ParameterUse::kRead) fetches units ahead of use if this
  /// calls its skip_micro_batch() and step(), as the program does once before the first pass: so
  /// it learns their order.
  std::function<void()> after_pass = {};
};

/// Continues several prompts, of any lengths, at once: one pass over the weights makes a token of
/// each. Keys and values are kept (KeyValueCache): rows for all prompts, of `kept_positions`.
///
/// The tokens of a prompt are those that it has alone, up to roundings of sums in another order.
/// Draws depend on the seed, on the place of the prompt among all (`first` is that of the first one
/// here) and on the number of the token, and on nothing else.
/// Throws UsageError as `generate` does, and for a prompt that leaves the context no room.
[[nodiscard]] std::vector<Continuation> generate_batch(
    CausalLm& model, std::span<const std::vector<std::int64_t>> prompts,
    const SamplingOptions& options, std::uint64_t first = 0, const GenerationHooks& hooks = {});

/// Tokens of a row that generate_batch keeps room for: of a prompt and its continuation, at most
/// the context.
[[nodiscard]] std::int64_t kept_positions(std::size_t longest_prompt, std::int64_t count,
                                          std::int64_t context);

}  // namespace strata::models
