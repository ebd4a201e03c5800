#pragma once

#include <cstdint>

namespace strata::models {

/// One micro-batch of a rank.
struct MicroBatch {
  std::int64_t sequences = 1;
  std::int64_t length = 1;  ///< tokens of a sequence
  [[nodiscard]] double tokens() const {
    return static_cast<double>(sequences) * static_cast<double>(length);
  }
};

}  // namespace strata::models
