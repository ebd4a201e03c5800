#include "zero3/schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "strata/base/error.h"

namespace strata::zero3::schedule_test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using tiering::Tier;
using Kind = Action::Kind;

constexpr std::uint64_t kPage = tiering::RegionMap::kAlignment;

/// Units of one page, ten elements and one piece each.
std::vector<ScheduledUnit> units(std::size_t count) {
  std::vector<ScheduledUnit> units(count);
  for (std::size_t i = 0; i < count; ++i) units[i] = {"u" + std::to_string(i), kPage, 10, 1};
  return units;
}

/// Weights on nvme, room for `pages` units, all of them fetched ahead as far as there is room.
ScheduleOptions nvme(std::uint64_t pages, std::uint32_t slots, bool into_regions = true) {
  return {.home = Tier::kNvme,
          .device_bytes = pages * kPage,
          .fetches_into_regions = into_regions,
          .staging_slots = slots,
          .prefetch_elements = 1'000'000};
}

std::vector<UnitId> units_of(std::span<const Action> actions, Kind kind) {
  std::vector<UnitId> units;
  for (const Action& action : actions) {
    if (action.kind == kind) units.push_back(action.unit);
  }
  return units;
}

/// One entry from beginning to end; the actions of entering it.
std::vector<Action> use(Schedule& schedule, UnitId unit, Pass pass = Pass::kForward,
                        View view = View::kTraining) {
  const auto actions = schedule.enter(unit, pass, view);
  std::vector<Action> copy(actions.begin(), actions.end());
  schedule.leave(unit);
  return copy;
}

/// Forward and backward through units 0 to count - 1.
void run_micro_batch(Schedule& schedule, UnitId count) {
  for (UnitId unit = 0; unit < count; ++unit) use(schedule, unit);
  for (UnitId unit = count; unit-- > 0;) use(schedule, unit, Pass::kBackward);
  schedule.end_micro_batch(/*complete=*/true);
}

void change_all_weights(Schedule& schedule, UnitId count) {
  for (UnitId unit = 0; unit < count; ++unit) schedule.change_weights(unit);
}

TEST(Schedule, UnshardsAUnitOnceForAllNestedUses) {
  Schedule schedule(nvme(1, 0), units(1));
  EXPECT_EQ(units_of(schedule.enter(0, Pass::kForward, View::kTraining), Kind::kUnshard).size(),
            1u);
  EXPECT_THAT(schedule.enter(0, Pass::kForward, View::kTraining), IsEmpty());
  EXPECT_THAT(schedule.leave(0), IsEmpty());
  EXPECT_EQ(schedule.at(0).residency, Residency::kUnsharded);
  EXPECT_THAT(schedule.leave(0), IsEmpty());
  EXPECT_EQ(schedule.at(0).residency, Residency::kCached);
  EXPECT_THAT(schedule.enter(0, Pass::kBackward, View::kTraining), IsEmpty());
}

TEST(Schedule, KnowsOfEachUnitWhichVersionOfItsWeightsTheDeviceHolds) {
  Schedule schedule(nvme(3, 3), units(2));
  use(schedule, 0);
  use(schedule, 1);
  EXPECT_THAT(units_of(schedule.change_weights(0), Kind::kEvict), ElementsAre(0));
  EXPECT_EQ(schedule.at(1).residency, Residency::kCached) << "its weights are those of before";
  EXPECT_TRUE(schedule.at(1).is_current());

  schedule.enter(1, Pass::kForward, View::kTraining);
  EXPECT_THAT(schedule.change_weights(1), IsEmpty());
  EXPECT_FALSE(schedule.at(1).is_current());
  EXPECT_THAT(units_of(schedule.leave(1), Kind::kEvict), ElementsAre(1));
  EXPECT_EQ(schedule.at(1).weights, 1u);
  use(schedule, 1);
  EXPECT_TRUE(schedule.at(1).is_current());
}

/// A plan of one rank, host memory, weights on nvme, but for what a test changes.
PlanInput planned_input() {
  PlanInput input;
  input.prefetch_elements = 77;
  return input;
}
Plan made_plan() {
  Plan plan;
  plan.device_cache_bytes = 3 * kPage;
  plan.fetch_slots = 5;
  return plan;
}

