#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "models/decoder_layer.h"
#include "models/decoder_layout.h"
#include "models/documents.h"
#include "models/kept_rows.h"
#include "models/model_inputs.h"
#include "models/model_part.h"
#include "models/vocabulary_units.h"
#include "strata/base/error.h"
#include "strata/models/causal_lm.h"
#include "strata/models/key_value_cache.h"
#include "strata/models/model_config.h"
#include "strata/models/model_layout.h"

namespace strata::models {

/// A language model of blocks between an embedding and a norm with a head, each of which is a unit
/// (decoder_layout.h). `Family` says what it is made of:
///
///     using Config, Block, Norm;  // the value, for which there is shape_of; module holders
///     static VocabularyRules rules(const Config&);
///     static Norm norm(const Config&, const torch::TensorOptions&);
///     static std::string_view context_key(const Config&);  // what it calls its context
///     static std::int64_t context(const Config&);
///
/// A Block (decoder_layer.h) is made of the config, its index and options. Where the shape has
/// experts, there is also
///
///     static Expert expert(const Config&, const torch::TensorOptions&);
template <class Family>
class Decoder final : public CausalLm {
 public:
  using Config = typename Family::Config;
  using Block = typename Family::Block;
  using Norm = typename Family::Norm;
  using Layer = DecoderLayer<Block>;
  using NormImpl = typename Norm::Impl;
  using Tensor = torch::Tensor;
  using Tensors = UnitSequence::Tensors;

  /// Builds the model in `engine`, as make_causal_lm.
  Decoder(const Config& config, Engine& engine, const ParameterInitializer& initialize,
          ParameterUse use = ParameterUse::kTrained)
      : Decoder(config, engine.config().precision(), /*in_engine=*/true,
                decoder_tiles(shape_of(config), engine.config(), engine.plan_input()),
                options_on_meta(), EngineHome{engine, use, config.lora.has_value()}, initialize) {}

  /// Builds the model in memory, as make_causal_lm.
  Decoder(const Config& config, Precision precision, const ParameterInitializer& initialize)
      : Decoder(config, precision, /*in_engine=*/false, ModelTiles{}, options_in_memory(precision),
                precision, initialize) {
    if (!config.lora) return;
    for (const Layer& layer : layers_) {
      layer.for_each([](const auto& part) { freeze(part.module(), /*adapters_too=*/false); });
    }
    freeze(norm_.module(), /*adapters_too=*/false);
    embedding_.freeze_whole();
    if (own_head_) own_head_->freeze_whole();
  }

  [[nodiscard]] Tensor forward(const Tensor& tokens) override {
    return head().logits(normed(hidden(tokens)));
  }

  using CausalLm::loss;
  [[nodiscard]] Tensor loss(const TokenBatch& batch) override {
    check_batch(batch, context_key(), context());
    return head().loss(normed(hidden(batch.tokens, documents_of(batch.positions))), batch.targets,
                       batch.divisor);
  }

  [[nodiscard]] UnitSequence sequence() const override {
    if (!in_engine_) {
      throw UsageError("a model in memory is no sequence of units; call loss() and backward()");
    }
    UnitSequence sequence;
    embedding_.add_lookup_to(sequence,
                             [key = context_key(), context = context()](const Tensors& x) {
                               check_micro_batch(x, key, context);
                             });
    for (const Layer& layer : layers_) layer.add_to(sequence);
    norm_.add_to(
        sequence,
        [](NormImpl& m, const Tensors& x, const Tensors& /*micro_batch*/) {
          return m.forward(x[0]);
        },
        Recompute::kConfig);
    (own_head_ ? *own_head_ : embedding_).add_loss_to(sequence);
    return sequence;
  }

  [[nodiscard]] Tensor next_token_logits(const Tensor& tokens) override {
    return head().logits(normed(hidden(tokens).select(1, -1)));
  }

  [[nodiscard]] Tensor next_token_logits(const Tensor& tokens,
                                         const std::vector<std::int64_t>& counts,
                                         KeyValueCache& cache) override {
    check_tokens(tokens, context_key(), context());
    cache.begin(tokens, counts);
    const Tensor x = last_of_rows(hidden(tokens, cache), cache);
    cache.end();
    return head().logits(normed(x));
  }

  void train(bool on = true) override {
    for (const Layer& layer : layers_) {
      layer.for_each([on](const auto& part) { part.module().train(on); });
    }
    norm_.module().train(on);
  }
  [[nodiscard]] bool is_training() const override { return norm_.module().is_training(); }

  void visit_parameters(const ParameterVisitor& visitor) override {
    visit(visitor, [&visitor](VocabularyUnits& table) { table.visit_whole(visitor); });
  }
  void visit_parameter_rows(const ParameterVisitor& visitor) override {
    visit(visitor, [&visitor](VocabularyUnits& table) { table.visit_rows(visitor); });
  }

