#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "formats/gzip.h"
#include "formats/regular_file.h"
#include "formats/trace_lanes.h"
#include "strata/base/error.h"
#include "strata/base/units.h"
#include "strata/formats/chrome_trace.h"

namespace strata::formats {
namespace {

using nlohmann::json;
using Span = TimelineRecord::Span;

constexpr std::size_t kFileBytesMax = 64_MiB;
constexpr std::size_t kTextBytesMax = 256_MiB;
constexpr int kEventDepth = 2;  // inside of the document and of its array of events

/// Collects what a record is made of from one event after the other; none is kept.
class TraceReader {
 public:
  explicit TraceReader(const std::string& name) : name_(name) {}

  TimelineRecord read(const std::string& text) {
    try {
      const json document =
          json::parse(text, [&](int depth, json::parse_event_t what, json& value) {
            if (depth != kEventDepth || what != json::parse_event_t::object_end) return true;
            add(value);
            return false;
          });
      if (document.at("otherData").at("made_by") != "strata") fail("another program made it");
      record_.dropped = document.at("otherData").at("dropped").get<std::uint64_t>();
    } catch (const json::exception& error) {
      fail(error.what());
    }
    return std::move(record_);
  }

 private:
  [[noreturn]] void fail(const std::string& why) const {
    throw DataError(name_ + ": is no trace that strata finetune --trace has written: " + why);
  }

  void add(const json& event) {
    if (!event.contains("ph")) return;
    const auto& phase = event.at("ph").get_ref<const std::string&>();
    if (phase == "X") add_span(event);
    if (phase == "C" && event.at("args").contains("bytes")) add_sample(event);
  }

  void add_span(const json& event) {
    Span span{};
    const auto& category = event.at("cat").get_ref<const std::string&>();
    const auto& name = event.at("name").get_ref<const std::string&>();
    const json& args = event.at("args");
    span.kind = kind_of(args.at("kind").get_ref<const std::string&>());
    if (span.kind != SpanKind::kPhase) span.hop = hop_of(category);
    span.name = index_of(name == category ? "" : name);
    span.slot = args.value("slot", 0u);
    span.bytes = args.value("bytes", std::uint64_t{0});
    span.begin = time_of(event.at("ts"));
    span.end = span.begin + (time_of(event.at("dur")) - Time{});
    record_.spans.push_back(span);
  }

  void add_sample(const json& event) {
    record_.samples.push_back({.name = index_of(event.at("name").get_ref<const std::string&>()),
                               .value = event.at("args").at("bytes").get<std::uint64_t>(),
                               .at = time_of(event.at("ts"))});
  }

  [[nodiscard]] SpanKind kind_of(const std::string& name) const {
    for (const SpanKind kind :
         {SpanKind::kPhase, SpanKind::kBusy, SpanKind::kWait, SpanKind::kTransfer}) {
      if (name_of(kind) == name) return kind;
    }
    fail("a span's kind is \"" + name + "\"");
  }

  [[nodiscard]] Hop hop_of(const std::string& name) const {
    const auto* const found = std::ranges::find(kHopNames, name);
    if (found == kHopNames.end()) fail("a span's hop is \"" + name + "\"");
    return static_cast<Hop>(found - kHopNames.begin());
  }

  [[nodiscard]] Time time_of(const json& microseconds) const {
    const double value = microseconds.get<double>();
    constexpr double kMax = 1e15;  // 30 years
    if (!(value >= 0 && value < kMax)) fail("a time is no time");
    return Time(std::chrono::nanoseconds(std::llround(value * 1000)));
  }

  [[nodiscard]] std::uint32_t index_of(const std::string& name) {
    const auto next = static_cast<std::uint32_t>(record_.names.size());
    const auto [place, is_new] = indices_.try_emplace(name, next);
    if (is_new) record_.names.push_back(name);
    return place->second;
  }

  const std::string& name_;
  TimelineRecord record_;
  std::unordered_map<std::string, std::uint32_t> indices_;
};

}  // namespace

TimelineRecord read_chrome_trace(const std::filesystem::path& path) {
  const std::string name = path.string();
  const std::string content = read_text_file(path, RegularFile::Links::kFollow, kFileBytesMax);
  return TraceReader(name).read(gunzip(content, name, kTextBytesMax));
}

}  // namespace strata::formats