TEST(ScheduleOptionsOfAPlan, HaveItsRoomItsSlotsAndItsPrefetching) {
  const ScheduleOptions options = schedule_options(made_plan(), planned_input());
  EXPECT_EQ(options.home, Tier::kNvme);
  EXPECT_EQ(options.device_bytes, 3 * kPage);
  EXPECT_EQ(options.staging_slots, 5u);
  EXPECT_EQ(options.prefetch_elements, 77u);
  EXPECT_FALSE(options.step_hands_over);
  Plan plan = made_plan();
  plan.overlaps_step = true;
  EXPECT_TRUE(schedule_options(plan, planned_input()).step_hands_over);
}

TEST(ScheduleOptionsOfAPlan, HaveItsPersistentUnitsAndReuseDistance) {
  PlanInput input = planned_input();
  EXPECT_EQ(schedule_options(made_plan(), input).reuse_distance_max, ScheduleOptions::kNoBound);
  input.reuse_distance_max = 12;
  Plan plan = made_plan();
  plan.persistent = {false, true};
  EXPECT_EQ(schedule_options(plan, input).reuse_distance_max, 12u);
  EXPECT_EQ(schedule_options(plan, input).persistent, plan.persistent);
}

TEST(ScheduleOptionsOfAPlan, FetchIntoRegionsOnlyWhereTheDiskCanWriteAWholeUnitThere) {
  PlanInput input = planned_input();
  EXPECT_TRUE(schedule_options(made_plan(), input).fetches_into_regions);
  input.world_size = 2;
  EXPECT_FALSE(schedule_options(made_plan(), input).fetches_into_regions);
  input.world_size = 1;
  input.device_memory_is_host = false;
  EXPECT_FALSE(schedule_options(made_plan(), input).fetches_into_regions);
}

TEST(ScheduleOptionsOfAPlan, BringShardsThatRestOnTheDeviceToRegions) {
  PlanInput input = planned_input();
  input.parameter_tier = Tier::kDevice;
  EXPECT_EQ(schedule_options(made_plan(), input).home, Tier::kDevice);
  input.world_size = 2;
  EXPECT_EQ(schedule_options(made_plan(), input).home, Tier::kHost);
}

TEST(Schedule, EvictsTheUnitThatIsUsedLast) {
  Schedule schedule(nvme(3, 0), units(4));
  run_micro_batch(schedule, 4);
  change_all_weights(schedule, 4);
  schedule.begin_step();
  for (const UnitId unit : {0u, 1u, 2u}) use(schedule, unit);
  // Backward comes 3, 2, 1, 0: of those that are there, 0 is used last.
  EXPECT_EQ(schedule.at(0).residency, Residency::kSharded);
  EXPECT_EQ(schedule.at(3).residency, Residency::kFetching);
  EXPECT_EQ(schedule.at(2).residency, Residency::kCached);
}

TEST(Schedule, EvictsWhatNothingIsKnownOfFirst) {
  Schedule schedule(nvme(3, 0), units(5));
  run_micro_batch(schedule, 2);
  use(schedule, 4);
  EXPECT_THAT(units_of(use(schedule, 3), Kind::kEvict), ElementsAre(4));
}

TEST(Schedule, FetchesAheadInTheRecordedOrderAsFarAsThereIsRoom) {
  Schedule schedule(nvme(3, 0), units(6));
  run_micro_batch(schedule, 6);
  change_all_weights(schedule, 6);
  EXPECT_THAT(units_of(schedule.begin_step(), Kind::kFetch), ElementsAre(0, 1, 2));
  const auto actions = use(schedule, 0);
  EXPECT_THAT(units_of(actions, Kind::kFetch), IsEmpty()) << "0 is in use, 1 and 2 are nearer";
  EXPECT_THAT(units_of(use(schedule, 1), Kind::kFetch), ElementsAre(3)) << "in the place of 0";
}

