#include "smart.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

namespace strata::tool::smart_test {
namespace {

using ::testing::HasSubstr;

/// A health log as a drive sends it: little-endian, 16 bytes a count.
class Page {
 public:
  Page& set(std::size_t at, std::initializer_list<int> bytes) {
    for (const int byte : bytes) bytes_[at++] = static_cast<std::byte>(byte);
    return *this;
  }
  [[nodiscard]] SmartLog parsed() const { return parse_smart_log(bytes_); }

 private:
  std::array<std::byte, kSmartLogBytes> bytes_{};
};

Page healthy_drive() {
  return Page()
      .set(1, {0x37, 0x01})               // 311 K
      .set(3, {100})                      // spare
      .set(5, {3})                        // used
      .set(32, {0x00, 0xE1, 0xF5, 0x05})  // 100,000,000 units read
      .set(48, {0x00, 0x2D, 0x31, 0x01})  // 20,000,000 units written
      .set(128, {0x10, 0x27})             // 10,000 hours
      .set(144, {7});                     // unsafe shutdowns
}

TEST(SmartLog, IsReadAsTheSpecificationLaysItOut) {
  const SmartLog log = healthy_drive().parsed();
  EXPECT_EQ(log.temperature_celsius, 38);
  EXPECT_EQ(log.available_spare_percent, 100);
  EXPECT_EQ(log.percentage_used, 3);
  EXPECT_EQ(log.bytes_read, 51'200'000'000'000u);
  EXPECT_EQ(log.bytes_written, 10'240'000'000'000u);
  EXPECT_EQ(log.power_on_hours, 10'000u);
  EXPECT_EQ(log.unsafe_shutdowns, 7u);
  EXPECT_EQ(log.media_errors, 0u);
  EXPECT_FALSE(log.critical_warning);
  EXPECT_EQ(describe(log), "38 C, 3 % of its endurance used, 10.2 TB written, no media errors");
}

TEST(SmartLog, ShowsMediaErrorsAndWarnings) {
  const SmartLog log = healthy_drive().set(0, {4}).set(160, {2}).parsed();
  EXPECT_EQ(log.media_errors, 2u);
  EXPECT_TRUE(log.critical_warning);
  EXPECT_THAT(describe(log), HasSubstr("2 MEDIA ERRORS"));
}

TEST(SmartLog, CountsBeyond64BitsSaturate) {
  const SmartLog log = healthy_drive().set(56, {1}).parsed();
  EXPECT_EQ(log.bytes_written, UINT64_MAX);
}

TEST(SmartLog, RatedEnduranceFollowsFromWhatWasUsedOfIt) {
  EXPECT_NEAR(rated_bytes(healthy_drive().parsed()).value(), 10.24e12 / 0.03, 1);
  EXPECT_FALSE(rated_bytes(healthy_drive().set(5, {0}).parsed()))
      << "a drive that counts 0 % has not said anything yet";
}

TEST(SmartLog, ADiskThatIsNoNvmeDriveSaysSo) {
  EXPECT_THAT(read_smart_log("vda").why_not, HasSubstr("no NVMe drive"));
  EXPECT_THAT(read_smart_log("").why_not, HasSubstr("no drive"));
  EXPECT_THAT(read_smart_log("nvme77n1").why_not, HasSubstr("ENOENT"));
}

}  // namespace
}  // namespace strata::tool::smart_test
