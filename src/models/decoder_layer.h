#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "models/documents.h"
#include "models/expert_units.h"
#include "models/kept_rows.h"
#include "models/model_inputs.h"
#include "models/model_part.h"
#include "strata/models/key_value_cache.h"
#include "strata/zero3/unit_sequence.h"

namespace strata::models {

/// A block of a decoder, which is a unit, and its experts where it has some, each a unit of its
/// own behind it: what a block hands to them is kept for backward, and they are entered one after
/// the other outside of it.
///
/// Block's forward takes x, the part of a cache of keys and values or null, and the documents that
/// lie in the rows or null, and returns x. One that has experts returns in its `route` what these
/// take, of the same arguments.
template <class Block>
class DecoderLayer {
 public:
  using BlockImpl = typename Block::Impl;
  using Tensor = torch::Tensor;
  using Tensors = UnitSequence::Tensors;

  DecoderLayer(ModelPart<Block> block, std::optional<ExpertUnits> experts)
      : block_(std::move(block)), experts_(std::move(experts)) {}

  [[nodiscard]] Tensor run(const Tensor& x, const std::shared_ptr<const Documents>& documents) {
    if (!experts_) {
      return block_.run(
          [documents](BlockImpl& m, const Tensor& t) {
            return m.forward(t, nullptr, documents.get());
          },
          Recompute::kConfig, x);
    }
    return experts_->run(Routed::of(
        block_.run([documents](BlockImpl& m,
                               const Tensor& t) { return routed(m, t, nullptr, documents.get()); },
                   Recompute::kConfig, x)));
  }

  /// The same of tokens that go on where the cache ends.
  [[nodiscard]] Tensor run(const Tensor& x, KeyValueCache& cache, std::int64_t layer) {
    const auto by_rows = [&cache, layer](const auto& function) {
      return [&cache, layer, function](BlockImpl& m, const Tensor& t) {
        return by_kept_rows(t, cache, layer,
                            [&](const Tensor& rows, const KeyValueCache::Part& part) {
                              return function(m, rows, part);
                            });
      };
    };
    if (!experts_) {
      return block_.run(
          by_rows([](BlockImpl& m, const Tensor& rows, const KeyValueCache::Part& part) {
            return m.forward(rows, &part);
          }),
          Recompute::kNever, x);
    }
    const Tensors handed =
        block_.run(by_rows([](BlockImpl& m, const Tensor& rows, const KeyValueCache::Part& part) {
                     return routed(m, rows, &part, nullptr);
                   }),
                   Recompute::kNever, x);
    return experts_->run(Routed::of(handed), cache.counted().to(x.device()));
  }

  /// Appends it to a model in an engine.
  void add_to(UnitSequence& sequence) const {
    const auto forward = [has_experts = experts_.has_value()](BlockImpl& m, const Tensors& x,
                                                              const Tensors& micro_batch) {
      const auto documents = documents_of(positions_of(micro_batch));
      return has_experts ? routed(m, x[0], nullptr, documents.get())
                         : Tensors{m.forward(x[0], nullptr, documents.get())};
    };
    block_.add_to(sequence, forward, Recompute::kConfig);
    if (!experts_) return;
    sequence.add_together([experts = *experts_](const std::vector<Tensors>& of_each) {
      std::vector<Routed> batches;
      for (const Tensors& x : of_each) batches.push_back(Routed::of(x));
      std::vector<Tensors> given;
      for (Tensor& x : experts.run(batches)) given.push_back({std::move(x)});
      return given;
    });
  }

  /// Calls function(part) for the block and for each expert, in the order of units.
  template <class Function>
  void for_each(Function function) const {
    function(block_);
    if (!experts_) return;
    for (const ModelPart<Expert>& expert : experts_->units()) function(expert);
  }
  void visit_parameters(const ParameterVisitor& visit) {
    block_.visit_parameters(visit);
    if (!experts_) return;
    for (ModelPart<Expert>& expert : experts_->units()) expert.visit_parameters(visit);
  }

 private:
  static Tensors routed(BlockImpl& block, const Tensor& x, const KeyValueCache::Part* kept,
                        const Documents* documents) {
    if constexpr (requires { block.route(x, kept, documents); }) {
      return block.route(x, kept, documents).tensors();
    } else {
      return {};
    }
  }

  ModelPart<Block> block_;
  std::optional<ExpertUnits> experts_;
};

}  // namespace strata::models