TEST(Schedule, KeepsATiedEmbeddingWhileTheBlocksPassBesideIt) {
  constexpr UnitId kBlocks = 6;
  std::vector<ScheduledUnit> sizes = units(1 + kBlocks);
  sizes[0].region_bytes = 4 * kPage;  // used first and last, in forward and in backward
  sizes[0].pieces = 4;
  Schedule schedule(nvme(5, 3), sizes);  // room for it and one block
  int unshards = 0;
  const auto run = [&](UnitId unit, Pass pass) {
    for (const UnitId each : units_of(use(schedule, unit, pass), Kind::kUnshard)) {
      unshards += each == 0 ? 1 : 0;
    }
  };
  for (int step = 0; step < 3; ++step) {
    unshards = 0;
    run(0, Pass::kForward);
    for (UnitId block = 1; block <= kBlocks; ++block) run(block, Pass::kForward);
    run(0, Pass::kForward);
    run(0, Pass::kBackward);
    for (UnitId block = kBlocks; block > 0; --block) run(block, Pass::kBackward);
    run(0, Pass::kBackward);
    schedule.end_micro_batch(/*complete=*/true);
    change_all_weights(schedule, 1 + kBlocks);
    schedule.begin_step();
  }
  EXPECT_EQ(unshards, 1);
}

TEST(Schedule, FetchesAheadNoFurtherThanPrefetchElements) {
  ScheduleOptions options = nvme(6, 0);
  options.prefetch_elements = 15;
  Schedule schedule(options, units(6));
  run_micro_batch(schedule, 6);
  change_all_weights(schedule, 6);
  EXPECT_THAT(units_of(schedule.begin_step(), Kind::kFetch), ElementsAre(0, 1));
}

TEST(Schedule, GivesUnitsThatAStepHandsOverTheirRegionsAsFarAsThereAreAny) {
  ScheduleOptions options = nvme(/*pages=*/4, /*slots=*/0);
  options.prefetch_elements = 15;
  options.step_hands_over = true;
  Schedule schedule(options, units(6));
  run_micro_batch(schedule, 6);
  change_all_weights(schedule, 6);
  EXPECT_THAT(units_of(schedule.begin_step(), Kind::kFetch), ElementsAre(0, 1, 2, 3));
  EXPECT_EQ(schedule.fetching_elements(), 0u);
  for (UnitId unit = 0; unit < 6; ++unit) use(schedule, unit);
  use(schedule, 5, Pass::kBackward);
  EXPECT_THAT(units_of(use(schedule, 4, Pass::kBackward), Kind::kFetch), ElementsAre(1));
  EXPECT_EQ(schedule.fetching_elements(), 10u) << "by now it comes from the disk, and counts";
}

TEST(Schedule, StagesNoUnitThatAStepHandsOverSoThatEachHasItsRegionBeforeTheUseBefore) {
  constexpr UnitId kUnits = 12;
  ScheduleOptions options = nvme(/*pages=*/3, /*slots=*/2);
  options.prefetch_elements = 5;
  options.step_hands_over = true;
  Schedule schedule(options, units(kUnits));
  run_micro_batch(schedule, kUnits);
  change_all_weights(schedule, kUnits);
  EXPECT_THAT(units_of(schedule.begin_step(), Kind::kFetch), ElementsAre(0, 1, 2));
  for (UnitId unit = 0; unit + 1 < kUnits; ++unit) {
    use(schedule, unit);
    EXPECT_TRUE(schedule.at(unit + 1).region) << "unit " << unit + 1 << " comes next";
  }
}

TEST(Schedule, CountsEveryFetchWhereNoStepHandsOver) {
  ScheduleOptions options = nvme(/*pages=*/4, /*slots=*/0);
  options.prefetch_elements = 15;
  Schedule schedule(options, units(6));
  run_micro_batch(schedule, 6);
  change_all_weights(schedule, 6);
  EXPECT_THAT(units_of(schedule.begin_step(), Kind::kFetch), ElementsAre(0, 1));
}

