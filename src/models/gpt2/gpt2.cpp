#include "strata/models/gpt2.h"

#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "models/gpt2/gpt2_modules.h"
#include "models/gpt2/gpt2_names.h"
#include "models/gpt2/tiled_block.h"
#include "models/kept_rows.h"
#include "models/model_inputs.h"
#include "models/model_part.h"
#include "models/vocabulary_table.h"
#include "strata/base/error.h"
#include "strata/models/model_config.h"

namespace strata::models {

namespace {

const Gpt2Config& validated(const Gpt2Config& config) {
  config.validate();
  return config;
}

using Tensors = UnitSequence::Tensors;

constexpr std::string_view kContext = "n_positions";

/// The positions to add, where they are not counted from the first token of a row.
torch::Tensor places_of(const Tensors& micro_batch) {
  const auto documents = documents_of(positions_of(micro_batch));
  return documents ? documents->positions.to(micro_batch[0].device()) : torch::Tensor();
}

}  // namespace

struct Gpt2::Impl {
  /// `home` is an EngineHome or, in memory, the Precision.
  template <class Home>
  Impl(const Gpt2Config& given, Precision compute, bool sharded, const Gpt2Tiles& tiles,
       const torch::TensorOptions& options, const Home& home,
       const ParameterInitializer& initialize)
      : config(validated(given)),
        precision(compute),
        in_engine(sharded),
        table(tiles.vocabulary ? std::make_optional<VocabularyTable>(
                                     TableName{std::string(kOuterName), "wte"}, config.n_embd,
                                     *tiles.vocabulary, options, home, initialize)
                               : std::nullopt),
        outer(std::string(kOuterName),
              Gpt2Outer(config, table ? Vocabulary::kInTiles : Vocabulary::kWhole, options), home,
              initialize) {
    for (std::int64_t i = 0; i < config.n_layer; ++i) {
      if (tiles.blocks) {
        tiled_blocks.emplace_back(i, config, *tiles.blocks, options, home, initialize);
      } else {
        blocks.emplace_back(block_name(i), Gpt2Block(config, options), home, initialize);
      }
    }
    if (table && !config.tie_word_embeddings) {
      own_head.emplace(TableName{std::string(kOuterName), "lm_head"}, config.n_embd,
                       *tiles.vocabulary, options, home, initialize);
    }
  }

  /// The output of the embeddings: [B, T, n_embd]. `places`: see Gpt2OuterImpl::add_positions.
  torch::Tensor embedded(const torch::Tensor& tokens, const torch::Tensor& places = {}) {
    if (!table) {
      return outer.run(
          [places](Gpt2OuterImpl& m, const torch::Tensor& t) { return m.embed(t, places); },
          Recompute::kConfig, tokens);
    }
    return outer.run(
        [places](Gpt2OuterImpl& m, const torch::Tensor& r) { return m.add_positions(r, places); },
        Recompute::kConfig, table->lookup(tokens));
  }

  /// The output of the blocks for the tokens: [B, T, n_embd].
  torch::Tensor hidden(const torch::Tensor& tokens) {
    check_tokens(tokens, kContext, config.n_positions);
    return hidden(tokens, nullptr, {});
  }
  /// The same of documents that may lie in the rows of a micro-batch.
  torch::Tensor hidden(const TokenBatch& batch) {
    check_batch(batch, kContext, config.n_positions);
    const std::shared_ptr<const Documents> documents = documents_of(batch.positions);
    return hidden(batch.tokens, documents, documents ? batch.micro_batch() : Tensors{});
  }
  torch::Tensor hidden(const torch::Tensor& tokens,
                       const std::shared_ptr<const Documents>& documents,
                       const Tensors& micro_batch) {
    torch::Tensor x =
        embedded(tokens, documents ? documents->positions.to(tokens.device()) : torch::Tensor());
    for (ModelPart<Gpt2Block>& block : blocks) {
      x = block.run(
          [documents](Gpt2BlockImpl& m, const torch::Tensor& t) {
            return m.forward(t, nullptr, documents.get());
          },
          Recompute::kConfig, x);
    }
    for (const TiledBlock& block : tiled_blocks) x = block.run(x, micro_batch);
    return x;
  }

