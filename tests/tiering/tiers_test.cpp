#include "strata/tiering/tiers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>
#include <vector>

#include "strata/base/error.h"
#include "strata/base/units.h"
#include "support/sim_device.h"
#include "support/temp_directory.h"

namespace strata::tiering::tiers_test {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

class TiersTest : public testing::Test {
 protected:
  Tiers::Options options(std::vector<std::filesystem::path> directories = {}) {
    return {.device_bytes = 64_KiB,
            .host_bytes = 64_KiB,
            .nvme_bytes = 1_MiB,
            .directories = std::move(directories),
            .chunk_bytes = 4096,
            .io = {.backend = IoBackend::kThreads}};
  }

  support::TempDirectory directory_;
  std::ostringstream lines_;
  Logger log_{lines_};
  Counters counters_;
};

bool is_zero(std::span<const std::byte> bytes) {
  return std::ranges::all_of(bytes, [](std::byte each) { return each == std::byte{0}; });
}

TEST_F(TiersTest, GiveHomesWhereHostCodeReachesThemInHostMemoryAlone) {
  Tiers tiers(options({directory_.path()}), counters_, log_);
  const StateHome on_device = tiers.take_home(Tier::kDevice, 100, "m");
  const StateHome on_host = tiers.take_home(Tier::kHost, 100, "m");
  const StateHome on_nvme = tiers.take_home(Tier::kNvme, 100, "m");
  EXPECT_EQ(on_device.memory.size(), 100u);
  EXPECT_EQ(on_device.device.bytes(), 100u);
  EXPECT_TRUE(is_zero(on_device.memory));
  EXPECT_EQ(on_host.memory.size(), 100u);
  EXPECT_TRUE(on_host.device.empty());
  EXPECT_EQ(on_nvme.extent->bytes, 100u);
  EXPECT_TRUE(on_nvme.is_elsewhere());
  EXPECT_FALSE(tiers.take_home(Tier::kNvme, 0, "none").exists());
  for (const Tier tier : {Tier::kDevice, Tier::kHost, Tier::kNvme}) {
    EXPECT_EQ(tiers.budget(tier).used(), 4096u) << name_of(tier);
  }
  EXPECT_EQ(tiers.places().device, nullptr) << "nothing has to be brought from there";
}

TEST_F(TiersTest, ChargeTheDeviceBudgetForADeviceThatIsHandedIn) {
  support::SimDevice device({.max_delay = std::chrono::microseconds(100)});
  Tiers::Options with_device = options();
  with_device.device = &device;
  {
    Tiers tiers(with_device, counters_, log_);
    EXPECT_FALSE(tiers.has_nvme());
    EXPECT_EQ(tiers.places().device, &device);
    const StateHome home = tiers.take_home(Tier::kDevice, 4097, "m");
    EXPECT_TRUE(home.is_elsewhere());
    EXPECT_EQ(tiers.budget(Tier::kDevice).used(), 8192u);
    EXPECT_THROW((void)tiers.take_on_device(64_KiB, "regions"), BudgetError);

    tiers.finish_homes();
    std::vector<std::byte> bytes(4097, std::byte{1});
    HomeTransfer transfer = fetch_home(tiers.places(), home, {0, 4097}, bytes).value();
    transfer.wait();
    EXPECT_TRUE(is_zero(bytes));
    tiers.register_memory(bytes, "staging", /*by_disk=*/true);
  }
  EXPECT_THAT(device.races(), IsEmpty());
}

TEST_F(TiersTest, SayOnceThatTheDeviceRefusesToBeToldOfHostMemory) {
  support::SimDevice device({.refuse_registration = true});
  Tiers::Options with_device = options();
  with_device.device = &device;
  Tiers tiers(with_device, counters_, log_);
  std::vector<std::byte> bytes(4096);
  tiers.register_memory(bytes, "the first", /*by_disk=*/false);
  tiers.register_memory(bytes, "the second", /*by_disk=*/false);
  EXPECT_THAT(lines_.str(), HasSubstr("the first"));
  EXPECT_THAT(lines_.str(), Not(HasSubstr("the second")));
}

TEST_F(TiersTest, DoNotMakeMoreThanTheLastFolderOfADirectory) {
  const auto folder = directory_.path() / "folder";
  { Tiers tiers(options({folder}), counters_, log_); }
  EXPECT_TRUE(std::filesystem::is_directory(folder));
  EXPECT_THROW(Tiers(options({directory_.path() / "not" / "mounted"}), counters_, log_), IoError);
}

}  // namespace
}  // namespace strata::tiering::tiers_test
