#include "zero3/ranks/ranks.h"

#include <algorithm>
#include <functional>

#include "strata/base/error.h"

namespace strata::zero3 {
namespace {

/// Throws UsageError unless `bytes` can be shared out evenly.
void check_even(CollectiveKind kind, std::size_t bytes, const Ranks& ranks) {
  if (bytes % static_cast<std::size_t>(ranks.size()) == 0) return;
  throw UsageError("rank " + std::to_string(ranks.rank()) + ": " + std::string(name_of(kind)) +
                   " of " + std::to_string(bytes) + " bytes cannot be shared out to " +
                   std::to_string(ranks.size()) + " ranks evenly; pad it");
}

bool overlap(std::span<const std::byte> a, std::span<const std::byte> b) {
  const std::less<> less;
  return !a.empty() && !b.empty() && less(a.data(), b.data() + b.size()) &&
         less(b.data(), a.data() + a.size());
}

}  // namespace

std::string describe(const CollectiveCall& call, int world_size) {
  const auto ranks = static_cast<std::size_t>(world_size);
  if (call.kind == CollectiveKind::kBarrier) return std::string(name_of(call.kind));
  return std::string(name_of(call.kind)) + " of " + std::to_string(ranks) + " x " +
         std::to_string(call.receive.size() / ranks) + " bytes";
}

Collective Ranks::begin_all_gather(std::span<std::byte> buffer) {
  check_even(CollectiveKind::kAllGather, buffer.size(), *this);
  const std::size_t shard = buffer.size() / static_cast<std::size_t>(size());
  return start({.kind = CollectiveKind::kAllGather,
                .send = buffer.subspan(shard * static_cast<std::size_t>(rank()), shard),
                .receive = buffer});
}

Collective Ranks::begin_all_to_all(std::span<const std::byte> send, std::span<std::byte> receive) {
  check_even(CollectiveKind::kAllToAll, send.size(), *this);
  if (send.size() != receive.size()) {
    throw UsageError("rank " + std::to_string(rank()) + ": all_to_all sends " +
                     std::to_string(send.size()) + " bytes and has room to receive " +
                     std::to_string(receive.size()) + "; they must be the same");
  }
  const bool in_place = size() == 1 && send.data() == receive.data();
  if (!in_place && overlap(send, receive)) {
    throw UsageError("rank " + std::to_string(rank()) +
                     ": all_to_all receives into the memory that it sends; give it another");
  }
  return start({.kind = CollectiveKind::kAllToAll, .send = send, .receive = receive});
}

Collective Ranks::start(const CollectiveCall& call) {
  Collective collective = begin(call);
  const auto ranks = static_cast<std::size_t>(size());
  received_[static_cast<std::size_t>(call.kind)] += call.receive.size() / ranks * (ranks - 1);
  return collective;
}

void Ranks::sum(std::span<double> values) {
  const std::size_t count = values.size();
  std::vector<double> of_all(count * static_cast<std::size_t>(size()));
  std::ranges::copy(values, of_all.begin() + static_cast<std::ptrdiff_t>(count) * rank());
  begin_all_gather(std::as_writable_bytes(std::span(of_all))).wait();
  for (std::size_t i = 0; i < count; ++i) {
    values[i] = of_all[i];
    for (std::size_t at = i + count; at < of_all.size(); at += count) values[i] += of_all[at];
  }
}

void Ranks::barrier() {
  start({.kind = CollectiveKind::kBarrier, .send = {}, .receive = {}}).wait();
}

}  // namespace strata::zero3
