#include "strata/models/llama.h"

#include <cmath>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "models/kept_rows.h"
#include "models/linear_cross_entropy.h"
#include "models/llama/llama_modules.h"
#include "models/llama/llama_names.h"
#include "models/model_inputs.h"
#include "models/model_part.h"
#include "models/random_values.h"
#include "models/soft_cap.h"
#include "models/vocabulary_modules.h"
#include "models/vocabulary_table.h"
#include "strata/base/error.h"
#include "strata/models/model_config.h"
#include "strata/zero3/tiled.h"

namespace strata::models {

namespace {

using torch::Tensor;
using Tensors = UnitSequence::Tensors;

constexpr std::string_view kContext = "max_position_embeddings";

const LlamaConfig& validated(const LlamaConfig& config) {
  config.validate();
  return config;
}

/// A table of the vocabulary, whole or in tiles: the embedding, the head, or both in one where they
/// are tied.
class Vocabulary {
 public:
  template <class Home>
  Vocabulary(std::string_view unit, const LlamaConfig& config, const std::optional<RowTiles>& tiles,
             const torch::TensorOptions& options, const Home& home,
             const ParameterInitializer& initialize)
      : padding_row_(config.padding_token.value_or(-1)), soft_cap_(config.logit_soft_cap) {
    if (config.is_gemma()) scale_ = std::sqrt(static_cast<double>(config.hidden_size));
    if (tiles) {
      tiles_.emplace(TableName{std::string(unit), ""}, config.hidden_size, *tiles, options, home,
                     initialize, padding_row_, soft_cap_);
    } else {
      whole_.emplace(std::string(unit), Table(config.vocab_size, config.hidden_size, options), home,
                     initialize);
    }
  }

  /// The rows of tokens [B, T]: [B, T, width].
  Tensor lookup(const Tensor& tokens) {
    if (tiles_) return scaled(tiles_->lookup(tokens), scale_);
    return whole_->run(
        [row = padding_row_, scale = scale_](TableImpl& m, const Tensor& t) {
          return scaled(m.forward(t, row), scale);
        },
        Recompute::kConfig, tokens);
  }

  /// Maps [..., width] to logits [..., vocab_size]. Its backward comes at once.
  Tensor logits(const Tensor& x) {
    if (tiles_) return tiles_->logits(x);
    return whole_->run(
        [cap = soft_cap_](TableImpl& m, const Tensor& t) {
          return soft_capped(torch::linear(t, m.weight()), cap);
        },
        Recompute::kNever, x);
  }

  Tensor loss(const Tensor& x, const Tensor& targets) {
    if (tiles_) return tiles_->loss(x, targets);
    return whole_->run([targets, cap = soft_cap_](
                           TableImpl& m, const Tensor& t) { return loss_of(m, t, targets, cap); },
                       Recompute::kNever, x);
  }

  template <class Check>
  void add_lookup_to(UnitSequence& sequence, const Check& check) const {
    if (tiles_) {
      tiles_->add_lookup_to(sequence, check);
      sequence.add_function([tiles = tiles_->tiles(), scale = scale_](const Tensors& of_tiles,
                                                                      const Tensors& micro_batch) {
        return scaled(rows_in_order(tiles, micro_batch[0], of_tiles), scale);
      });
      return;
    }
    const auto lookup = [check, row = padding_row_, scale = scale_](
                            TableImpl& m, const Tensors& tokens_and_targets,
                            const Tensors& /*micro_batch*/) {
      check(tokens_and_targets);
      return scaled(m.forward(tokens_and_targets[0], row), scale);
    };
    whole_->add_to(sequence, lookup, Recompute::kConfig);
  }

  void add_loss_to(UnitSequence& sequence) const {
    if (tiles_) {
      tiles_->add_loss_to(sequence);
      return;
    }
    const auto loss = [cap = soft_cap_](TableImpl& m, const Tensors& x,
                                        const Tensors& micro_batch) {
      return loss_of(m, x[0], micro_batch[1], cap);
    };
    whole_->add_to(sequence, loss, Recompute::kNever);
  }

  void visit_whole(const VocabularyTable::Visitor& visit) {
    if (tiles_) {
      tiles_->visit_whole(visit);
    } else {
      whole_->visit_parameters(visit);
    }
  }
  void visit_rows(const VocabularyTable::Visitor& visit) {
    if (tiles_) {
      tiles_->visit_rows(visit);
    } else {
      whole_->visit_parameters(visit);
    }
  }

  /// Of one that is whole.
  [[nodiscard]] std::vector<Tensor> parameters() const { return whole_->module().parameters(); }

