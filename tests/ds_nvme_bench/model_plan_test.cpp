#include "model_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "strata/base/error.h"

namespace strata::nvme_bench::model_plan_test {
namespace {

/// 7e9 parameters on one drive that reads 7 GB/s and writes 5 GB/s, never both.
PlanInput one_drive() {
  PlanInput input;
  input.parameters = 7e9;
  input.speeds = {.read = 7e9, .write = 5e9};
  return input;
}

FormatPlan bf16_plan(const PlanInput& input) { return plan_for(input).front(); }

TEST(ModelPlan, CountsADriveOnceHoweverManyDirectoriesAreOnIt) {
  std::vector<aio::DiskDescription> disks(4);
  disks[0].device = disks[1].device = "nvme0n1";
  disks[2].device = "nvme1n1";
  EXPECT_EQ(drives_among(disks), 3u) << "two drives, and one that is unknown";
}

TEST(ModelPlan, Bf16Has12BytesAtRestReads14AndWrites12) {
  const FormatPlan plan = bf16_plan(one_drive());
  EXPECT_EQ(plan.format.name, "bf16");
  EXPECT_DOUBLE_EQ(plan.bytes_at_rest, 84e9);
  EXPECT_DOUBLE_EQ(plan.bytes_read, 98e9);
  EXPECT_DOUBLE_EQ(plan.bytes_written, 84e9);
  EXPECT_DOUBLE_EQ(plan.format.traffic().read_bytes, kTrainingTraffic.read_bytes);
  EXPECT_DOUBLE_EQ(plan.format.traffic().written_bytes, kTrainingTraffic.written_bytes);
}

TEST(ModelPlan, DiskTimeIsTheSumUnlessTheDiskDoesBothAtOnce) {
  EXPECT_DOUBLE_EQ(bf16_plan(one_drive()).disk_seconds, 98 / 7.0 + 84 / 5.0);
  PlanInput duplex = one_drive();
  duplex.speeds.mixed_read = 5e9;
  duplex.speeds.mixed_write = 5e9;
  EXPECT_DOUBLE_EQ(bf16_plan(duplex).disk_seconds, 84 / 5.0);
}

TEST(ModelPlan, TokensThatHideTheDiskDoNotDependOnTheModel) {
  PlanInput input = one_drive();
  input.flops = {100e12};
  const double tokens = bf16_plan(input).hiding.at(0).tokens;
  EXPECT_NEAR(step_flop(7e9, tokens, true) / 100e12, bf16_plan(input).disk_seconds, 1e-9);
  input.parameters = 70e9;
  EXPECT_NEAR(bf16_plan(input).hiding.at(0).tokens, tokens, 1e-6);
  input.recomputation = false;
  EXPECT_NEAR(bf16_plan(input).hiding.at(0).tokens, tokens * 8 / 6, 1e-6);
}

TEST(ModelPlan, EnduranceIsSharedByTheDrives) {
  PlanInput input = one_drive();
  input.rated_bytes = 600e12;
  const FormatPlan one = bf16_plan(input);
  EXPECT_DOUBLE_EQ(one.steps_of_endurance.value(), 600e12 / 84e9);
  EXPECT_NEAR(one.days_of_endurance.value(), 600e12 / (84e9 / one.disk_seconds * 86400), 1e-9);
  input.disks = 2;
  EXPECT_NEAR(bf16_plan(input).days_of_endurance.value(), 2 * one.days_of_endurance.value(), 1e-9);
  EXPECT_FALSE(bf16_plan(one_drive()).days_of_endurance);
}

TEST(ModelPlan, FormatsTakeTheBytesThatTheyAreStoredIn) {
  std::map<std::string_view, double> at_rest;
  for (const StateFormat& format : state_formats()) at_rest[format.name] = format.at_rest_bytes;
  EXPECT_EQ(at_rest, (std::map<std::string_view, double>{{"bf16", 12},
                                                         {"fp16", 14},
                                                         {"fp32", 12},
                                                         {"bf16, bf16 m v", 8},
                                                         {"bf16, int8 m v", 6},
                                                         {"24bit, int8 m v", 5}}));
}

TEST(ModelPlan, ReadsNumbersAsPeopleWriteThem) {
  EXPECT_DOUBLE_EQ(parse_parameters("7e9"), 7e9);
  EXPECT_DOUBLE_EQ(parse_parameters("7B"), 7e9);
  EXPECT_DOUBLE_EQ(parse_parameters("1.5b"), 1.5e9);
  EXPECT_DOUBLE_EQ(parse_parameters("124M"), 124e6);
  EXPECT_DOUBLE_EQ(parse_flops("312T"), 312e12);
  EXPECT_DOUBLE_EQ(parse_tbw("600"), 600e12);
  EXPECT_DOUBLE_EQ(parse_tbw("1.2PB"), 1.2e15);
  for (const char* bad : {"", "B", "-7B", "7 B", "7Q", "nan", "inf", "0", "0.5", "1e999"}) {
    EXPECT_THROW((void)parse_parameters(bad), ConfigError) << bad;
  }
  EXPECT_THROW((void)parse_tbw("600GB"), ConfigError);
}

TEST(ModelPlan, RefusesAPlanWithoutSpeeds) {
  PlanInput input = one_drive();
  input.speeds.write = 0;
  EXPECT_THROW((void)plan_for(input), ConfigError);
  input = one_drive();
  input.parameters = 0;
  EXPECT_THROW((void)plan_for(input), ConfigError);
}

}  // namespace
}  // namespace strata::nvme_bench::model_plan_test
