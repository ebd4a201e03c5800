#include "strata/aio/stripe.h"

#include <algorithm>
#include <numeric>

namespace strata::aio {
namespace {

/// The bits of a number in the opposite order, as a fraction: 0, 1/2, 1/4, 3/4, 1/8, 5/8, ... (van
/// der Corput). Any run of consecutive numbers lies evenly over [0, 1).
double mirrored_fraction(std::uint64_t number) {
  double fraction = 0;
  for (double bit = 0.5; number != 0; number >>= 1, bit /= 2) {
    if ((number & 1) != 0) fraction += bit;
  }
  return fraction;
}

}  // namespace

void shares_of(std::span<const PathBandwidth> paths, std::span<double> shares) noexcept {
  const bool known = std::ranges::all_of(
      paths, [](const PathBandwidth& bandwidth) { return bandwidth.combined() > 0; });
  double sum = 0;
  for (std::size_t i = 0; i < paths.size(); ++i) {
    shares[i] = known ? paths[i].combined() : 1;
    sum += shares[i];
  }
  for (double& share : shares) share = std::max(share / sum, kShareMin);
  sum = std::accumulate(shares.begin(), shares.end(), 0.0);
  for (double& share : shares) share /= sum;
}

void limit_shares(std::span<double> shares, std::span<const double> ceilings) noexcept {
  std::uint64_t limited = 0;
  const auto is_limited = [&](std::size_t i) { return ((limited >> i) & 1) != 0; };
  // Each round limits at least one more, or is the last.
  for (bool changed = true; changed;) {
    changed = false;
    double room = 1, asked = 0;
    for (std::size_t i = 0; i < shares.size(); ++i) {
      if (is_limited(i)) {
        room -= ceilings[i];
      } else {
        asked += shares[i];
      }
    }
    for (std::size_t i = 0; i < shares.size(); ++i) {
      if (is_limited(i)) continue;
      shares[i] *= std::max(room, 0.0) / asked;
      if (shares[i] <= ceilings[i]) continue;
      limited |= 1ull << i;
      changed = true;
    }
  }
  for (std::size_t i = 0; i < shares.size(); ++i) {
    if (is_limited(i)) shares[i] = ceilings[i];
  }
}

std::size_t path_at(std::uint64_t position, std::span<const double> shares) noexcept {
  const double fraction = mirrored_fraction(position);
  double end = 0;
  for (std::size_t i = 0; i + 1 < shares.size(); ++i) {
    end += shares[i];
    if (fraction < end) return i;
  }
  return shares.size() - 1;
}

}  // namespace strata::aio