TEST(Schedule, FetchesNothingBeyondAStepThatChangesTheWeights) {
  Schedule schedule(nvme(6, 0), units(3));
  run_micro_batch(schedule, 3);
  change_all_weights(schedule, 3);
  use(schedule, 0);
  EXPECT_EQ(schedule.at(1).residency, Residency::kFetching);
  for (const UnitId unit : {1u, 2u}) use(schedule, unit);
  for (const UnitId unit : {2u, 1u}) use(schedule, unit, Pass::kBackward);
  schedule.change_weights(2);
  EXPECT_THAT(units_of(use(schedule, 0, Pass::kBackward), Kind::kFetch), IsEmpty());
  schedule.expect_step(false);
  EXPECT_THAT(units_of(schedule.begin_step(), Kind::kFetch), ElementsAre(2));
}

TEST(Schedule, FetchesThroughSlotsWhereTheDeviceCannotBeATarget) {
  Schedule schedule(nvme(2, 3, /*into_regions=*/false), units(5));
  run_micro_batch(schedule, 5);
  change_all_weights(schedule, 5);
  const auto actions = schedule.begin_step();
  EXPECT_THAT(units_of(actions, Kind::kFetch), ElementsAre(0, 1, 2));
  for (const Action& action : actions) EXPECT_FALSE(action.region);
  EXPECT_EQ(schedule.free_slots(), 0u);
  EXPECT_THAT(units_of(use(schedule, 0), Kind::kFetch), ElementsAre(3)) << "its slot is free";
}

TEST(Schedule, FillsTheSlotsOfALargeUnitAsTheyComeFree) {
  std::vector<ScheduledUnit> sizes = units(2);
  sizes[1].pieces = 5;
  Schedule schedule(nvme(2, 3, /*into_regions=*/false), sizes);
  run_micro_batch(schedule, 2);
  change_all_weights(schedule, 2);
  std::span<const Action> actions = schedule.begin_step();
  ASSERT_EQ(actions.size(), 2u);
  EXPECT_EQ(actions[1], (Action{Kind::kFetch, 1, std::nullopt, 2}));
  actions = schedule.enter(0, Pass::kForward, View::kTraining);
  EXPECT_THAT(actions, testing::Contains(Action{Kind::kFetch, 1, std::nullopt, 1}));
  EXPECT_EQ(schedule.at(1).slots, 3u);
}

TEST(Schedule, DropsOnlyWhatIsInTheWayOfAnUnexpectedUnit) {
  Schedule schedule(nvme(4, 3, /*into_regions=*/false), units(6));
  run_micro_batch(schedule, 6);
  change_all_weights(schedule, 6);
  schedule.begin_step();  // 0, 1 and 2 hold the slots
  EXPECT_THAT(units_of(use(schedule, 5), Kind::kDrop), ElementsAre(2)) << "it needs one slot";
  EXPECT_EQ(schedule.at(0).residency, Residency::kFetching);
  EXPECT_EQ(schedule.at(1).residency, Residency::kFetching);
}

TEST(Schedule, GivesUpAFetchIntoARegionBeforeItRefusesAUnit) {
  Schedule schedule(nvme(1, 0), units(4));
  run_micro_batch(schedule, 4);
  change_all_weights(schedule, 4);
  schedule.begin_step();  // 0 is on its way
  const auto actions = schedule.enter(3, Pass::kForward, View::kTraining);
  EXPECT_THAT(units_of(actions, Kind::kDrop), ElementsAre(0));
  EXPECT_THAT(units_of(actions, Kind::kUnshard), ElementsAre(3));
}

TEST(Schedule, RefusesAUnitThatHasNoRoomBesideThoseInUseAndDecidesNothing) {
  Schedule schedule(nvme(2, 0), units(3));
  schedule.enter(0, Pass::kForward, View::kTraining);
  schedule.enter(1, Pass::kForward, View::kTraining);
  try {
    schedule.enter(2, Pass::kForward, View::kTraining);
    FAIL() << "three units in the room of two";
  } catch (const BudgetError& error) {
    EXPECT_THAT(error.what(), HasSubstr("unit 'u2' needs 4.00 KiB"));
  }
  EXPECT_EQ(schedule.at(2).residency, Residency::kSharded);
  schedule.leave(1);
  EXPECT_THAT(units_of(schedule.enter(2, Pass::kForward, View::kTraining), Kind::kEvict),
              ElementsAre(1));
}