 private:
  static Tensor loss_of(const TableImpl& table, const Tensor& x, const Tensor& targets,
                        std::optional<double> soft_cap) {
    return linear_cross_entropy(x.flatten(0, -2), table.weight(), targets.flatten(), std::nullopt,
                                soft_cap);
  }
  /// Rows times the scale, which is rounded to their format before.
  static Tensor scaled(const Tensor& rows, std::optional<double> scale) {
    if (!scale) return rows;
    const Tensor rounded = torch::scalar_tensor(*scale, torch::kFloat32).to(rows.scalar_type());
    return rows * rounded.item<double>();
  }

  std::int64_t padding_row_;               ///< whose lookup gives no gradient; -1: none
  std::optional<double> soft_cap_;         ///< of logits
  std::optional<double> scale_;            ///< of rows that are looked up
  std::optional<ModelPart<Table>> whole_;  ///< or
  std::optional<VocabularyTable> tiles_;
};

}  // namespace

struct Llama::Impl {
  /// `home` is an EngineHome or, in memory, the Precision. Units are made in the order of forward.
  template <class Home>
  Impl(const LlamaConfig& given, Precision compute, bool sharded, const ModelTiles& tiles,
       const torch::TensorOptions& options, const Home& home,
       const ParameterInitializer& initialize)
      : config(validated(given)),
        precision(compute),
        in_engine(sharded),
        embedding(kLlamaEmbedding, config, tiles.vocabulary, options, home, initialize),
        blocks(made_blocks(options, home, initialize)),
        norm(std::string(kLlamaNorm), rms_norm(config, config.hidden_size, options), home,
             initialize) {
    if (config.tie_word_embeddings) return;
    own_head.emplace(kLlamaHead, config, tiles.vocabulary, options, home, initialize);
  }

  template <class Home>
  std::vector<ModelPart<LlamaBlock>> made_blocks(const torch::TensorOptions& options,
                                                 const Home& home,
                                                 const ParameterInitializer& initialize) const {
    std::vector<ModelPart<LlamaBlock>> made;
    for (std::int64_t i = 0; i < config.num_hidden_layers; ++i) {
      made.emplace_back(llama_block_name(i), LlamaBlock(config, i, options), home, initialize);
    }
    return made;
  }

  /// The output of the blocks for the tokens: [B, T, width].
  Tensor hidden(const Tensor& tokens) {
    check_tokens(tokens, kContext, config.max_position_embeddings);
    Tensor x = embedding.lookup(tokens);
    for (ModelPart<LlamaBlock>& block : blocks) {
      x = block.run([](LlamaBlockImpl& m, const Tensor& t) { return m.forward(t); },
                    Recompute::kConfig, x);
    }
    return x;
  }

  /// The same of tokens that go on where the cache ends.
  Tensor hidden(const Tensor& tokens, KeyValueCache& cache) {
    Tensor x = embedding.lookup(tokens);
    std::int64_t layer = 0;
    for (ModelPart<LlamaBlock>& block : blocks) {
      x = block.run(
          [&cache, layer](LlamaBlockImpl& m, const Tensor& t) {
            return by_kept_rows(t, cache, layer,
                                [&m](const Tensor& rows, const KeyValueCache::Part& part) {
                                  return m.forward(rows, &part);
                                });
          },
          Recompute::kNever, x);
      ++layer;
    }
    return x;
  }

  /// What goes into the head.
  Tensor normed(const Tensor& x) {
    return norm.run([](RmsNormImpl& m, const Tensor& t) { return m.forward(t); },
                    Recompute::kConfig, x);
  }

  Vocabulary& head() { return own_head ? *own_head : embedding; }
  [[nodiscard]] const Vocabulary& head() const { return own_head ? *own_head : embedding; }

  /// Calls visit(name, value) for every parameter; visit_table(table) sees to a table.
  template <class VisitTable>
  void visit(const ParameterVisitor& visitor, VisitTable visit_table) {
    visit_table(embedding);
    for (ModelPart<LlamaBlock>& block : blocks) block.visit_parameters(visitor);
    norm.visit_parameters(visitor);
    if (own_head) visit_table(*own_head);
  }

