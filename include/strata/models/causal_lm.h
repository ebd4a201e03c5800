#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "strata/base/number_format.h"
#include "strata/models/token_batch.h"
#include "strata/zero3/engine.h"

namespace strata::models {

class KeyValueCache;
class ModelConfig;

/// What the parameters of a model in an engine are for.
enum class ParameterUse {
  kTrained,
  kRead,  ///< they are frozen: no gradients and no optimizer states have a place anywhere
};

/// A language model that predicts the next token, of any family, in an engine or in memory: the
/// same modules, the same arithmetic.
///
///     const formats::ModelDirectory directory("./gpt2");
///     const models::ModelConfig config = models::checkpoint_config(directory);
///     const auto initialize = models::checkpoint_initializer(config, directory);
///     const auto model = models::make_causal_lm(config, engine, initialize);
///     engine.backward(model->loss(tokens, targets));
///     models::save_pretrained(*model, "./out", {.source = &directory});
///
/// Names and layouts of the parameters are those of the model's class in transformers. Every block
/// is a unit; what is outside of the blocks are units too, which ones is said at the family.
///
/// Thread: one at a time. Must not be used after its engine is gone.
class CausalLm {
 public:
  CausalLm() = default;
  CausalLm(const CausalLm&) = delete;
  CausalLm& operator=(const CausalLm&) = delete;
  virtual ~CausalLm() = default;

  /// Logits [B, T, vocab_size] in the compute format, of tokens [B, T] (int64, T at most the
  /// context; UsageError otherwise).
  [[nodiscard]] virtual torch::Tensor forward(const torch::Tensor& tokens) = 0;

  /// Mean cross entropy in fp32 of the logits against the targets, of documents that see nothing of
  /// each other. Holds the logits of some 512 tokens at a time, and none of tokens that bear no
  /// loss. Where gradients are on, it makes those of the head too. Throws UsageError for tensors of
  /// other shapes and formats than TokenBatch says.
  [[nodiscard]] virtual torch::Tensor loss(const TokenBatch& batch) = 0;
  [[nodiscard]] torch::Tensor loss(const torch::Tensor& tokens, const torch::Tensor& targets) {
    return loss(TokenBatch{.tokens = tokens, .targets = targets});
  }

  /// The model as a sequence of units for Engine::train_batch, whose micro-batches are those of
  /// TokenBatch::micro_batch, {tokens, targets} as a rule: the numbers of `loss`. Throws UsageError
  /// in memory.
  [[nodiscard]] virtual UnitSequence sequence() const = 0;

  /// Logits [B, vocab_size] of the token after the last one.
  [[nodiscard]] virtual torch::Tensor next_token_logits(const torch::Tensor& tokens) = 0;

  /// The same of sequences that go on where `cache` ends: of row r of tokens [rows, T] the first
  /// counts[r], which the cache then holds too. A row that counts none has logits of no meaning.
  /// All rows go through a unit before the next, some 4096 tokens at a time. Call it without
  /// gradients. Throws UsageError as KeyValueCache::begin does.
  [[nodiscard]] virtual torch::Tensor next_token_logits(const torch::Tensor& tokens,
                                                        const std::vector<std::int64_t>& counts,
                                                        KeyValueCache& cache) = 0;

  /// Dropout on (the state after construction) or off.
  virtual void train(bool on = true) = 0;
  void eval() { train(false); }
  [[nodiscard]] virtual bool is_training() const = 0;

  /// Calls `visit` with the name in a checkpoint file and the value of every parameter, unit by
  /// unit; at most one unit is in memory at a time, and a table or a linear layer that is cut into
  /// tiles, which is put together for it. A tied weight is visited once.
  using ParameterVisitor = std::function<void(const std::string& name, const torch::Tensor& value)>;
  virtual void visit_parameters(const ParameterVisitor& visit) = 0;
  /// The same, but such a table comes tile by tile, its rows in order, each with the table's name.
  /// (Tiles of a linear layer are columns as files have it, so that comes whole.)
  virtual void visit_parameter_rows(const ParameterVisitor& visit) = 0;

  /// The parameters of a model in memory, for a torch::optim optimizer. UsageError in an engine.
  [[nodiscard]] virtual std::vector<torch::Tensor> parameters() const = 0;

  [[nodiscard]] virtual ModelConfig model_config() const = 0;
  [[nodiscard]] virtual Precision precision() const = 0;

 protected:
  CausalLm(CausalLm&&) noexcept = default;
  CausalLm& operator=(CausalLm&&) noexcept = default;
};

/// Builds the model of a config in `engine`, filling one parameter at a time: memory does not
/// depend on the size of the model. `use`: kRead makes all its units frozen. Throws ConfigError for
/// an invalid config, and what `initialize` throws.
[[nodiscard]] std::unique_ptr<CausalLm> make_causal_lm(const ModelConfig& config, Engine& engine,
                                                       const ParameterInitializer& initialize,
                                                       ParameterUse use = ParameterUse::kTrained);

/// Builds it in memory, as ordinary LibTorch parameters of the compute format of `precision`,
/// rounded from fp32 as the engine rounds.
[[nodiscard]] std::unique_ptr<CausalLm> make_causal_lm(const ModelConfig& config,
                                                       Precision precision,
                                                       const ParameterInitializer& initialize);

/// The initialisation of the model's family. A parameter's values depend on `seed` and its full
/// name only.
[[nodiscard]] ParameterInitializer random_initializer(const ModelConfig& config,
                                                      std::uint64_t seed);

}  // namespace strata::models
