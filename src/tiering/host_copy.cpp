#include "tiering/host_copy.h"

#include <cstring>
#include <functional>
#include <string>

#include "strata/base/error.h"

namespace strata::tiering {
namespace {

bool overlap(std::span<const std::byte> a, std::span<const std::byte> b) {
  constexpr std::less<const std::byte*> kBefore;  // a total order, also between unrelated buffers
  return kBefore(a.data(), b.data() + b.size()) && kBefore(b.data(), a.data() + a.size());
}

}  // namespace

void copy_on_host(Hop hop, std::span<const std::byte> from, std::span<std::byte> to,
                  Counters& counters) {
  if (from.size() != to.size() || overlap(from, to)) {
    throw UsageError(std::string(name_of(hop)) + " of " + std::to_string(from.size()) +
                     " bytes into " + std::to_string(to.size()) +
                     ": the two must have the same length and not overlap");
  }
  if (from.empty()) return;
  const ScopedTimer busy(counters, hop, ScopedTimer::Kind::kBusy);
  std::memcpy(to.data(), from.data(), from.size());
  counters.add_moved(hop, from.size());
}

}  // namespace strata::tiering