TEST(Schedule, GivesAUnitBackAtOnceThatIsNotUsedWithinTheReuseDistance) {
  ScheduleOptions options = nvme(6, 0);  // room for all
  options.prefetch_elements = 0;
  options.reuse_distance_max = 25;
  Schedule schedule(options, units(6));
  run_micro_batch(schedule, 6);
  EXPECT_EQ(schedule.device_bytes_used(), 6 * kPage) << "no order was known";
  for (UnitId unit = 0; unit < 6; ++unit) use(schedule, unit);
  // Between forward and backward of unit 4 lie two uses of unit 5, of ten elements each.
  for (const UnitId unit : {0u, 1u, 2u, 3u}) {
    EXPECT_EQ(schedule.at(unit).residency, Residency::kSharded) << unit;
  }
  for (const UnitId unit : {4u, 5u}) EXPECT_EQ(schedule.at(unit).residency, Residency::kCached);
  for (UnitId unit = 6; unit-- > 0;) use(schedule, unit, Pass::kBackward);
  for (const UnitId unit : {0u, 1u}) {
    EXPECT_EQ(schedule.at(unit).residency, Residency::kCached) << "the next forward is near";
  }
  EXPECT_EQ(schedule.device_bytes_used(), 2 * kPage);
}

TEST(Schedule, ARareUnitIsNotKeptWithinAReuseDistance) {
  ScheduleOptions options = nvme(6, 0);
  options.reuse_distance_max = 1'000'000;
  Schedule schedule(options, units(3));
  run_micro_batch(schedule, 2);
  use(schedule, 2);
  EXPECT_EQ(schedule.at(2).residency, Residency::kSharded);
}

TEST(Schedule, KeepsPersistentUnitsAndFetchesNothingInTheirPlace) {
  ScheduleOptions options = nvme(3, 0);
  options.persistent = {true};
  Schedule schedule(options, units(6));
  for (int micro_batch = 0; micro_batch < 3; ++micro_batch) {
    run_micro_batch(schedule, 6);
    EXPECT_EQ(schedule.at(0).residency, Residency::kCached);
  }
  // Without it, unit 0 is the one that is used last, and goes first.
  for (UnitId unit = 0; unit < 6; ++unit) {
    EXPECT_THAT(units_of(use(schedule, unit), Kind::kEvict), testing::Not(testing::Contains(0)));
  }
  EXPECT_EQ(schedule.at(0).residency, Residency::kCached);
  EXPECT_THAT(units_of(schedule.change_weights(0), Kind::kEvict), ElementsAre(0));
}

TEST(Schedule, APersistentUnitMakesRoomForOneInUseThatHasNoneElsewhere) {
  ScheduleOptions options = nvme(2, 0);
  options.persistent = {true, true};
  Schedule schedule(options, units(4));
  for (const UnitId unit : {0u, 1u}) use(schedule, unit);
  EXPECT_THAT(units_of(schedule.enter(2, Pass::kForward, View::kTraining), Kind::kEvict),
              ElementsAre(1));
  EXPECT_THAT(units_of(schedule.enter(3, Pass::kForward, View::kTraining), Kind::kEvict),
              ElementsAre(0));
}

TEST(Schedule, KeepsNothingOfWeightsThatChanged) {
  Schedule schedule(nvme(4, 0), units(3));
  run_micro_batch(schedule, 3);
  change_all_weights(schedule, 3);
  EXPECT_EQ(schedule.device_bytes_used(), 0u);
  schedule.begin_step();
  EXPECT_THAT(units_of(schedule.change_weights(1), Kind::kDrop), ElementsAre(1));
  schedule.enter(0, Pass::kForward, View::kTraining);
  EXPECT_THAT(schedule.change_weights(0), IsEmpty()) << "it is in use";
  EXPECT_THAT(units_of(schedule.leave(0), Kind::kEvict), ElementsAre(0));
}

TEST(Schedule, LetsGoOfTheStagingSlotsButNotOfRegions) {
  Schedule schedule(nvme(2, 2), units(4));
  run_micro_batch(schedule, 4);
  change_all_weights(schedule, 4);
  schedule.begin_step();  // 0 and 1 into regions, 2 and 3 into slots
  EXPECT_THAT(units_of(schedule.release_staging(), Kind::kDrop), ElementsAre(3, 2));
  EXPECT_EQ(schedule.free_slots(), 2u);
  EXPECT_EQ(schedule.at(1).residency, Residency::kFetching);
}

