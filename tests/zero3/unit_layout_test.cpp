#include "strata/zero3/unit_layout.h"

#include <gtest/gtest.h>

#include "strata/base/error.h"

namespace strata::zero3::unit_layout_test {
namespace {

TEST(UnitLayout, AlignsEveryParameterAndSeparatesTheFrozen) {
  UnitLayout unit;
  unit.name = "h.0";
  unit.add("weight", {3, 5}, true);
  unit.add("table", {7}, false);
  unit.add("bias", {5}, true);
  EXPECT_EQ(unit.parameters[0].offset, 0u);
  EXPECT_EQ(unit.parameters[1].offset, 0u);
  EXPECT_EQ(unit.parameters[2].offset, 64u);
  EXPECT_EQ(unit.trainable_count, 128u);
  EXPECT_EQ(unit.frozen_count, 64u);
  EXPECT_EQ(unit.full_name(unit.parameters[2]), "h.0.bias");
}

TEST(UnitLayout, WhatIsKeptInFp32LiesApart) {
  UnitLayout unit;
  unit.add("weight", {3, 5}, true);
  unit.add("norm", {70}, true, /*keep_fp32=*/true);
  unit.add("table", {7}, false, /*keep_fp32=*/true);
  unit.add("bias", {5}, true);
  unit.add("shift", {1}, true, /*keep_fp32=*/true);
  EXPECT_EQ(unit.parameters[1].offset, 0u);
  EXPECT_TRUE(unit.parameters[1].fp32);
  EXPECT_EQ(unit.parameters[2].offset, 0u);
  EXPECT_FALSE(unit.parameters[3].fp32);
  EXPECT_EQ(unit.parameters[3].offset, 64u);
  EXPECT_EQ(unit.parameters[4].offset, 128u);
  EXPECT_EQ(unit.trainable_count, 128u);
  EXPECT_EQ(unit.frozen_count, 0u);
  EXPECT_EQ(unit.fp32_trainable_count, 192u);
  EXPECT_EQ(unit.fp32_frozen_count, 64u);
}

TEST(UnitLayout, KeepsScalarsAndEmptyParameters) {
  UnitLayout unit;
  unit.add("scale", {}, true);
  unit.add("none", {0, 4}, true);
  EXPECT_EQ(unit.parameters[0].count, 1u);
  EXPECT_EQ(unit.parameters[1].count, 0u);
  EXPECT_EQ(unit.trainable_count, 64u);
  EXPECT_EQ(unit.full_name(unit.parameters[0]), "scale");
}

TEST(UnitLayout, RefusesWhatCannotBeLaidOut) {
  UnitLayout unit;
  unit.add("weight", {2}, true);
  EXPECT_THROW(unit.add("weight", {2}, true), UsageError);
  EXPECT_THROW(unit.add("negative", {-1}, true), UsageError);
  EXPECT_THROW(unit.add("vast", {1LL << 40, 1LL << 40}, true), UsageError);
  EXPECT_EQ(unit.parameters.size(), 1u);
}

}  // namespace
}  // namespace strata::zero3::unit_layout_test
