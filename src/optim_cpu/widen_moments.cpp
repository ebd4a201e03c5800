#include "strata/optim_cpu/widen_moments.h"

#include <algorithm>

#include "optim_cpu/moment_reference.h"
#include "strata/base/error.h"
#include "strata/base/units.h"

namespace strata::optim_cpu {

// This runs when states leave for other programs, not in a step: the reference is fast enough.
void widen_moments(MomentFormat format, StateKind kind, const void* moments,
                   std::span<float> values) {
  STRATA_CHECK(kind == StateKind::kM || kind == StateKind::kV, std::string(name_of(kind)));
  const bool is_m = kind == StateKind::kM;
  UpdateSpan span{};
  span.format.moments = format;
  span.format.has_m = is_m;
  span.format.has_v = !is_m;
  span.count = round_up(values.size(), kBlock);
  (is_m ? span.m : span.v) = const_cast<void*>(moments);  // a span is written to as a rule
  MomentValues m{};
  MomentValues v{};
  for (std::size_t begin = 0; begin < values.size(); begin += kBlock) {
    const std::size_t count = std::min(kBlock, values.size() - begin);
    read_moments(span, begin, format == MomentFormat::kInt8 ? kBlock : count, m, v);
    const MomentValues& read = is_m ? m : v;
    std::copy_n(read.begin(), count, values.begin() + static_cast<std::ptrdiff_t>(begin));
  }
}

}  // namespace strata::optim_cpu