  [[nodiscard]] std::vector<Tensor> parameters() const override {
    if (in_engine_) {
      throw UsageError(
          "the parameters of a model in an engine have no data outside of a run; "
          "use Engine::step, or visit_parameters to read them");
    }
    std::vector<Tensor> all;
    const auto add = [&](const std::vector<Tensor>& own) {
      all.insert(all.end(), own.begin(), own.end());
    };
    add(embedding_.parameters());
    for (const Layer& layer : layers_) {
      layer.for_each([&add](const auto& part) { add(part.module().parameters()); });
    }
    add(norm_.module().parameters());
    if (own_head_) add(own_head_->parameters());
    return all;
  }

  [[nodiscard]] ModelConfig model_config() const override { return config_; }
  [[nodiscard]] Precision precision() const override { return precision_; }
  [[nodiscard]] const Config& config() const { return config_; }

 private:
  /// `home` is an EngineHome or, in memory, the Precision. Units are made in the order of forward.
  template <class Home>
  Decoder(const Config& config, Precision precision, bool in_engine, const ModelTiles& tiles,
          const torch::TensorOptions& options, const Home& home,
          const ParameterInitializer& initialize)
      : config_(config),
        precision_(precision),
        in_engine_(in_engine),
        shape_(shape_of(config)),
        embedding_(shape_.embedding, shape_.vocab_size, shape_.width, /*has_bias=*/false,
                   Family::rules(config), tiles.vocabulary, options, home, initialize),
        layers_(made_layers(options, home, initialize)),
        norm_(std::string(shape_.norm), Family::norm(config, options), home, initialize) {
    if (shape_.ties) return;
    own_head_.emplace(shape_.head, shape_.vocab_size, shape_.width, shape_.head_has_bias,
                      Family::rules(config), tiles.vocabulary, options, home, initialize);
  }

  template <class Home>
  std::vector<Layer> made_layers(const torch::TensorOptions& options, const Home& home,
                                 const ParameterInitializer& initialize) const {
    std::vector<Layer> made;
    for (std::int64_t i = 0; i < shape_.layers; ++i) {
      ModelPart<Block> block(shape_.block(i, {}).name, Block(config_, i, options), home,
                             initialize);
      made.emplace_back(std::move(block), made_experts(i, options, home, initialize));
    }
    return made;
  }

  template <class Home>
  std::optional<ExpertUnits> made_experts(std::int64_t layer, const torch::TensorOptions& options,
                                          const Home& home,
                                          const ParameterInitializer& initialize) const {
    std::vector<ModelPart<Expert>> units;
    if constexpr (requires { Family::expert(config_, options); }) {
      for (std::int64_t i = 0; i < shape_.experts_of(layer); ++i) {
        units.emplace_back(shape_.experts->layout(layer, i, {}).name,
                           Family::expert(config_, options), home, initialize);
      }
    }
    if (units.empty()) return std::nullopt;
    return ExpertUnits(std::move(units), in_engine_);
  }

  /// The output of the blocks for the tokens: [B, T, width].
  Tensor hidden(const Tensor& tokens, const std::shared_ptr<const Documents>& documents = {}) {
    check_tokens(tokens, context_key(), context());
    Tensor x = embedding_.lookup(tokens);
    for (Layer& layer : layers_) x = layer.run(x, documents);
    return x;
  }

  /// The same of tokens that go on where the cache ends.
  Tensor hidden(const Tensor& tokens, KeyValueCache& cache) {
    Tensor x = embedding_.lookup(tokens);
    std::int64_t index = 0;
    for (Layer& layer : layers_) x = layer.run(x, cache, index++);
    return x;
  }

  /// What goes into the head.
  Tensor normed(const Tensor& x) {
    return norm_.run([](NormImpl& m, const Tensor& t) { return m.forward(t); }, Recompute::kConfig,
                     x);
  }

  VocabularyUnits& head() { return own_head_ ? *own_head_ : embedding_; }

  /// Calls visitor(name, value) for every parameter; visit_table(table) sees to a table.
  template <class VisitTable>
  void visit(const ParameterVisitor& visitor, VisitTable visit_table) {
    visit_table(embedding_);
    for (Layer& layer : layers_) layer.visit_parameters(visitor);
    norm_.visit_parameters(visitor);
    if (own_head_) visit_table(*own_head_);
  }

  [[nodiscard]] std::string_view context_key() const { return Family::context_key(config_); }
  [[nodiscard]] std::int64_t context() const { return Family::context(config_); }

  Config config_;
  Precision precision_;
  bool in_engine_;
  DecoderShape shape_;
  VocabularyUnits embedding_;
  std::vector<Layer> layers_;
  ModelPart<Norm> norm_;
  std::optional<VocabularyUnits> own_head_;  ///< empty: the embedding is the head
};

}  // namespace strata::models
