#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "strata/zero3/row_tiles.h"

/// \file
/// What of a model is cut into tiles. No LibTorch.

namespace strata::models {

struct Gpt2Config;

/// How the linear layers of every block of a GPT-2 are cut, by their outputs.
struct BlockTiles {
  RowTiles c_attn, attn_proj, c_fc, mlp_proj;

  /// Into tiles whose weights have at most so many elements, or are one output's.
  BlockTiles(const Gpt2Config& config, std::uint64_t elements_max);
  /// Tiles of one block.
  [[nodiscard]] std::int64_t count() const {
    return c_attn.count() + attn_proj.count() + c_fc.count() + mlp_proj.count();
  }
  bool operator==(const BlockTiles&) const = default;
};

/// What is cut, each tile a unit; nullopt: that is whole.
struct ModelTiles {
  std::optional<RowTiles> vocabulary = std::nullopt;  ///< the embedding, and an untied head
  std::optional<BlockTiles> blocks = std::nullopt;    ///< of a GPT-2 alone
  bool operator==(const ModelTiles&) const = default;
};

/// A line for people about each part that is cut; none where nothing is.
[[nodiscard]] std::vector<std::string> describe(const ModelTiles& tiles);

}  // namespace strata::models