  /// The same of tokens that go on where the cache ends.
  torch::Tensor hidden(const torch::Tensor& tokens, KeyValueCache& cache) {
    // What a row does not count has the place behind the last one, which may be no position.
    torch::Tensor x =
        embedded(tokens, cache.places().clamp_max(config.n_positions - 1).to(tokens.device()));
    std::int64_t layer = 0;
    for (ModelPart<Gpt2Block>& block : blocks) {
      x = block.run(
          [&cache, layer](Gpt2BlockImpl& m, const torch::Tensor& t) {
            return by_kept_rows(t, cache, layer,
                                [&m](const torch::Tensor& rows, const KeyValueCache::Part& part) {
                                  return m.forward(rows, &part);
                                });
          },
          Recompute::kNever, x);
      ++layer;
    }
    for (const TiledBlock& block : tiled_blocks) x = block.run(x, cache, layer++);
    return x;
  }

  /// The end of a whole forward: function(outer module, hidden(tokens)). Its backward comes at
  /// once.
  template <class Function>
  torch::Tensor finish(const torch::Tensor& of_blocks, Function function) {
    return outer.run(std::move(function), Recompute::kNever, of_blocks);
  }

  /// What goes into a head in tiles.
  torch::Tensor normed(const torch::Tensor& x) {
    return outer.run([](Gpt2OuterImpl& m, const torch::Tensor& t) { return m.norm(t); },
                     Recompute::kConfig, x);
  }
  /// The head in tiles.
  VocabularyTable& head() { return own_head ? *own_head : *table; }

  torch::Tensor logits(const torch::Tensor& of_blocks) {
    if (table) return head().logits(normed(of_blocks));
    return finish(of_blocks, [](Gpt2OuterImpl& m, const torch::Tensor& x) { return m.logits(x); });
  }

  void add_embeddings_to(UnitSequence& sequence) const {
    const auto check = [n_positions = config.n_positions](const Tensors& tokens_and_targets) {
      check_micro_batch(tokens_and_targets, kContext, n_positions);
    };
    if (!table) {
      const auto embed = [check](Gpt2OuterImpl& m, const Tensors& tokens_and_targets,
                                 const Tensors& micro_batch) {
        check(tokens_and_targets);
        return m.embed(tokens_and_targets[0], places_of(micro_batch));
      };
      outer.add_to(sequence, embed, Recompute::kConfig);
      return;
    }
    table->add_lookup_to(sequence, check);
    const auto add_positions = [tiles = table->tiles()](Gpt2OuterImpl& m, const Tensors& of_tiles,
                                                        const Tensors& micro_batch) {
      return m.add_positions(rows_in_order(tiles, micro_batch[0], of_tiles),
                             places_of(micro_batch));
    };
    outer.add_to(sequence, add_positions, Recompute::kConfig);
  }

  void add_blocks_to(UnitSequence& sequence) const {
    for (const ModelPart<Gpt2Block>& block : blocks) {
      block.add_to(
          sequence,
          [](Gpt2BlockImpl& m, const Tensors& x, const Tensors& micro_batch) {
            const auto documents = documents_of(positions_of(micro_batch));
            return m.forward(x[0], nullptr, documents.get());
          },
          Recompute::kConfig);
    }
    for (const TiledBlock& block : tiled_blocks) block.add_to(sequence);
  }

  void add_loss_to(UnitSequence& sequence) const {
    if (!table) {
      const auto loss = [](Gpt2OuterImpl& m, const Tensors& x, const Tensors& micro_batch) {
        return m.loss(x[0], micro_batch[1], divisor_of(micro_batch));
      };
      outer.add_to(sequence, loss, Recompute::kNever);
      return;
    }
    const auto norm = [](Gpt2OuterImpl& m, const Tensors& x, const Tensors& /*micro_batch*/) {
      return m.norm(x[0]);
    };
    outer.add_to(sequence, norm, Recompute::kConfig);
    (own_head ? *own_head : *table).add_loss_to(sequence);
  }

  /// Calls visit(name in a checkpoint file, value) for every parameter, in the order of the files;
  /// visit_table(table, visitor) sees to a table in tiles.
  template <class VisitTable>
  void visit(const ParameterVisitor& visitor, VisitTable visit_table) {
    const auto show = [&](const std::string& full_name, const torch::Tensor& value) {
      visitor(checkpoint_name(full_name), value);
    };
    if (table) visit_table(*table, show);
    outer.visit_parameters(show);
    if (own_head) visit_table(*own_head, show);
    for (ModelPart<Gpt2Block>& block : blocks) block.visit_parameters(show);
    for (TiledBlock& block : tiled_blocks) block.visit_parameters(show);
  }

