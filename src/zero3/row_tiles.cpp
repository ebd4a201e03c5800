#include "strata/zero3/row_tiles.h"

#include <algorithm>
#include <string>

#include "strata/base/error.h"

namespace strata {

namespace {

std::int64_t rows_of_a_tile(std::int64_t rows, std::int64_t row_elements,
                            std::uint64_t elements_max) {
  if (rows < 1 || row_elements < 1 || elements_max < 1) {
    throw UsageError("a matrix of " + std::to_string(rows) + " rows of " +
                     std::to_string(row_elements) + " elements cannot be cut into tiles of " +
                     std::to_string(elements_max) + " elements; all of them are at least 1");
  }
  const std::uint64_t most =
      std::max<std::uint64_t>(1, elements_max / static_cast<std::uint64_t>(row_elements));
  if (most >= static_cast<std::uint64_t>(rows)) return rows;
  const auto rows_max = static_cast<std::int64_t>(most);
  const std::int64_t tiles = (rows + rows_max - 1) / rows_max;
  return (rows + tiles - 1) / tiles;
}

}  // namespace

RowTiles::RowTiles(std::int64_t rows, std::int64_t row_elements, std::uint64_t elements_max)
    : rows_(rows), tile_rows_(rows_of_a_tile(rows, row_elements, elements_max)) {}

std::string tile_name(std::int64_t tile, const std::string& whole) {
  return "tile_" + std::to_string(tile) + (whole.empty() ? "" : "." + whole);
}

}  // namespace strata
