#include "strata/formats/chrome_trace.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>

#include "formats/gzip.h"
#include "formats/trace_lanes.h"
#include "strata/base/error.h"
#include "strata/formats/output_directory.h"

namespace strata::formats {
namespace {

using std::chrono::nanoseconds;
using Span = TimelineRecord::Span;

std::string json_text(std::string_view text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

/// Writes the events of a record, one a line.
class TraceWriter {
 public:
  explicit TraceWriter(const TimelineRecord& record) : record_(record), lanes_(deal_lanes(record)) {
    for (const Span& span : record.spans) begin_ = std::min(begin_, span.begin);
    for (const auto& sample : record.samples) begin_ = std::min(begin_, sample.at);
  }

  std::string write() {
    text_.add("{\"displayTimeUnit\":\"ms\",\"otherData\":{\"made_by\":\"strata\",\"dropped\":" +
              std::to_string(record_.dropped) + "},\"traceEvents\":[\n");
    text_.add(R"({"ph":"M","pid":1,"name":"process_name","args":{"name":"strata"}})");
    for (std::size_t lane = 0; lane < lanes_.names.size(); ++lane) name_lane(lane);
    for (std::size_t i = 0; i < record_.spans.size(); ++i) add_span(i);
    for (std::size_t i = 0; i < record_.flows.size(); ++i) add_flow(i);
    for (const auto& sample : record_.samples) {
      add_counter(sample.at, record_.names[sample.name],
                  "\"bytes\":" + std::to_string(sample.value));
    }
    add_bytes_under_way();
    text_.add("\n]}\n");
    return text_.finish();
  }

 private:
  /// Microseconds since the beginning.
  [[nodiscard]] std::string time(nanoseconds since) const {
    char text[32];
    std::snprintf(text, sizeof text, "%lld.%03lld", static_cast<long long>(since.count() / 1000),
                  static_cast<long long>(since.count() % 1000));
    return text;
  }

  void event(const std::string& members) { text_.add(",\n{" + members + "}"); }

  /// The members by which an event finds its lane; tid 0 is the kernel's idle task to some viewers.
  [[nodiscard]] std::string in_lane(std::size_t lane) const {
    return "\"pid\":1,\"tid\":" + std::to_string(lane + 1);
  }

  void name_lane(std::size_t lane) {
    event("\"ph\":\"M\",\"name\":\"thread_name\"," + in_lane(lane) +
          ",\"args\":{\"name\":" + json_text(lanes_.names[lane]) + "}");
    event("\"ph\":\"M\",\"name\":\"thread_sort_index\"," + in_lane(lane) +
          ",\"args\":{\"sort_index\":" + std::to_string(lane) + "}");
  }

  void add_span(std::size_t index) {
    const Span& span = record_.spans[index];
    const std::string_view hop = span.kind == SpanKind::kPhase ? "phase" : name_of(span.hop);
    const std::string& name = record_.names[span.name];
    std::string args = "\"kind\":\"" + std::string(name_of(span.kind)) + "\"";
    if (span.kind == SpanKind::kTransfer) args += ",\"slot\":" + std::to_string(span.slot);
    if (span.bytes > 0) args += ",\"bytes\":" + std::to_string(span.bytes);
    event("\"ph\":\"X\",\"name\":" + (name.empty() ? json_text(hop) : json_text(name)) +
          ",\"cat\":\"" + std::string(hop) + "\"," + in_lane(lanes_.of_span[index]) +
          ",\"ts\":" + time(span.begin - begin_) + ",\"dur\":" + time(span.end - span.begin) +
          ",\"args\":{" + args + "}");
  }

  /// An arrow's ends lie inside of their slices, which is how viewers find them.
  void add_flow(std::size_t index) {
    const TimelineRecord::Flow& flow = record_.flows[index];
    const Span &from = record_.spans[flow.from], &to = record_.spans[flow.to];
    const Time leaves = std::max(from.begin, from.end - nanoseconds(1));
    const Time arrives = std::clamp(leaves, to.begin, to.end);
    const std::string common =
        "\"name\":\"bytes\",\"cat\":\"flow\",\"id\":" + std::to_string(index + 1);
    event("\"ph\":\"s\"," + common + "," + in_lane(lanes_.of_span[flow.from]) +
          ",\"ts\":" + time(leaves - begin_));
    event("\"ph\":\"f\",\"bp\":\"e\"," + common + "," + in_lane(lanes_.of_span[flow.to]) +
          ",\"ts\":" + time(arrives - begin_));
  }

  void add_counter(Time at, const std::string& name, const std::string& values) {
    event("\"ph\":\"C\",\"pid\":1,\"name\":" + json_text(name) + ",\"ts\":" + time(at - begin_) +
          ",\"args\":{" + values + "}");
  }

  void add_bytes_under_way() {
    struct Change {
      std::int64_t fetched = 0, flushed = 0;
    };
    std::map<Time, Change> changes;
    for (const Span& span : record_.spans) {
      if (span.kind != SpanKind::kTransfer) continue;
      const auto change = span.hop == Hop::kFetch ? &Change::fetched : &Change::flushed;
      changes[span.begin].*change += static_cast<std::int64_t>(span.bytes);
      changes[span.end].*change -= static_cast<std::int64_t>(span.bytes);
    }
    Change now;
    for (const auto& [at, change] : changes) {
      now.fetched += change.fetched;
      now.flushed += change.flushed;
      add_counter(
          at, "nvme bytes under way",
          "\"fetch\":" + std::to_string(now.fetched) + ",\"flush\":" + std::to_string(now.flushed));
    }
  }

  const TimelineRecord& record_;
  TraceLanes lanes_;
  Time begin_ = Time::max();
  GzipText text_;
};

}  // namespace

std::string chrome_trace(const TimelineRecord& record) { return TraceWriter(record).write(); }

void write_chrome_trace(const std::filesystem::path& path, const TimelineRecord& record) {
  std::filesystem::path partial = path;
  partial += ".partial";
  try {
    write_text(partial, chrome_trace(record));
    std::filesystem::rename(partial, path);
  } catch (const std::filesystem::filesystem_error& error) {
    std::error_code ignored;
    std::filesystem::remove(partial, ignored);
    throw system_error("write", path.string(), error.code().value());
  } catch (...) {
    std::error_code ignored;  // a piece of it may have stayed
    std::filesystem::remove(partial, ignored);
    throw;
  }
}

}  // namespace strata::formats
