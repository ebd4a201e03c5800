#include "formats/trace_lanes.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <tuple>

namespace strata::formats {
namespace {

using Span = TimelineRecord::Span;

/// What spans have in common that may share a lane; the order of the lanes.
using LaneKey = std::tuple<int, SpanKind, std::uint32_t>;  // hop, kind, slot

LaneKey key_of(const Span& span) {
  if (span.kind == SpanKind::kPhase) return {0, span.kind, 0};
  const std::uint32_t slot = span.kind == SpanKind::kTransfer ? span.slot : 0;
  return {static_cast<int>(span.hop) + 1, span.kind, slot};
}

std::string name_of_lane(const LaneKey& key, std::size_t copy) {
  const auto [hop, kind, slot] = key;
  std::string name = "run";
  if (kind != SpanKind::kPhase) {
    name = std::to_string(hop) + " " + std::string(name_of(static_cast<Hop>(hop - 1)));
  }
  if (kind == SpanKind::kWait) name += ": waiting";
  if (kind == SpanKind::kTransfer) name += ": slot " + std::to_string(slot);
  if (copy > 0) name += " (" + std::to_string(copy + 1) + ")";
  return name;
}

/// The ends of a lane's spans that are not over yet, the innermost last.
using OpenEnds = std::vector<Time>;

bool takes(OpenEnds& open, const Span& span) {
  while (!open.empty() && open.back() <= span.begin) open.pop_back();
  if (!open.empty() && open.back() < span.end) return false;
  open.push_back(span.end);
  return true;
}

}  // namespace

std::string_view name_of(SpanKind kind) {
  switch (kind) {
    case SpanKind::kPhase: return "phase";
    case SpanKind::kBusy: return "busy";
    case SpanKind::kWait: return "wait";
    case SpanKind::kTransfer: return "transfer";
  }
  return "";
}

TraceLanes deal_lanes(const TimelineRecord& record) {
  std::vector<std::uint32_t> order(record.spans.size());
  std::iota(order.begin(), order.end(), 0u);
  // Outer spans before those inside of them.
  std::ranges::sort(order, [&](std::uint32_t a, std::uint32_t b) {
    const Span &left = record.spans[a], &right = record.spans[b];
    return std::tuple(left.begin, right.end, a) < std::tuple(right.begin, left.end, b);
  });

  std::map<LaneKey, std::vector<OpenEnds>> open;
  std::vector<std::size_t> copy_of(record.spans.size());
  for (const std::uint32_t index : order) {
    std::vector<OpenEnds>& copies = open[key_of(record.spans[index])];
    std::size_t copy = 0;
    while (copy < copies.size() && !takes(copies[copy], record.spans[index])) ++copy;
    if (copy == copies.size()) copies.push_back({record.spans[index].end});
    copy_of[index] = copy;
  }

  TraceLanes lanes;
  std::map<LaneKey, std::uint32_t> first_lane;
  for (const auto& [key, copies] : open) {
    first_lane[key] = static_cast<std::uint32_t>(lanes.names.size());
    for (std::size_t copy = 0; copy < copies.size(); ++copy) {
      lanes.names.push_back(name_of_lane(key, copy));
    }
  }
  for (std::size_t i = 0; i < record.spans.size(); ++i) {
    lanes.of_span.push_back(first_lane[key_of(record.spans[i])] +
                            static_cast<std::uint32_t>(copy_of[i]));
  }
  return lanes;
}

}  // namespace strata::formats
