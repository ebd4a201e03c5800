#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "finding.h"

namespace strata::tool {

/// A finding in the words of its test: its severity, what was found, and its cure.
inline void expect(const Finding& finding, Severity severity, const std::string& found,
                   const std::string& cure) {
  EXPECT_EQ(name_of(finding.severity), name_of(severity)) << finding.found;
  EXPECT_THAT(finding.found, testing::HasSubstr(found));
  EXPECT_THAT(finding.cure, testing::HasSubstr(cure));
  EXPECT_EQ(finding.cure.empty(), severity == Severity::kOk) << finding.cure;
}

}  // namespace strata::tool
