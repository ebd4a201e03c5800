#pragma once

#include <cstdint>
#include <string>

/// \file
/// How a matrix that is too large for the device is cut. No LibTorch.

namespace strata {

/// The rows of a matrix in tiles: consecutive runs of rows, as many as are needed for none to have
/// more than so many elements, and of one size as far as that goes (the last one may be shorter). A
/// value.
class RowTiles {
 public:
  /// Cuts `rows` rows of `row_elements` elements into tiles of at most `elements_max`. A tile has
  /// one row at least, also where that is more. Throws UsageError when one of the three is not
  /// positive.
  RowTiles(std::int64_t rows, std::int64_t row_elements, std::uint64_t elements_max);

  [[nodiscard]] std::int64_t rows() const noexcept { return rows_; }
  [[nodiscard]] std::int64_t count() const noexcept {
    return (rows_ + tile_rows_ - 1) / tile_rows_;
  }
  /// Rows of every tile but the last one, which may have fewer.
  [[nodiscard]] std::int64_t tile_rows() const noexcept { return tile_rows_; }
  /// The first row of a tile.
  [[nodiscard]] std::int64_t begin(std::int64_t tile) const noexcept { return tile * tile_rows_; }
  /// The rows of a tile.
  [[nodiscard]] std::int64_t size(std::int64_t tile) const noexcept {
    const std::int64_t left = rows_ - begin(tile);
    return left < tile_rows_ ? left : tile_rows_;
  }
  bool operator==(const RowTiles&) const = default;

 private:
  std::int64_t rows_, tile_rows_;
};

/// The name of the unit of a tile: "tile_3.head" for tile 3 of "head". What follows its first dot
/// is the whole's name.
[[nodiscard]] std::string tile_name(std::int64_t tile, const std::string& whole);

}  // namespace strata
