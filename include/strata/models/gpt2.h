#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "strata/base/number_format.h"
#include "strata/models/gpt2_config.h"
#include "strata/models/gpt2_layout.h"
#include "strata/zero3/engine.h"

namespace strata::models {

/// GPT-2 as a language model, in an engine or in memory: the same modules, the same arithmetic.
///
///     auto config = models::Gpt2Config::preset("gpt-lite");
///     models::Gpt2 model(config, engine, models::random_initializer(config, /*seed=*/1));
///     engine.backward(model.loss(tokens, targets));
///
/// Names and layouts of the parameters are those of transformers' GPT2LMHeadModel (matrices are
/// [in, out], as its Conv1D stores them). Units: every block is one, "transformer.h.N"; what is
/// outside of the blocks (embeddings, last layer norm, an untied head) is one, "transformer", which
/// a forward enters at its start and at its end.
///
/// What is too large for the device budget is cut into tiles (tiles_of in gpt2_layout.h), units
/// that are entered one after the other. Of a vocabulary, some rows of the token embedding,
/// "tile_N.transformer", and of an untied head; the loss goes through the head tile by tile. Of a
/// block, some outputs of each of its linear layers, "tile_N.transformer.h.3.mlp.c_fc"; its unit
/// "transformer.h.3" has its norms. Parameters' names and values, the files and the numbers are
/// those of the whole, but for roundings (tiled.h).
///
/// Thread: one at a time. Must not be used after its engine is gone.
class Gpt2 {
 public:
  /// Builds the model in `engine`, filling one parameter at a time: memory does not depend on the
  /// size of the model. Throws ConfigError for an invalid config, and what `initialize` throws.
  Gpt2(const Gpt2Config& config, Engine& engine, const ParameterInitializer& initialize);

  /// Builds the model in memory, as ordinary LibTorch parameters of the compute format of
  /// `precision`, rounded from fp32 as the engine rounds.
  Gpt2(const Gpt2Config& config, Precision precision, const ParameterInitializer& initialize);

  Gpt2(Gpt2&&) noexcept;
  Gpt2& operator=(Gpt2&&) noexcept;
  ~Gpt2();

  /// Logits [B, T, vocab_size] in the compute format, of tokens [B, T] (int64, T at most
  /// n_positions; UsageError otherwise).
  [[nodiscard]] torch::Tensor forward(const torch::Tensor& tokens);

  /// Mean cross entropy in fp32 of the logits against targets [B, T] (int64). Holds the logits of
  /// some 512 tokens at a time. Where gradients are on, it makes those of the head too.
  [[nodiscard]] torch::Tensor loss(const torch::Tensor& tokens, const torch::Tensor& targets);

  /// The model as a sequence of units for Engine::train_batch, whose micro-batches are {tokens,
  /// targets}, both [B, T]: the numbers of `loss`. Throws UsageError in memory.
  [[nodiscard]] UnitSequence sequence() const;

  /// Logits [B, vocab_size] of the token after the last one.
  [[nodiscard]] torch::Tensor next_token_logits(const torch::Tensor& tokens);

  /// Dropout on (the state after construction) or off.
  void train(bool on = true);
  void eval() { train(false); }
  [[nodiscard]] bool is_training() const;

  /// Calls `visit` with the name in a checkpoint file and the value of every parameter, unit by
  /// unit; at most one unit is in memory at a time, and a table or a linear layer that is cut into
  /// tiles, which is put together for it. A tied weight is visited once.
  using ParameterVisitor = std::function<void(const std::string& name, const torch::Tensor& value)>;
  void visit_parameters(const ParameterVisitor& visit);
  /// The same, but such a table comes tile by tile, its rows in order, each with the table's name.
  /// (Tiles of a linear layer are columns as files have it, so that comes whole.)
  void visit_parameter_rows(const ParameterVisitor& visit);

  /// The parameters of a model in memory, for a torch::optim optimizer. UsageError in an engine.
  [[nodiscard]] std::vector<torch::Tensor> parameters() const;

  [[nodiscard]] const Gpt2Config& config() const;
  [[nodiscard]] Precision precision() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// GPT-2's initialisation: matrices and embeddings normal with deviation `initializer_range`, the
/// projections back into the residual stream smaller by sqrt(2 * n_layer), layer norms 1, biases 0.
/// A parameter's values depend on `seed` and its full name only.
[[nodiscard]] ParameterInitializer random_initializer(const Gpt2Config& config, std::uint64_t seed);

}  // namespace strata::models
