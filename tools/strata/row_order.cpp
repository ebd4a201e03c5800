#include "row_order.h"

#include <limits>
#include <numeric>
#include <string>
#include <utility>

#include "counter_random.h"
#include "strata/base/error.h"

namespace strata::tool {
namespace {

constexpr std::uint64_t kNoEnd = std::numeric_limits<std::uint64_t>::max();

}  // namespace

RowOrder RowOrder::epochs(std::uint64_t rows, std::uint64_t seed,
                          std::optional<std::uint64_t> epochs) {
  STRATA_CHECK(rows > 0, "no rows");
  const bool has_end = epochs && *epochs < kNoEnd / rows;
  return {Kind::kEpochs, rows, seed, has_end ? *epochs * rows : kNoEnd};
}

RowOrder RowOrder::random(std::uint64_t rows, std::uint64_t seed) {
  STRATA_CHECK(rows > 0, "no rows");
  return {Kind::kRandom, rows, seed, kNoEnd};
}

RowOrder RowOrder::even(std::uint64_t rows, std::uint64_t places) {
  STRATA_CHECK(rows > 0 && places > 0, std::to_string(rows) + ", " + std::to_string(places));
  return {Kind::kEven, rows, 0, places};
}

std::optional<std::uint64_t> RowOrder::row(std::uint64_t place) const {
  switch (kind_) {
    case Kind::kEpochs:
      if (place >= end_) return std::nullopt;
      return shuffled(place / rows_)[place % rows_];
    case Kind::kRandom: return scale_down(mix(mix(seed_) ^ place), rows_);
    case Kind::kEven:
      if (rows_ <= end_) return place < rows_ ? std::make_optional(place) : std::nullopt;
      return static_cast<std::uint64_t>(static_cast<unsigned __int128>(place % end_) * rows_ /
                                        end_);
  }
  return std::nullopt;
}

const std::vector<std::uint64_t>& RowOrder::shuffled(std::uint64_t epoch) const {
  Shuffle& kept = shuffles_[epoch % shuffles_.size()];
  if (kept.rows.empty() || kept.epoch != epoch) {
    kept.epoch = epoch;
    kept.rows.resize(rows_);
    std::iota(kept.rows.begin(), kept.rows.end(), std::uint64_t{0});
    const std::uint64_t base = mix(mix(seed_) + epoch);
    for (std::uint64_t i = rows_ - 1; i > 0; --i) {
      std::swap(kept.rows[i], kept.rows[scale_down(mix(base ^ i), i + 1)]);
    }
  }
  return kept.rows;
}

}  // namespace strata::tool
