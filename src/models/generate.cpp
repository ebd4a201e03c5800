#include "strata/models/generate.h"

#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <limits>

#include "strata/base/error.h"
#include "strata/models/model_config.h"

namespace strata::models {

namespace {

void check(const ModelConfig& config, std::span<const std::int64_t> prompt,
           const SamplingOptions& options) {
  if (prompt.empty()) throw UsageError("generate needs a prompt of at least one token");
  for (const std::int64_t token : prompt) {
    if (token < 0 || token >= config.vocab_size()) {
      throw UsageError("token " + std::to_string(token) +
                       " of the prompt is beyond the vocabulary of " +
                       std::to_string(config.vocab_size()));
    }
  }
  if (options.count < 0 || !(options.temperature >= 0.0) || options.top_k < 0) {
    throw UsageError("generate needs count, temperature and top_k that are not negative");
  }
}

/// Chooses a token by its logits [V] (fp32).
std::int64_t sample(torch::Tensor logits, const SamplingOptions& options, torch::Generator& draws) {
  if (options.temperature == 0.0) return logits.argmax().item<std::int64_t>();
  logits = logits / options.temperature;
  if (options.top_k > 0 && options.top_k < logits.size(0)) {
    const torch::Tensor smallest_kept = std::get<0>(logits.topk(options.top_k)).min();
    logits.masked_fill_(logits < smallest_kept, -std::numeric_limits<double>::infinity());
  }
  return torch::multinomial(torch::softmax(logits, 0), 1, /*replacement=*/false, draws)
      .item<std::int64_t>();
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

}  // namespace

std::vector<std::int64_t> generate(CausalLm& model, std::span<const std::int64_t> prompt,
                                   const SamplingOptions& options,
                                   const std::function<void(std::int64_t)>& on_token) {
  const ModelConfig config = model.model_config();
  check(config, prompt, options);
  torch::NoGradGuard no_grad;
  const EvalScope eval(model);
  torch::Generator draws = at::make_generator<at::CPUGeneratorImpl>(options.seed);
  const auto context = static_cast<std::size_t>(config.context());

  std::vector<std::int64_t> tokens(prompt.begin(), prompt.end());
  for (std::int64_t made = 0; made < options.count; ++made) {
    const std::size_t length = std::min(tokens.size(), context);
    const torch::Tensor input =
        torch::tensor(torch::ArrayRef(tokens).slice(tokens.size() - length), torch::kInt64);
    const torch::Tensor logits = model.next_token_logits(input.unsqueeze(0));
    tokens.push_back(sample(logits[0].to(torch::kFloat32), options, draws));
    if (on_token) on_token(tokens.back());
  }
  return {tokens.begin() + static_cast<std::ptrdiff_t>(prompt.size()), tokens.end()};
}

}  // namespace strata::models
