#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <functional>
#include <string>

#include "models/gpt2/gpt2_modules.h"
#include "models/gpt2/gpt2_names.h"
#include "models/gpt2/linear_in_tiles.h"
#include "models/model_part.h"
#include "strata/models/gpt2_config.h"
#include "strata/models/gpt2_layout.h"

namespace strata::models {

/// A block of GPT-2 whose four linear layers are in tiles, each a unit, so that the device needs no
/// room for a block. Its norms are a unit too, with the block's name. It computes what Gpt2Block
/// computes (tiled.h), as a span: where it recomputes, its input alone is kept until backward,
/// which goes through the tiles forward once more.
class TiledBlock {
 public:
  /// `home` is an EngineHome or, in memory, the Precision.
  template <class Home>
  TiledBlock(std::int64_t index, const Gpt2Config& config, const BlockTiles& tiles,
             const torch::TensorOptions& options, const Home& home,
             const ParameterInitializer& initialize)
      : rest_(block_name(index), Gpt2BlockRest(config, options), home, initialize),
        c_attn_(block_name(index) + ".attn.c_attn", config.n_embd, tiles.c_attn, options, home,
                initialize),
        attn_proj_(block_name(index) + ".attn.c_proj", config.n_embd, tiles.attn_proj, options,
                   home, initialize),
        c_fc_(block_name(index) + ".mlp.c_fc", config.n_embd, tiles.c_fc, options, home,
              initialize),
        mlp_proj_(block_name(index) + ".mlp.c_proj", config.inner(), tiles.mlp_proj, options, home,
                  initialize) {}

  /// Appends it: of {x} it gives {x}.
  void add_to(UnitSequence& sequence) const;

  /// Of a micro-batch (TokenBatch::micro_batch); empty: rows that are one document each.
  [[nodiscard]] torch::Tensor run(const torch::Tensor& x,
                                  const UnitSequence::Tensors& micro_batch) const;
  /// Of tokens that go on where the cache ends, of which this block is `layer`.
  [[nodiscard]] torch::Tensor run(const torch::Tensor& x, KeyValueCache& cache,
                                  std::int64_t layer) const;

  void train(bool on) { rest_.module().train(on); }

  /// Calls visit(full name, value) for every parameter of the whole block, in its order. One linear
  /// layer at a time is in memory.
  void visit_parameters(
      const std::function<void(const std::string& name, const torch::Tensor& value)>& visit);

 private:
  using Attend = std::function<torch::Tensor(const torch::Tensor& qkv,
                                             const UnitSequence::Tensors& micro_batch)>;
  void add_to(UnitSequence& sequence, const Attend& attend) const;

  ModelPart<Gpt2BlockRest> rest_;
  LinearInTiles c_attn_, attn_proj_, c_fc_, mlp_proj_;
};

}  // namespace strata::models
