#include "strata/base/units.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "strata/base/error.h"
#include "support/message_of.h"

namespace strata {
namespace {

TEST(ParseBytes, ReadsEveryWayOfWritingASize) {
  EXPECT_EQ(parse_bytes("0"), 0u);
  EXPECT_EQ(parse_bytes("1000000"), 1000000u);
  EXPECT_EQ(parse_bytes("17B"), 17u);
  EXPECT_EQ(parse_bytes("64K"), 64_KiB);
  EXPECT_EQ(parse_bytes("64KiB"), 64_KiB);
  EXPECT_EQ(parse_bytes("512 MiB"), 512_MiB);
  EXPECT_EQ(parse_bytes("4GiB"), 4_GiB);
  EXPECT_EQ(parse_bytes("4gib"), 4_GiB);
  EXPECT_EQ(parse_bytes("3T"), 3072_GiB);
}

TEST(ParseBytes, ReadsUnitsWithoutAnIAsDecimal) {
  EXPECT_EQ(parse_bytes("64KB"), 64'000u);
  EXPECT_EQ(parse_bytes("2GB"), 2'000'000'000u);
  EXPECT_EQ(parse_bytes("2 TB"), 2'000'000'000'000u);
}

TEST(ParseBytes, ComputesFractionsExactlyAndDropsPartsOfAByte) {
  EXPECT_EQ(parse_bytes("1.5GiB"), 1536_MiB);
  EXPECT_EQ(parse_bytes("0.5K"), 512u);
  EXPECT_EQ(parse_bytes("0.1KiB"), 102u);
  EXPECT_EQ(parse_bytes("1.000000000000000001GiB"), 1_GiB);
  // A double would lose the last bytes of this one.
  EXPECT_EQ(parse_bytes("8388607.999999999999MiB"), 8388608_MiB - 1);
}

TEST(ParseBytes, AcceptsUpToTwoToThe63) {
  EXPECT_EQ(parse_bytes("9223372036854775808"), 1ull << 63);
  EXPECT_EQ(parse_bytes("8388608T"), 1ull << 63);
  EXPECT_THROW((void)parse_bytes("9223372036854775809"), ConfigError);
  EXPECT_THROW((void)parse_bytes("8388609T"), ConfigError);
  EXPECT_THROW((void)parse_bytes("99999999999999999999999"), ConfigError);
}

TEST(ParseBytes, RefusesAnythingElse) {
  for (const char* text : {"",       " ",
                           "GiB",    "-1",
                           "+1",     "-4GiB",
                           "1.",     ".5G",
                           "1.5.2G", "4 Gi B",
                           "4GiBs",  "4Gi",
                           "1e9",    "0x10",
                           "4P",     " 4GiB",
                           "4GiB ",  "4 ",
                           "4,5G",   "nan",
                           "inf",    "1.0000000000000000001G"}) {
    EXPECT_THROW((void)parse_bytes(text), ConfigError) << '"' << text << '"';
  }
}

TEST(ParseBytes, SaysWhatIsWrongAndWhatToWrite) {
  EXPECT_THAT(
      support::message_of<ConfigError>([] { (void)parse_bytes("4 GiBs"); }),
      testing::AllOf(testing::HasSubstr("\"4 GiBs\""),
                     testing::HasSubstr("unit \"GiBs\" is unknown"), testing::HasSubstr("4GiB")));
}

TEST(FormatBytes, PrintsThreeSignificantDigits) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(17), "17 B");
  EXPECT_EQ(format_bytes(1023), "1023 B");
  EXPECT_EQ(format_bytes(1024), "1.00 KiB");
  EXPECT_EQ(format_bytes(96_MiB), "96.0 MiB");
  EXPECT_EQ(format_bytes(512_MiB), "512 MiB");
  EXPECT_EQ(format_bytes(1536_MiB), "1.50 GiB");
  EXPECT_EQ(format_bytes(~0ull), "16.0 EiB");
}

TEST(FormatBytes, CarriesIntoTheNextDigitOrUnitInsteadOfPrintingOneTooMany) {
  EXPECT_EQ(format_bytes(1_GiB - 1), "1.00 GiB");
  EXPECT_EQ(format_bytes(10_MiB - 1), "10.0 MiB");
  EXPECT_EQ(format_bytes(100_MiB - 1), "100 MiB");
}

TEST(Rounding, RoundsUpToMultiples) {
  EXPECT_EQ(round_up(0, 512), 0u);
  EXPECT_EQ(round_up(1, 512), 512u);
  EXPECT_EQ(round_up(512, 512), 512u);
  EXPECT_EQ(round_up(10, 3), 12u);
  EXPECT_EQ(ceil_div(0, 7), 0u);
  EXPECT_EQ(ceil_div(7, 7), 1u);
  EXPECT_EQ(ceil_div(8, 7), 2u);
}

}  // namespace
}  // namespace strata
