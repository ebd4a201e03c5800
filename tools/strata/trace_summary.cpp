#include "trace_summary.h"

#include <algorithm>
#include <map>

namespace strata::tool {

using std::chrono::nanoseconds;

Stretches merged(Stretches stretches) {
  std::ranges::sort(stretches);
  Stretches result;
  for (const auto& [begin, end] : stretches) {
    if (end <= begin) continue;
    if (!result.empty() && begin <= result.back().second) {
      result.back().second = std::max(result.back().second, end);
    } else {
      result.emplace_back(begin, end);
    }
  }
  return result;
}

nanoseconds length_of(const Stretches& stretches) {
  nanoseconds sum{};
  for (const auto& [begin, end] : stretches) sum += end - begin;
  return sum;
}

Stretches without(const Stretches& stretches, const Stretches& others) {
  Stretches result;
  auto other = others.begin();
  for (auto [begin, end] : stretches) {
    while (other != others.end() && other->second <= begin) ++other;
    for (auto cut = other; cut != others.end() && cut->first < end; ++cut) {
      if (cut->first > begin) result.emplace_back(begin, cut->first);
      begin = std::max(begin, cut->second);
    }
    if (begin < end) result.emplace_back(begin, end);
  }
  return result;
}

namespace {

void take_span(const TimelineRecord::Span& span, const std::string& name, TraceSummary& summary) {
  TracedHop& hop = summary.hops[static_cast<std::size_t>(span.hop)];
  switch (span.kind) {
    case SpanKind::kPhase: summary.phases.push_back({name, span.begin, span.end}); break;
    case SpanKind::kBusy: hop.busy.emplace_back(span.begin, span.end); break;
    case SpanKind::kWait: hop.waited.emplace_back(span.begin, span.end); break;
    case SpanKind::kTransfer:
      hop.under_way.emplace_back(span.begin, span.end);
      hop.bytes += span.bytes;
      break;
  }
}

std::vector<Stall> stalls_of(const TimelineRecord& trace) {
  std::map<std::pair<std::uint32_t, Hop>, Stall> by_unit;
  for (const TimelineRecord::Span& span : trace.spans) {
    if (span.kind != SpanKind::kWait) continue;
    Stall& stall = by_unit[{span.name, span.hop}];
    stall.unit = trace.names[span.name];
    stall.hop = span.hop;
    ++stall.times;
    stall.stood_still += span.end - span.begin;
  }
  std::vector<Stall> stalls;
  stalls.reserve(by_unit.size());
  for (auto& [key, stall] : by_unit) stalls.push_back(std::move(stall));
  std::ranges::stable_sort(stalls, std::greater{}, &Stall::stood_still);
  return stalls;
}

}  // namespace

TraceSummary summary_of(const TimelineRecord& trace) {
  TraceSummary summary;
  for (const TimelineRecord::Span& span : trace.spans) {
    take_span(span, trace.names[span.name], summary);
  }
  Stretches waited;
  for (TracedHop& hop : summary.hops) {
    hop.busy = merged(std::move(hop.busy));
    hop.under_way = merged(std::move(hop.under_way));
    hop.waited = merged(std::move(hop.waited));
    waited.insert(waited.end(), hop.waited.begin(), hop.waited.end());
  }
  waited = merged(std::move(waited));
  for (TracedHop& hop : summary.hops) hop.hidden = length_of(without(hop.under_way, waited));
  summary.stalls = stalls_of(trace);
  std::ranges::stable_sort(summary.phases, {}, &TracedPhase::begin);
  for (const TracedPhase& phase : summary.phases) {
    if (!phase.name.starts_with("step ")) continue;
    summary.steps.push_back(phase);
    summary.traced += phase.end - phase.begin;
  }
  return summary;
}

}  // namespace strata::tool
