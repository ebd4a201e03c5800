#include "strata/tiering/movement.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "strata/base/error.h"

namespace strata::tiering {
namespace {

using Copy = void (*)(std::span<const std::byte>, std::span<std::byte>, Counters&);

struct Movement {
  Copy copy;
  Hop hop;
};

class HostStandIn : public testing::TestWithParam<Movement> {};

TEST_P(HostStandIn, CopiesAndCountsItsHop) {
  const std::vector<std::byte> from(12'345, std::byte{7});
  std::vector<std::byte> to(12'345);
  Counters counters;
  GetParam().copy(from, to, counters);
  GetParam().copy(std::span(from).first(0), std::span(to).first(0), counters);
  EXPECT_EQ(from, to);
  EXPECT_EQ(counters.read()[GetParam().hop].bytes, 12'345u);
  EXPECT_EQ(counters.read()[GetParam().hop].calls, 1u);
}

TEST_P(HostStandIn, RefusesUnequalLengthsAndOverlap) {
  std::vector<std::byte> bytes(100);
  const std::span all(bytes);
  Counters counters;
  EXPECT_THROW(GetParam().copy(all.first(10), all.last(11), counters), UsageError);
  EXPECT_THROW(GetParam().copy(all.first(51), all.last(51), counters), UsageError);
  EXPECT_NO_THROW(GetParam().copy(all.first(50), all.last(50), counters));
}

INSTANTIATE_TEST_SUITE_P(UploadAndDrain, HostStandIn,
                         testing::Values(Movement{upload, Hop::kUpload},
                                         Movement{drain, Hop::kDrain}),
                         [](const auto& param_info) {
                           return std::string(name_of(param_info.param.hop));
                         });

}  // namespace
}  // namespace strata::tiering