  Gpt2Config config;
  Precision precision;
  bool in_engine;
  std::optional<VocabularyTable> table;  ///< the token embedding, where it is in tiles
  ModelPart<Gpt2Outer> outer;
  std::vector<ModelPart<Gpt2Block>> blocks;  ///< the whole ones, or
  std::vector<TiledBlock> tiled_blocks;      ///< those in tiles
  std::optional<VocabularyTable> own_head;   ///< an untied head, where it is in tiles
};

Gpt2::Gpt2(const Gpt2Config& config, Engine& engine, const ParameterInitializer& initialize,
           ParameterUse use)
    : impl_(
          std::make_unique<Impl>(config, engine.config().precision(), /*sharded=*/true,
                                 tiles_of(validated(config), engine.config(), engine.plan_input()),
                                 options_on_meta(), EngineHome{engine, use}, initialize)) {}

Gpt2::Gpt2(const Gpt2Config& config, Precision precision, const ParameterInitializer& initialize)
    : impl_(std::make_unique<Impl>(config, precision, /*sharded=*/false, Gpt2Tiles{},
                                   options_in_memory(precision), precision, initialize)) {}

Gpt2::Gpt2(Gpt2&&) noexcept = default;
Gpt2& Gpt2::operator=(Gpt2&&) noexcept = default;
Gpt2::~Gpt2() = default;

torch::Tensor Gpt2::forward(const torch::Tensor& tokens) {
  return impl_->logits(impl_->hidden(tokens));
}

torch::Tensor Gpt2::loss(const TokenBatch& batch) {
  const torch::Tensor x = impl_->hidden(batch);
  if (impl_->table) return impl_->head().loss(impl_->normed(x), batch.targets, batch.divisor);
  return impl_->finish(x, [targets = batch.targets, divisor = batch.divisor](
                              Gpt2OuterImpl& outer, const torch::Tensor& of_blocks) {
    return outer.loss(of_blocks, targets, divisor);
  });
}

UnitSequence Gpt2::sequence() const {
  if (!impl_->in_engine) {
    throw UsageError("a model in memory is no sequence of units; call loss() and backward()");
  }
  UnitSequence sequence;
  impl_->add_embeddings_to(sequence);
  impl_->add_blocks_to(sequence);
  impl_->add_loss_to(sequence);
  return sequence;
}

torch::Tensor Gpt2::next_token_logits(const torch::Tensor& tokens) {
  return impl_->logits(impl_->hidden(tokens).select(1, -1));
}

torch::Tensor Gpt2::next_token_logits(const torch::Tensor& tokens,
                                      const std::vector<std::int64_t>& counts,
                                      KeyValueCache& cache) {
  check_tokens(tokens, kContext, impl_->config.n_positions);
  cache.begin(tokens, counts);
  const torch::Tensor x = last_of_rows(impl_->hidden(tokens, cache), cache);
  cache.end();
  return impl_->logits(x);
}

void Gpt2::train(bool on) {
  impl_->outer.module().train(on);
  for (const ModelPart<Gpt2Block>& block : impl_->blocks) block.module().train(on);
  for (TiledBlock& block : impl_->tiled_blocks) block.train(on);
}

bool Gpt2::is_training() const { return impl_->outer.module().is_training(); }

void Gpt2::visit_parameters(const ParameterVisitor& visit) {
  impl_->visit(visit,
               [](VocabularyTable& table, const auto& visitor) { table.visit_whole(visitor); });
}

void Gpt2::visit_parameter_rows(const ParameterVisitor& visit) {
  impl_->visit(visit,
               [](VocabularyTable& table, const auto& visitor) { table.visit_rows(visitor); });
}

std::vector<torch::Tensor> Gpt2::parameters() const {
  if (impl_->in_engine) {
    throw UsageError(
        "the parameters of a model in an engine have no data outside of a run; "
        "use Engine::step, or visit_parameters to read them");
  }
  std::vector<torch::Tensor> all = impl_->outer.module().parameters();
  for (const ModelPart<Gpt2Block>& block : impl_->blocks) {
    const std::vector<torch::Tensor> own = block.module().parameters();
    all.insert(all.end(), own.begin(), own.end());
  }
  return all;
}

ModelConfig Gpt2::model_config() const { return impl_->config; }

const Gpt2Config& Gpt2::config() const { return impl_->config; }

Precision Gpt2::precision() const { return impl_->precision; }

}  // namespace strata::models