  LlamaConfig config;
  Precision precision;
  bool in_engine;
  Vocabulary embedding;
  std::vector<ModelPart<LlamaBlock>> blocks;
  ModelPart<RmsNorm> norm;
  std::optional<Vocabulary> own_head;  ///< empty: the embedding is the head
};

Llama::Llama(const LlamaConfig& config, Engine& engine, const ParameterInitializer& initialize,
             ParameterUse use)
    : impl_(
          std::make_unique<Impl>(config, engine.config().precision(), /*sharded=*/true,
                                 tiles_of(validated(config), engine.config(), engine.plan_input()),
                                 options_on_meta(), EngineHome{engine, use}, initialize)) {}

Llama::Llama(const LlamaConfig& config, Precision precision, const ParameterInitializer& initialize)
    : impl_(std::make_unique<Impl>(config, precision, /*sharded=*/false, ModelTiles{},
                                   options_in_memory(precision), precision, initialize)) {}

Llama::Llama(Llama&&) noexcept = default;
Llama& Llama::operator=(Llama&&) noexcept = default;
Llama::~Llama() = default;

Tensor Llama::forward(const Tensor& tokens) {
  return impl_->head().logits(impl_->normed(impl_->hidden(tokens)));
}

Tensor Llama::loss(const Tensor& tokens, const Tensor& targets) {
  check_targets(targets, tokens);
  return impl_->head().loss(impl_->normed(impl_->hidden(tokens)), targets);
}

UnitSequence Llama::sequence() const {
  if (!impl_->in_engine) {
    throw UsageError("a model in memory is no sequence of units; call loss() and backward()");
  }
  UnitSequence sequence;
  impl_->embedding.add_lookup_to(
      sequence, [context = impl_->config.max_position_embeddings](const Tensors& micro_batch) {
        check_micro_batch(micro_batch, kContext, context);
      });
  for (const ModelPart<LlamaBlock>& block : impl_->blocks) {
    block.add_to(
        sequence,
        [](LlamaBlockImpl& m, const Tensors& x, const Tensors& /*micro_batch*/) {
          return m.forward(x[0]);
        },
        Recompute::kConfig);
  }
  impl_->norm.add_to(
      sequence,
      [](RmsNormImpl& m, const Tensors& x, const Tensors& /*micro_batch*/) {
        return m.forward(x[0]);
      },
      Recompute::kConfig);
  const Impl& impl = *impl_;
  impl.head().add_loss_to(sequence);
  return sequence;
}

Tensor Llama::next_token_logits(const Tensor& tokens) {
  return impl_->head().logits(impl_->normed(impl_->hidden(tokens).select(1, -1)));
}

Tensor Llama::next_token_logits(const Tensor& tokens, const std::vector<std::int64_t>& counts,
                                KeyValueCache& cache) {
  check_tokens(tokens, kContext, impl_->config.max_position_embeddings);
  cache.begin(tokens, counts);
  const Tensor x = last_of_rows(impl_->hidden(tokens, cache), cache);
  cache.end();
  return impl_->head().logits(impl_->normed(x));
}

void Llama::train(bool on) {
  for (const ModelPart<LlamaBlock>& block : impl_->blocks) block.module().train(on);
  impl_->norm.module().train(on);
}

bool Llama::is_training() const { return impl_->norm.module().is_training(); }

void Llama::visit_parameters(const ParameterVisitor& visit) {
  impl_->visit(visit, [&visit](Vocabulary& table) { table.visit_whole(visit); });
}

void Llama::visit_parameter_rows(const ParameterVisitor& visit) {
  impl_->visit(visit, [&visit](Vocabulary& table) { table.visit_rows(visit); });
}

std::vector<Tensor> Llama::parameters() const {
  if (impl_->in_engine) {
    throw UsageError(
        "the parameters of a model in an engine have no data outside of a run; "
        "use Engine::step, or visit_parameters to read them");
  }
  std::vector<Tensor> all;
  const auto add = [&](const std::vector<Tensor>& own) {
    all.insert(all.end(), own.begin(), own.end());
  };
  add(impl_->embedding.parameters());
  for (const ModelPart<LlamaBlock>& block : impl_->blocks) add(block.module().parameters());
  add(impl_->norm.module().parameters());
  if (impl_->own_head) add(impl_->own_head->parameters());
  return all;
}

ModelConfig Llama::model_config() const { return impl_->config; }

const LlamaConfig& Llama::config() const { return impl_->config; }

Precision Llama::precision() const { return impl_->precision; }

ParameterInitializer random_initializer(const LlamaConfig& config, std::uint64_t seed) {
  using Kind = InitialValues::Kind;
  const double range = config.initializer_range;
  const Kind norms = config.is_gemma() ? Kind::kZeros : Kind::kOnes;
  return random_values(seed, [range, norms](const std::string& name) -> InitialValues {
    if (name.ends_with(".bias")) return {Kind::kZeros};
    if (name.ends_with("norm.weight")) return {norms};
    return {Kind::kNormal, range};
  });
}

}  // namespace strata::models
