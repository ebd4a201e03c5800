#include "strata/formats/chrome_trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <vector>

#include "formats/gzip.h"
#include "strata/base/error.h"
#include "support/message_of.h"
#include "support/temp_directory.h"

namespace strata::formats::chrome_trace_test {
namespace {

using nlohmann::json;
using std::chrono::nanoseconds;
using support::message_of;
using support::TempDirectory;
using testing::HasSubstr;

Time at(std::int64_t ns) { return Time(nanoseconds(ns)); }

std::vector<json> events_of(const TimelineRecord& record) {
  const std::string text = gunzip(chrome_trace(record), "a test's trace", 1u << 28);
  return json::parse(text).at("traceEvents").get<std::vector<json>>();
}

std::vector<json> events_of(const TimelineRecord& record, const std::string& phase) {
  std::vector<json> events = events_of(record);
  std::erase_if(events, [&](const json& event) { return event.at("ph") != phase; });
  return events;
}

/// Names of the lanes, by their number.
std::map<int, std::string> lanes_of(const TimelineRecord& record) {
  std::map<int, std::string> names;
  for (const json& event : events_of(record, "M")) {
    if (event.at("name") == "thread_name") names[event.at("tid")] = event.at("args").at("name");
  }
  return names;
}

/// Whole nanoseconds, to compare without rounding.
std::int64_t ns(const json& microseconds) {
  return std::llround(microseconds.get<double>() * 1000);
}

/// A phase in which a weight is fetched and computed with while another is on its way.
TimelineRecord small_record() {
  Timeline timeline;
  const MemoryRange slot{4096, 4096};
  timeline.add({.kind = SpanKind::kTransfer,
                .hop = Hop::kFetch,
                .name = "blocks.0 weight",
                .slot = 0,
                .bytes = 4096,
                .begin = at(1'000'000),
                .end = at(1'500'001),
                .writes = slot});
  timeline.add({.kind = SpanKind::kWait,
                .hop = Hop::kFetch,
                .name = "blocks.0",
                .begin = at(1'100'000),
                .end = at(1'500'100)});
  timeline.add({.hop = Hop::kCompute,
                .name = "blocks.0",
                .begin = at(1'600'000),
                .end = at(2'000'000),
                .reads = {&slot, 1}});
  timeline.add({.kind = SpanKind::kTransfer,
                .hop = Hop::kFetch,
                .name = "blocks.1 weight",
                .slot = 1,
                .bytes = 8192,
                .begin = at(1'200'000),
                .end = at(1'900'000)});
  timeline.add({.hop = Hop::kStep, .begin = at(2'000'000), .end = at(2'100'000)});
  timeline.add(
      {.kind = SpanKind::kPhase, .name = "step 3", .begin = at(900'000), .end = at(2'200'000)});
  timeline.sample("host bytes", 123456789012345, at(950'000));
  return timeline.read();
}

TEST(ChromeTrace, HasALaneForThePhasesForEachHopAndForEachSlot) {
  std::vector<std::string> names;
  for (const auto& [number, name] : lanes_of(small_record())) names.push_back(name);
  EXPECT_EQ(names, (std::vector<std::string>{"run", "1 fetch: waiting", "1 fetch: slot 0",
                                             "1 fetch: slot 1", "4 compute", "7 step"}));
}

TEST(ChromeTrace, SaysOfEverySpanWhatItWasAndWhenToTheNanosecond) {
  const std::vector<json> spans = events_of(small_record(), "X");
  ASSERT_EQ(spans.size(), 6u);
  EXPECT_EQ(spans[0].at("name"), "blocks.0 weight");
  EXPECT_EQ(spans[0].at("cat"), "fetch");
  EXPECT_EQ(ns(spans[0].at("ts")), 100'000);
  EXPECT_EQ(ns(spans[0].at("dur")), 500'001);
  EXPECT_EQ(spans[0].at("args"), (json{{"kind", "transfer"}, {"slot", 0}, {"bytes", 4096}}));
  EXPECT_EQ(spans[4].at("name"), "step") << "without a unit, the hop's name";
  EXPECT_EQ(spans[5].at("cat"), "phase");
  EXPECT_EQ(ns(spans[5].at("ts")), 0);
}

TEST(ChromeTrace, ArrowsLeaveAndReachTheirSlices) {
  const TimelineRecord record = small_record();
  const std::map<int, std::string> lanes = lanes_of(record);
  const std::vector<json> leaving = events_of(record, "s"), reaching = events_of(record, "f");
  ASSERT_EQ(leaving.size(), 1u);
  ASSERT_EQ(reaching.size(), 1u);
  EXPECT_EQ(leaving[0].at("id"), reaching[0].at("id"));
  EXPECT_EQ(lanes.at(leaving[0].at("tid")), "1 fetch: slot 0");
  EXPECT_EQ(lanes.at(reaching[0].at("tid")), "4 compute");
  EXPECT_GE(ns(leaving[0].at("ts")), 100'000);
  EXPECT_LT(ns(leaving[0].at("ts")), 600'001);
  EXPECT_EQ(ns(reaching[0].at("ts")), 700'000);
  EXPECT_EQ(reaching[0].at("bp"), "e");
}

TEST(ChromeTrace, CountsSamplesAndTheBytesUnderWay) {
  const std::vector<json> counters = events_of(small_record(), "C");
  EXPECT_EQ(counters.front().at("name"), "host bytes");
  EXPECT_EQ(counters.front().at("args"), (json{{"bytes", 123456789012345}}));
  std::vector<std::int64_t> under_way;
  for (const json& counter : counters) {
    if (counter.at("name") == "nvme bytes under way") {
      under_way.push_back(counter.at("args").at("fetch"));
    }
  }
  EXPECT_EQ(under_way, (std::vector<std::int64_t>{4096, 12288, 8192, 0}));
}

TEST(ChromeTrace, SlicesOfALaneLieInsideOneAnotherOrApart) {
  std::mt19937_64 random(7);
  const auto below = [&](std::int64_t bound) {
    return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(bound));
  };
  Timeline timeline;
  for (int i = 0; i < 3000; ++i) {
    const std::int64_t begin = below(100'000);
    timeline.add({.kind = static_cast<SpanKind>(below(4)),
                  .hop = static_cast<Hop>(below(kHopCount)),
                  .slot = static_cast<std::uint32_t>(below(3)),
                  .begin = at(begin),
                  .end = at(begin + below(below(10) == 0 ? 50'000 : 300))});
  }
  std::map<int, std::vector<std::pair<std::int64_t, std::int64_t>>> lanes;
  for (const json& span : events_of(timeline.read(), "X")) {
    lanes[span.at("tid")].emplace_back(ns(span.at("ts")), ns(span.at("ts")) + ns(span.at("dur")));
  }
  for (auto& [lane, spans] : lanes) {
    std::ranges::sort(spans, [](const auto& a, const auto& b) {
      return std::pair(a.first, -a.second) < std::pair(b.first, -b.second);
    });
    std::vector<std::int64_t> open;
    for (const auto& [begin, end] : spans) {
      while (!open.empty() && open.back() <= begin) open.pop_back();
      ASSERT_TRUE(open.empty() || end <= open.back()) << "in lane " << lane;
      open.push_back(end);
    }
  }
}

TEST(ChromeTrace, WithoutSpansIsATraceAllTheSame) {
  EXPECT_EQ(events_of(TimelineRecord{}).size(), 1u) << "the process's name";
}

TEST(ChromeTrace, NamesAreTextWhateverTheirBytes) {
  Timeline timeline;
  timeline.add({.name = "a \"quoted\"\n\x01 \xff name", .begin = at(1), .end = at(2)});
  EXPECT_THAT(events_of(timeline.read(), "X")[0].at("name").get<std::string>(),
              HasSubstr("a \"quoted\"\n"));
}

// ---- files -----------------------------------------------------------------------------------

TEST(ChromeTraceFile, IsReadAgainAsItWas) {
  const TempDirectory directory;
  const TimelineRecord written = small_record();
  write_chrome_trace(directory / "trace.json.gz", written);
  const TimelineRecord read = read_chrome_trace(directory / "trace.json.gz");
  ASSERT_EQ(read.spans.size(), written.spans.size());
  for (std::size_t i = 0; i < read.spans.size(); ++i) {
    const auto &a = read.spans[i], &b = written.spans[i];
    EXPECT_EQ(read.names[a.name], written.names[b.name]);
    EXPECT_EQ(a.kind, b.kind);
    EXPECT_TRUE(a.hop == b.hop || a.kind == SpanKind::kPhase);
    EXPECT_EQ(a.slot, b.slot);
    EXPECT_EQ(a.bytes, b.bytes);
    EXPECT_EQ(a.end - a.begin, b.end - b.begin);
    EXPECT_EQ(a.begin - Time{}, b.begin - at(900'000));
  }
  ASSERT_EQ(read.samples.size(), 1u);
  EXPECT_EQ(read.samples[0].value, written.samples[0].value);
}

TEST(ChromeTraceFile, ThatCannotBeWrittenLeavesNothing) {
  const TempDirectory directory;
  EXPECT_THROW(write_chrome_trace(directory / "missing" / "t.json.gz", small_record()), IoError);
  (void)std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const rlimit small{100, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  EXPECT_THROW(write_chrome_trace(directory / "t.json.gz", small_record()), IoError);
  setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_TRUE(std::filesystem::is_empty(directory.path()));
}

std::string gzipped(std::string_view text) {
  GzipText gzip;
  gzip.add(text);
  return gzip.finish();
}

TEST(ChromeTraceFile, ThatIsDamagedOrAnothersIsRefusedByName) {
  const TempDirectory directory;
  const std::string whole = chrome_trace(small_record());
  std::string flipped = whole;
  flipped[flipped.size() - 6] ^= 1;
  const std::string head = R"({"otherData":{"made_by":"strata","dropped":0},"traceEvents":[)";
  for (const std::string& content :
       {std::string(), std::string("text"), whole.substr(0, whole.size() / 2), flipped, whole + "x",
        gzipped("{"), gzipped("{}"), gzipped("[1]"), gzipped(R"({"traceEvents":[]})"),
        gzipped(R"({"otherData":{"made_by":"x","dropped":0},"traceEvents":[]})"),
        gzipped(head + R"({"ph":"X"}]})"), gzipped(head + R"({"ph":7}]})"),
        gzipped(head +
                R"({"ph":"X","cat":"fly","name":"","ts":1,"dur":1,"args":{"kind":"busy"}}]})"),
        gzipped(head +
                R"({"ph":"X","cat":"fetch","name":"","ts":-1,"dur":1,"args":{"kind":"busy"}}]})"),
        gzipped(head +
                R"({"ph":"X","cat":"fetch","name":"","ts":1,"dur":1,"args":{"kind":"x"}}]})")}) {
    const auto path = directory.write("t.json.gz", content);
    EXPECT_THAT(message_of<DataError>([&] { (void)read_chrome_trace(path); }),
                HasSubstr("t.json.gz"))
        << content;
  }
  EXPECT_THROW((void)read_chrome_trace(directory / "none"), IoError);
}

TEST(Gzip, GivesBackTextsOfEverySizeAndRefusesWhatIsTooLong) {
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{1}, std::size_t{1} << 16, std::size_t{300'000}}) {
    std::string text(size, 'x');
    for (std::size_t i = 0; i < size; ++i) text[i] = static_cast<char>(i * i >> 3);
    EXPECT_EQ(gunzip(gzipped(text), "t", size), text);
    if (size == 0) continue;
    EXPECT_THROW((void)gunzip(gzipped(text), "t", size - 1), DataError);
  }
}

}  // namespace
}  // namespace strata::formats::chrome_trace_test
