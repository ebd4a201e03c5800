#include "tune_outcome.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "ds_nvme_bench/synthetic_disk.h"
#include "measured_speeds.h"
#include "strata/formats/ds_config.h"
#include "support/markup_balance.h"
#include "tuned_config.h"

namespace strata::nvme_bench::tune_outcome_test {
namespace {

using std::chrono::nanoseconds;
using ::testing::HasSubstr;

/// A tuning of a synthetic disk, searched for real.
class TuneOutcomeTest : public ::testing::Test {
 protected:
  TuneOutcomeTest() {
    disk_.engines.erase(IoBackend::kLibaio);
    measure_ = disk_.measure(clock_, random_);
    const auto elapsed = [this] { return clock_; };
    space_ = SearchSpace::usual({IoBackend::kIoUring, IoBackend::kThreads}, 2, 1_GiB);
    outcome_.search = search(space_, {}, measure_, elapsed);
    outcome_.writes = measure_(outcome_.search.best.setting.point(Workload::kWrite), {});
    outcome_.steady = judge_steadiness(outcome_.writes.windows);
    outcome_.disks.resize(1);
    outcome_.disks[0].directory = "/mnt/<a>";
    outcome_.disks[0].file_system = "ext4";
    outcome_.bytes = 1_GiB;
    outcome_.notes = {"a note"};
    outcome_.health = {{"vda", {std::nullopt, "no log"}, {std::nullopt, "no log"}}};
  }

  SyntheticDisk disk_;
  nanoseconds clock_{0};
  std::mt19937 random_{1};
  Measure measure_;
  SearchSpace space_;
  TuneOutcome outcome_;
};

TEST_F(TuneOutcomeTest, TheTableEndsWithSectionsThatTheParserReads) {
  std::ostringstream text;
  write_table(text, outcome_);
  const std::string table = text.str();
  const auto config = formats::DsConfig::from_text(table.substr(table.find("\n{\n") + 1), "table");
  EXPECT_EQ(config.aio, aio_config(outcome_.search.best.setting));
  EXPECT_THAT(table, HasSubstr("> " + describe(outcome_.search.best.setting)));
  EXPECT_THAT(table, HasSubstr("note: a note"));
}

TEST_F(TuneOutcomeTest, TheJsonHasTheSectionsAndIsWhatAPlanReads) {
  const std::string text = to_json(outcome_);
  const auto json = nlohmann::json::parse(text);
  EXPECT_EQ(json["aio"]["block_size"], outcome_.search.best.setting.block_bytes);
  EXPECT_EQ(json["points"].size(), outcome_.search.points.size());
  const DiskSpeeds speeds = speeds_in_result(text, "tune.json").speeds;
  EXPECT_DOUBLE_EQ(speeds.read, outcome_.search.best.speeds.read);
  EXPECT_NEAR(speeds.mu(), outcome_.search.best.speeds.mu(), 1e-9);
}

TEST_F(TuneOutcomeTest, WithoutAChoiceItShowsWhatWasMeasured) {
  outcome_.ended = "interrupted (SIGINT)";
  auto& points = outcome_.search.points;
  points.resize(5);
  outcome_.search.finalists.clear();
  const auto json = nlohmann::json::parse(to_json(outcome_));
  EXPECT_EQ(json["ended"], "interrupted (SIGINT)");
  EXPECT_EQ(json["points"].size(), 5u);
  EXPECT_FALSE(json.contains("chosen"));
  EXPECT_FALSE(json.contains("aio"));
  std::ostringstream text;
  write_table(text, outcome_);
  EXPECT_THAT(text.str(), HasSubstr("best so far"));
  const Point& point = points.front().point;
  EXPECT_THAT(text.str(),
              HasSubstr(describe({point.engine, point.block_bytes, point.depth, point.threads})));
  EXPECT_THROW((void)speeds_in_result(to_json(outcome_), "tune.json"), DataError);
}

TEST_F(TuneOutcomeTest, AChoiceThatWasNotWrittenWithYetIsStillShown) {
  outcome_.writes = {};
  std::ostringstream text;
  write_table(text, outcome_);
  EXPECT_THAT(text.str(), HasSubstr("chosen: "));
  EXPECT_THAT(text.str(), testing::Not(HasSubstr("writes for")));
  EXPECT_FALSE(nlohmann::json::parse(to_json(outcome_)).contains("steady"));
}

TEST_F(TuneOutcomeTest, ThePageIsWellFormed) {
  const std::string page = render_html(to_html_report(outcome_));
  EXPECT_EQ(support::unbalanced(page), "");
  EXPECT_THAT(page, HasSubstr("/mnt/&lt;a&gt;"));
}

TEST_F(TuneOutcomeTest, AGridOfTheSameDiskConfirmsTheChoice) {
  const auto grid = coarse_grid(space_);
  EXPECT_EQ(grid.size(), 2u * 2 * 9 - 2 * 2) << "engines, threads, blocks and depths, less those "
                                                "that take too much memory";
  const GridCheck check = check_against_grid(grid, outcome_.search.best.setting, {}, 60, measure_,
                                             [this] { return clock_; });
  EXPECT_GE(check.quality(), 0.95);
  EXPECT_GT(check.grid_seconds, 0);
}

TEST(AdviceOnDirections, FollowsMu) {
  EXPECT_THAT(advice_on_directions(DiskSpeeds::with_overlap(7e9, 5e9, 0)),
              HasSubstr("one direction"));
  EXPECT_THAT(advice_on_directions(DiskSpeeds::with_overlap(7e9, 5e9, 0.5)), HasSubstr("50 %"));
}

}  // namespace
}  // namespace strata::nvme_bench::tune_outcome_test
