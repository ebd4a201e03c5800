#pragma once

#include <cstdint>
#include <optional>

namespace strata::models {

/// Rotary positions: by how much each pair of a head's elements turns from one token to the next,
/// and what that is stretched by for longer contexts. The types are transformers' (modeling_rope_
/// utils.py, 5.23).
struct RopeConfig {
  enum class Type {
    kDefault,
    kLinear,   ///< all frequencies are divided by the factor
    kDynamic,  ///< for sequences beyond max_position_embeddings alone, which are refused here: so
               ///< it computes what kDefault does
    kLlama3,   ///< slow frequencies are divided, fast ones not, those between in part
    kYarn,     ///< so too, by rotations in the original context; cosines and sines are scaled
  };
  Type type = Type::kDefault;
  double theta = 10000.0;
  double factor = 1.0;                                   ///< of all types but kDefault
  std::int64_t original_context = 0;                     ///< tokens; of kLlama3 and kYarn
  double low_freq_factor = 1.0, high_freq_factor = 4.0;  ///< of kLlama3
  // Of kYarn:
  double beta_fast = 32.0, beta_slow = 1.0;
  std::optional<double> attention_factor = std::nullopt, mscale = std::nullopt,
                        mscale_all_dim = std::nullopt;
  bool truncate = true;  ///< the bounds of the part between are whole
  double share = 1.0;    ///< of a head's elements that rotate, the first ones; the others stay

  /// Elements that rotate, of a head of so many.
  [[nodiscard]] std::int64_t rotary_width(std::int64_t head_width) const {
    return static_cast<std::int64_t>(static_cast<double>(head_width) * share);
  }

  bool operator==(const RopeConfig&) const = default;
};

}  // namespace strata::models
