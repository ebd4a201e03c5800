#include "strata/zero3/machine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <utility>

#include "strata/base/error.h"
#include "strata/tiering/budget.h"

namespace strata::zero3::machine_test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr const char* kWorkstation = R"({
  "name": "a workstation",
  "device": {
    "memory":  {"value": 24e9, "source": "data sheet"},
    "compute": {"value": 100e12, "source": "assumed"},
    "upload":  {"value": 25e9, "source": "assumed"},
    "drain":   {"value": 20e9, "source": "assumed"}
  },
  "host": {
    "memory": {"value": 128e9, "source": "data sheet"},
    "update": {"value": 60e9, "source": "measured with adam_benchmark"}
  },
  "disk": {
    "count":     {"value": 2, "source": "assumed"},
    "read":      {"value": 7e9, "source": "data sheet"},
    "write":     {"value": 5e9, "source": "data sheet"},
    "overlap":   {"value": 0.5, "source": "assumed"},
    "bytes":     {"value": 4e12, "source": "data sheet"},
    "endurance": {"value": 2.4e15, "source": "data sheet"}
  }
})";

constexpr const char* kServer = R"({
  "name": "a server",
  "device": {
    "count":   {"value": 8, "source": "assumed"},
    "memory":  {"value": 80e9, "source": "assumed"},
    "compute": {"value": 400e12, "source": "assumed"},
    "upload":  {"value": 25e9, "source": "assumed"},
    "drain":   {"value": 25e9, "source": "assumed"},
    "link":    {"value": 200e9, "source": "assumed"}
  },
  "host": {
    "memory": {"value": 1024e9, "source": "assumed"},
    "update": {"value": 240e9, "source": "assumed"}
  },
  "network": {"receive": {"value": 50e9, "source": "assumed"}}
})";

constexpr const char* kWithoutAccelerator = R"({
  "name": "two cores",
  "device": {"compute": {"value": 1e11, "source": "assumed"}},
  "host": {
    "memory": {"value": 24e9, "source": "assumed"},
    "update": {"value": 60e9, "source": "assumed"},
    "copy":   {"value": 8e9, "source": "assumed"}
  }
})";

/// `text` with its first `what` replaced.
std::string changed(std::string text, const std::string& what, const std::string& by) {
  const std::size_t at = text.find(what);
  EXPECT_NE(at, std::string::npos) << what;
  return text.replace(at, what.size(), by);
}

