#pragma once

#include <gtest/gtest.h>

#include <vector>

#include "strata/zero3/unit_layout.h"

namespace strata::models {

/// Expects that an engine's units are those that were laid out without it.
inline void expect_same_units(const std::vector<zero3::UnitLayout>& units,
                              const std::vector<zero3::UnitLayout>& expected) {
  ASSERT_EQ(units.size(), expected.size());
  for (std::size_t i = 0; i < units.size(); ++i) {
    SCOPED_TRACE(expected[i].name);
    EXPECT_EQ(units[i].name, expected[i].name);
    EXPECT_EQ(units[i].trainable_count, expected[i].trainable_count);
    EXPECT_EQ(units[i].frozen_count, expected[i].frozen_count);
    EXPECT_EQ(units[i].fp32_trainable_count, expected[i].fp32_trainable_count);
    EXPECT_EQ(units[i].fp32_frozen_count, expected[i].fp32_frozen_count);
    ASSERT_EQ(units[i].parameters.size(), expected[i].parameters.size());
    for (std::size_t p = 0; p < units[i].parameters.size(); ++p) {
      SCOPED_TRACE(expected[i].parameters[p].name);
      EXPECT_EQ(units[i].parameters[p].name, expected[i].parameters[p].name);
      EXPECT_EQ(units[i].parameters[p].shape, expected[i].parameters[p].shape);
      EXPECT_EQ(units[i].parameters[p].trainable, expected[i].parameters[p].trainable);
      EXPECT_EQ(units[i].parameters[p].offset, expected[i].parameters[p].offset);
      EXPECT_EQ(units[i].parameters[p].fp32, expected[i].parameters[p].fp32);
    }
  }
}

}  // namespace strata::models