TEST(Schedule, FetchesAgainAheadOfUseWhatWasDropped) {
  Schedule schedule(nvme(2, 2), units(4));
  run_micro_batch(schedule, 4);
  change_all_weights(schedule, 4);
  schedule.begin_step();
  schedule.release_staging();
  EXPECT_THAT(units_of(schedule.begin_step(), Kind::kFetch), ElementsAre(2, 3));
}

TEST(Schedule, TakesAUnitBackWhoseArrivalFailed) {
  Schedule schedule(nvme(1, 0), units(2));
  schedule.enter(0, Pass::kForward, View::kTraining);
  schedule.fail(0);
  EXPECT_EQ(schedule.at(0).residency, Residency::kSharded);
  EXPECT_EQ(schedule.device_bytes_used(), 0u);
  EXPECT_EQ(schedule.unit_in_use(), std::nullopt);
  EXPECT_EQ(units_of(schedule.enter(1, Pass::kForward, View::kTraining), Kind::kUnshard).size(),
            1u);
}

TEST(Schedule, NeedsNoRoomWhereWeightsRestOnTheDevice) {
  Schedule schedule({.home = Tier::kDevice}, units(3));
  for (UnitId unit = 0; unit < 3; ++unit) {
    const auto actions = schedule.enter(unit, Pass::kForward, View::kTraining);
    EXPECT_THAT(actions, ElementsAre(Action{Kind::kUnshard, unit}));
  }
  EXPECT_EQ(schedule.unit_in_use(), 2u);
}

TEST(Schedule, FetchesNothingAheadOfUseFromHostMemory) {
  ScheduleOptions options = nvme(4, 4);
  options.home = Tier::kHost;
  Schedule schedule(options, units(3));
  run_micro_batch(schedule, 3);
  change_all_weights(schedule, 3);
  EXPECT_THAT(schedule.begin_step(), IsEmpty());
}

TEST(Schedule, FetchesNoExpertInVainThatComesNowAndThen) {
  constexpr UnitId kExperts = 8;
  Schedule schedule(nvme(12, 0), units(kExperts + 2));
  std::vector<UnitId> fetched;
  const auto run = [&](UnitId unit, Pass pass) {
    const std::vector<Action> actions = use(schedule, unit, pass);
    for (const UnitId ahead : units_of(actions, Kind::kFetch)) fetched.push_back(ahead);
  };
  for (int step = 0; step < 5; ++step) {
    for (UnitId expert = 1; expert <= kExperts; ++expert) {
      const std::vector<UnitId> order = {0, expert, kExperts + 1};
      for (const UnitId unit : order) run(unit, Pass::kForward);
      for (auto unit = order.rbegin(); unit != order.rend(); ++unit) run(*unit, Pass::kBackward);
      schedule.end_micro_batch(/*complete=*/true);
      change_all_weights(schedule, kExperts + 2);
    }
  }
  fetched.erase(std::remove(fetched.begin(), fetched.end(), kExperts + 1), fetched.end());
  EXPECT_THAT(fetched, ElementsAre(1)) << "once, after the first cycle: it had always come then";
}

TEST(Schedule, IsAValueThatCanBeAskedWhatIf) {
  Schedule schedule(nvme(3, 0), units(4));
  run_micro_batch(schedule, 4);
  Schedule copy = schedule;
  const std::vector<Action> of_copy = use(copy, 2);
  EXPECT_EQ(use(schedule, 2), of_copy);
}

TEST(Schedule, DecidesAsFastAmongManyUnitsAsAmongFew) {
  constexpr UnitId kMany = 20'000;
  Schedule schedule(nvme(kMany, 0), units(kMany));
  // Quadratic work would take minutes here.
  for (int step = 0; step < 3; ++step) {
    run_micro_batch(schedule, kMany);
    change_all_weights(schedule, kMany);
    schedule.begin_step();
  }
  EXPECT_EQ(schedule.at(0).residency, Residency::kFetching);
}

}  // namespace
}  // namespace strata::zero3::schedule_test