std::string refusal(const std::string& text) {
  try {
    (void)Machine::from_text(text, "machine.json");
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "nothing was refused";
}

TEST(Machine, ItsTextIsReadBackToTheSameNumbersAndSources) {
  for (const char* text : {kWorkstation, kServer, kWithoutAccelerator}) {
    const Machine machine = Machine::from_text(text, "machine.json");
    const Machine again = Machine::from_text(machine.to_text(), "again.json");
    EXPECT_EQ(again, machine);
  }
  Machine odd = Machine::from_text(kWithoutAccelerator, "machine.json");
  odd.compute = {1e11 / 3, "measured here, 2026-11-30: \"blocks\" of 12 \xc3\x97 768"};
  EXPECT_EQ(Machine::from_text(odd.to_text(), "odd.json"), odd);
}

TEST(Machine, ReadsEveryNumberWithItsSource) {
  const Machine machine = Machine::from_text(kWorkstation, "machine.json");
  EXPECT_EQ(machine.name, "a workstation");
  EXPECT_EQ(machine.devices(), 1);
  EXPECT_EQ(machine.disks(), 2);
  EXPECT_TRUE(machine.has_accelerator());
  EXPECT_EQ(machine.update.value, 60e9);
  EXPECT_EQ(machine.update.source, "measured with adam_benchmark");
  EXPECT_EQ(machine.disk_endurance->value, 2.4e15);
}

TEST(Machine, ARankAloneHasTheWholeNode) {
  const RankSpeeds speeds = rank_speeds(Machine::from_text(kWorkstation, "machine.json"), 1);
  EXPECT_EQ(speeds.compute, 100e12);
  EXPECT_EQ(speeds.disk_read, 14e9);
  EXPECT_EQ(speeds.disk_write, 10e9);
  EXPECT_EQ(speeds.disk_overlap, 0.5);
  EXPECT_EQ(speeds.upload, 25e9);
  EXPECT_EQ(speeds.drain, 20e9);
  EXPECT_EQ(speeds.update, 60e9);
  EXPECT_FALSE(speeds.shares_cores);
  const TierBytes bytes = rank_bytes(Machine::from_text(kWorkstation, "machine.json"));
  EXPECT_EQ(bytes.device, 24'000'000'000u);
  EXPECT_EQ(bytes.host, 128'000'000'000u);
  EXPECT_EQ(bytes.nvme, 8'000'000'000'000u);
}

TEST(Machine, RanksOfANodeShareItsCoresAndMemory) {
  const Machine server = Machine::from_text(kServer, "machine.json");
  const RankSpeeds speeds = rank_speeds(server, 1);
  EXPECT_EQ(speeds.update, 30e9);
  EXPECT_EQ(speeds.compute, 400e12);
  EXPECT_EQ(speeds.disk_read, 0);
  EXPECT_NEAR(speeds.exchange, 200e9, 1);
  EXPECT_EQ(rank_bytes(server).host, 128'000'000'000u);
  EXPECT_EQ(rank_bytes(server).nvme, 0u);
}

TEST(Machine, BetweenNodesTheSlowerOfNetworkAndLinkDecides) {
  const Machine server = Machine::from_text(kServer, "machine.json");
  // Half of a byte comes over the network: 1e-11 s; the link takes 7/8 of it in less.
  EXPECT_NEAR(rank_speeds(server, 2).exchange, 15.0 / 16 / (0.5 / 50e9), 1);
  const Machine slow_link = Machine::from_text(changed(kServer, "200e9", "20e9"), "machine.json");
  EXPECT_NEAR(rank_speeds(slow_link, 2).exchange, 15.0 / 16 / (7.0 / 8 / 20e9), 1);
}

TEST(Machine, WithoutAnAcceleratorDeviceAndHostAreOne) {
  const Machine machine = Machine::from_text(kWithoutAccelerator, "machine.json");
  const RankSpeeds speeds = rank_speeds(machine, 1);
  EXPECT_TRUE(speeds.shares_cores);
  EXPECT_EQ(speeds.upload, 8e9);
  EXPECT_EQ(speeds.drain, 8e9);
  EXPECT_EQ(rank_bytes(machine).device, rank_bytes(machine).host);
}

TEST(Machine, WhatJoinsRanksIsAskedForByNameWhereThereAreSeveral) {
  const auto refused = [](const std::string& text, int nodes) -> std::string {
    try {
      (void)rank_speeds(Machine::from_text(text, "machine.json"), nodes);
    } catch (const ConfigError& error) {
      return error.what();
    }
    return "nothing was refused";
  };
  EXPECT_THAT(refused(kWorkstation, 2), HasSubstr("network.receive"));
  EXPECT_THAT(refused(kWorkstation, 0), HasSubstr("at least one"));
  EXPECT_THAT(refused(changed(kServer, R"(,
    "link":    {"value": 200e9, "source": "assumed"})",
                              ""),
                      1),
              HasSubstr("device.link"));
}

TEST(Machine, ASourceThatSaysNothingIsRefused) {
  for (const char* source : {"", " ", "?", "measured", "Measured.", "measured here"}) {
    EXPECT_THAT(refusal(changed(kWorkstation, "measured with adam_benchmark", source)),
                AllOf(HasSubstr("machine.json:11"), HasSubstr("host.update.source")))
        << source;
  }
  EXPECT_THAT(refusal(changed(kWorkstation, R"("value": 60e9, )", "")), HasSubstr("host.update"));
  EXPECT_THAT(
      refusal(changed(kWorkstation, R"({"value": 60e9, "source": "measured with adam_benchmark"})",
                      "60e9")),
      HasSubstr("host.update"));
}

TEST(Machine, NumbersOutOfRangeAreRefusedWithWhatIsAllowed) {
  EXPECT_THAT(refusal(changed(kWorkstation, "100e12", "0")),
              AllOf(HasSubstr("device.compute.value"), HasSubstr("above 0")));
  EXPECT_THAT(refusal(changed(kWorkstation, "100e12", "-5")), HasSubstr("above 0"));
  EXPECT_THAT(refusal(changed(kWorkstation, "0.5", "1.5")), HasSubstr("from -4 to 1"));
  EXPECT_THAT(refusal(changed(kWorkstation, R"("value": 2,)", R"("value": 2.5,)")),
              AllOf(HasSubstr("disk.count.value"), HasSubstr("whole number")));
  EXPECT_THAT(refusal(changed(kWorkstation, "100e12", "\"fast\"")),
              HasSubstr("device.compute.value"));
}

TEST(Machine, UnknownAndMissingKeysAreNamed) {
  EXPECT_THAT(refusal(changed(kWorkstation, "\"disk\"", "\"disks\"")),
              AllOf(HasSubstr("disks"), HasSubstr("name, device, host, disk, network")));
  EXPECT_THAT(refusal(changed(kWorkstation, "\"read\"", "\"reads\"")),
              AllOf(HasSubstr("disk.reads"), HasSubstr("count, read, write")));
  EXPECT_THAT(
      refusal(changed(kWorkstation, R"("upload":  {"value": 25e9, "source": "assumed"},)", "")),
      HasSubstr("device.upload"));
  EXPECT_THAT(
      refusal(changed(kWorkstation, R"("write":     {"value": 5e9, "source": "data sheet"},)", "")),
      HasSubstr("disk.write"));
  EXPECT_THAT(refusal(changed(kWithoutAccelerator,
                              R"("update": {"value": 60e9, "source": "assumed"},)", "")),
              HasSubstr("update"));
  EXPECT_THAT(refusal(changed(kWithoutAccelerator, R"(,
    "copy":   {"value": 8e9, "source": "assumed"})",
                              "")),
              HasSubstr("host.copy"));
  EXPECT_THAT(refusal(R"({"name": "x"})"), HasSubstr("\"device\" is missing"));
  EXPECT_THAT(refusal("[1]"), HasSubstr("machine.json:1"));
  EXPECT_THAT(refusal("{"), HasSubstr("machine.json"));
}

TEST(Machine, WhatContradictsItselfIsRefused) {
  EXPECT_THAT(
      refusal(changed(kWorkstation, R"("memory":  {"value": 24e9, "source": "data sheet"},)", "")),
      HasSubstr("host.copy"));
  EXPECT_THAT(refusal(changed(kWithoutAccelerator, R"("device": {)",
                              R"("device": {"drain": {"value": 1e9, "source": "assumed"}, )")),
              HasSubstr("device.drain"));
  EXPECT_THAT(refusal(changed(kWorkstation, R"("update")",
                              R"("copy": {"value": 1e9, "source": "assumed"}, "update")")),
              HasSubstr("host.copy"));
  EXPECT_THAT(refusal(changed(kWorkstation, R"("read")",
                              R"("beside_compute": {"value": 0.5, "source": "assumed"}, "read")")),
              HasSubstr("disk.beside_compute"));
}

TEST(Machine, GradientsAreAddedAsFastAsStatesAreUpdatedUnlessItSaysOtherwise) {
  EXPECT_EQ(rank_speeds(Machine::from_text(kWithoutAccelerator, "m"), 1).add, 60e9);
  const Machine machine =
      Machine::from_text(changed(kWithoutAccelerator, R"("copy")",
                                 R"("add": {"value": 9e9, "source": "assumed"}, "copy")"),
                         "m");
  EXPECT_EQ(rank_speeds(machine, 1).add, 9e9);
  EXPECT_EQ(Machine::from_text(machine.to_text(), "m"), machine);
}

TEST(Machine, TheMachinesThatComeWithStrataAreMachineFiles) {
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(STRATA_MACHINES)) {
    EXPECT_NO_THROW((void)Machine::from_file(entry.path())) << entry.path();
    ++files;
  }
  EXPECT_GT(files, 0);
}

TEST(Machine, AFileThatCannotBeReadIsNamed) {
  try {
    (void)Machine::from_file("/no/such/machine.json");
    FAIL();
  } catch (const IoError& error) {
    EXPECT_THAT(error.what(), HasSubstr("/no/such/machine.json"));
  }
  EXPECT_THROW((void)Machine::from_file(std::filesystem::temp_directory_path()), ConfigError);
}

}  // namespace
}  // namespace strata::zero3::machine_test
