#include <gtest/gtest.h>

#include <set>

#include "strata/base/timeline.h"
#include "zero3/small_engine.h"

// What a recording of an engine's hops shows.

namespace strata::engine_timeline_test {
namespace {

using small::input;
using small::linear;
using small::on_nvme;
using small::train_once;

/// Two layers, of which the device has room for one, for two steps of which the second is recorded.
TimelineRecord recorded_step(std::vector<float>* losses = nullptr, bool records = true) {
  formats::DsConfig config = on_nvme();
  config.strata.device_budget_bytes = small::room_for_one_linear(config);
  Timeline timeline;
  Engine engine(config);
  Sharded first = engine.shard(linear(1), {.name = "first"});
  Sharded second = engine.shard(linear(2), {.name = "second"});
  for (int step = 0; step < 3; ++step) {
    engine.record_into(records && step == 1 ? &timeline : nullptr);
    const torch::Tensor loss = second(first(input())).square().sum();
    if (losses != nullptr) losses->push_back(loss.item<float>());
    train_once(engine, loss);
  }
  return timeline.read();
}

std::set<std::string> units_of(const TimelineRecord& record, Hop hop, SpanKind kind) {
  std::set<std::string> names;
  for (const TimelineRecord::Span& span : record.spans) {
    if (span.hop == hop && span.kind == kind) names.insert(record.names[span.name]);
  }
  return names;
}

TEST(EngineTimeline, NamesTheUnitsThatHopsWorkFor) {
  const TimelineRecord record = recorded_step();
  const std::set<std::string> units{"first", "second"};
  for (const Hop hop : {Hop::kGather, Hop::kCompute, Hop::kDrain, Hop::kStep}) {
    EXPECT_EQ(units_of(record, hop, SpanKind::kBusy), units) << name_of(hop);
  }
  for (const std::string state : {"weight", "m", "v"}) {
    EXPECT_TRUE(units_of(record, Hop::kFetch, SpanKind::kTransfer).contains("second " + state));
    EXPECT_TRUE(units_of(record, Hop::kFlush, SpanKind::kTransfer).contains("first " + state));
  }
  EXPECT_EQ(record.dropped, 0u);
}

TEST(EngineTimeline, LeadsFromEveryFetchToTheWorkOnItsBytes) {
  const TimelineRecord record = recorded_step();
  std::set<Hop> uses;
  for (const TimelineRecord::Flow& flow : record.flows) {
    const auto &from = record.spans[flow.from], &to = record.spans[flow.to];
    EXPECT_LE(from.end, to.end);
    uses.insert(to.hop);
    // What is fetched ahead comes by way of an upload, which knows bytes and no unit.
    if (from.hop == Hop::kUpload || to.hop == Hop::kUpload) continue;
    const std::string extent = record.names[from.name], unit = record.names[to.name];
    EXPECT_TRUE(extent.starts_with(unit)) << extent << " went to " << unit;
  }
  EXPECT_TRUE(uses.contains(Hop::kCompute));
  EXPECT_TRUE(uses.contains(Hop::kStep));
}

TEST(EngineTimeline, ChangesNoNumber) {
  std::vector<float> with, without;
  recorded_step(&with);
  const TimelineRecord none = recorded_step(&without, /*records=*/false);
  EXPECT_EQ(with, without);
  EXPECT_TRUE(none.spans.empty());
}

}  // namespace
}  // namespace strata::engine_timeline_test
