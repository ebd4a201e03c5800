#include <algorithm>

#include "strata/aio/stripe.h"
#include "strata/base/error.h"

namespace strata::aio {
namespace {

PathTotals operator-(const PathTotals& later, const PathTotals& earlier) {
  PathTotals difference;
  for (std::size_t i = 0; i < difference.bytes.size(); ++i) {
    difference.bytes[i] = later.bytes[i] - earlier.bytes[i];
    difference.busy[i] = later.busy[i] - earlier.busy[i];
  }
  return difference;
}

}  // namespace

StripeBalancer::StripeBalancer(std::span<const PathBandwidth> start)
    : paths_(start.size()),
      latest_(start.begin(), start.end()),
      estimates_(latest_),
      shares_(start.size()),
      wanted_(start.size()) {
  shares_of(estimates_, shares_);
}

void StripeBalancer::reset(std::span<const PathBandwidth> bandwidths) {
  STRATA_CHECK(bandwidths.size() == paths_.size(), std::to_string(bandwidths.size()));
  std::ranges::copy(bandwidths, latest_.begin());
  std::ranges::copy(bandwidths, estimates_.begin());
  shares_of(estimates_, shares_);
  for (Path& path : paths_) {
    path = {.sampled = path.seen, .seen = path.seen};
  }
}

bool StripeBalancer::observe(std::span<const PathTotals> totals) {
  STRATA_CHECK(totals.size() == paths_.size(), std::to_string(totals.size()));
  for (std::size_t i = 0; i < paths_.size(); ++i) {
    if (take_samples(i, totals[i])) paths_[i].has_sample = true;
    paths_[i].seen = totals[i];
  }
  if (!std::ranges::all_of(paths_, &Path::has_sample)) return false;
  for (Path& path : paths_) path.has_sample = false;
  if (!judge_round()) return false;
  shares_of(estimates_, shares_);
  for (Path& path : paths_) path.rounds_above = path.rounds_below = 0;
  return true;
}

bool StripeBalancer::take_samples(std::size_t path, const PathTotals& totals) {
  PathTotals& sampled = paths_[path].sampled;
  const PathTotals since = totals - sampled;
  const PathBandwidth now = bandwidth_of(since);
  bool taken = false;
  const auto take = [&](OpKind kind, double rate, double& latest, double& estimate) {
    if (since.busy_of(kind) < kSampleBusy) return;
    const std::size_t i = PathTotals::index(kind);
    sampled.bytes[i] = totals.bytes[i];
    sampled.busy[i] = totals.busy[i];
    latest = std::max(rate, 1.0);  // 0 means unknown
    estimate = estimate > 0 ? estimate + kWeight * (latest - estimate) : latest;
    taken = true;
  };
  take(OpKind::kRead, now.read, latest_[path].read, estimates_[path].read);
  take(OpKind::kWrite, now.write, latest_[path].write, estimates_[path].write);
  return taken;
}

bool StripeBalancer::judge_round() {
  shares_of(latest_, wanted_);
  bool lasting = false;
  for (std::size_t i = 0; i < paths_.size(); ++i) {
    Path& path = paths_[i];
    path.rounds_above = wanted_[i] >= shares_[i] * (1 + kDeviation) ? path.rounds_above + 1 : 0;
    path.rounds_below = wanted_[i] <= shares_[i] * (1 - kDeviation) ? path.rounds_below + 1 : 0;
    lasting = lasting || std::max(path.rounds_above, path.rounds_below) >= kRounds;
  }
  return lasting;
}

}  // namespace strata::aio
