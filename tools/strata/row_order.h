#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

namespace strata::tool {

/// Which of so many rows stands at each place of a run: a pure function of what it was made of and
/// the place, so there is nothing to save. Thread: one at a time.
class RowOrder {
 public:
  /// Every row once in each epoch, in an order drawn anew from `seed` and the epoch's number, all
  /// orders alike (Fisher and Yates). Behind the last one of `epochs`, where they are named, none.
  [[nodiscard]] static RowOrder epochs(std::uint64_t rows, std::uint64_t seed,
                                       std::optional<std::uint64_t> epochs = std::nullopt);
  /// Any row at any place, as likely as another.
  [[nodiscard]] static RowOrder random(std::uint64_t rows, std::uint64_t seed);
  /// `places` that spread evenly over the rows; each once, and then none, where these are fewer.
  [[nodiscard]] static RowOrder even(std::uint64_t rows, std::uint64_t places);

  /// nullopt: none.
  [[nodiscard]] std::optional<std::uint64_t> row(std::uint64_t place) const;

 private:
  enum class Kind : std::uint8_t { kEpochs, kRandom, kEven };
  struct Shuffle {
    std::uint64_t epoch = 0;
    std::vector<std::uint64_t> rows;  ///< empty: of no epoch
  };
  RowOrder(Kind kind, std::uint64_t rows, std::uint64_t seed, std::uint64_t end)
      : kind_(kind), rows_(rows), seed_(seed), end_(end) {}
  [[nodiscard]] const std::vector<std::uint64_t>& shuffled(std::uint64_t epoch) const;

  Kind kind_;
  std::uint64_t rows_, seed_;
  std::uint64_t end_;                        ///< of places; of kEven their number
  mutable std::array<Shuffle, 2> shuffles_;  ///< a batch may lie in two epochs
};

}  // namespace strata::tool
