#include "strata/zero3/row_tiles.h"

#include <gtest/gtest.h>

#include "strata/base/error.h"

namespace strata {
namespace {

TEST(RowTiles, CoverAllRowsOnceAndAreNoLargerThanWasSaid) {
  for (std::int64_t rows = 1; rows <= 40; ++rows) {
    for (std::uint64_t most = 3; most <= 130; ++most) {
      const RowTiles tiles(rows, 3, most);
      std::int64_t next = 0;
      for (std::int64_t tile = 0; tile < tiles.count(); ++tile) {
        EXPECT_EQ(tiles.begin(tile), next);
        EXPECT_GE(tiles.size(tile), 1);
        EXPECT_LE(static_cast<std::uint64_t>(3 * tiles.size(tile)), most);
        next += tiles.size(tile);
      }
      ASSERT_EQ(next, rows);
    }
  }
}

TEST(RowTiles, AreAsFewAsThatTakesAndOfOneSizeAsFarAsItGoes) {
  const RowTiles tiles(50257, 768, 8'000'000);
  EXPECT_EQ(tiles.count(), 5);
  EXPECT_EQ(tiles.tile_rows(), 10052);
  EXPECT_EQ(tiles.size(4), 50257 - 4 * 10052);
}

TEST(RowTiles, HaveARowAtLeast) { EXPECT_EQ(RowTiles(5, 100, 7).count(), 5); }

TEST(RowTiles, OfNothingAreRefused) {
  EXPECT_THROW(RowTiles(0, 1, 1), UsageError);
  EXPECT_THROW(RowTiles(1, 0, 1), UsageError);
  EXPECT_THROW(RowTiles(1, 1, 0), UsageError);
}

}  // namespace
}  // namespace strata
