#include "strata/zero3/unit_sequence.h"

#include <cstddef>
#include <span>
#include <utility>

#include "strata/base/error.h"
#include "strata/zero3/shared_input.h"
#include "zero3/span.h"

namespace strata {

using Tensors = UnitSequence::Tensors;

namespace {

using Parts = std::span<const UnitSequence::Part>;

/// Runs parts side by side.
Tensors run_beside(Parts parts, const Tensors& x, const Tensors& micro_batch) {
  if (parts.size() == 1) return parts.front().run(x, micro_batch);
  std::vector<SharedInput> shared(x.begin(), x.end());
  Tensors outputs;
  for (const UnitSequence::Part& part : parts) {
    Tensors taken;
    for (const SharedInput& each : shared) taken.push_back(each.take());
    Tensors own = part.run(taken, micro_batch);
    outputs.insert(outputs.end(), own.begin(), own.end());
  }
  return outputs;
}

Tensors run_parts(Parts parts, Tensors x, const Tensors& micro_batch) {
  while (!parts.empty()) {
    std::size_t count = 1;
    while (count < parts.size() && parts[count].is_beside) ++count;
    x = run_beside(parts.first(count), x, micro_batch);
    parts = parts.subspan(count);
  }
  return x;
}

}  // namespace

void UnitSequence::append_span(const UnitSequence& parts, zero3::UnitHandle unit,
                               Recompute recompute) {
  if (parts.parts_.empty() || !parts.spans_.empty() || parts.parts_.back().is_beside) {
    throw UsageError(
        "a span of a sequence of units has parts, no spans of its own, and a last part that stands "
        "alone; add_function() one that puts together what stands side by side");
  }
  const std::size_t begin = parts_.size();
  parts_.insert(parts_.end(), parts.parts_.begin(), parts.parts_.end());
  spans_.push_back({std::move(unit), recompute, begin, parts_.size()});
}

Tensors UnitSequence::run(const Tensors& x, const Tensors& micro_batch) const {
  Tensors now = x;
  std::size_t done = 0;
  const auto run_until = [&](std::size_t end) {
    now = run_parts(Parts(parts_).subspan(done, end - done), std::move(now), micro_batch);
    done = end;
  };
  for (const Span& span : spans_) {
    run_until(span.begin);
    const Parts here = Parts(parts_).subspan(span.begin, span.end - span.begin);
    auto body = [parts = std::vector<Part>(here.begin(), here.end()), micro_batch](
                    const Tensors& taken) { return run_parts(parts, taken, micro_batch); };
    now = zero3::enter_span(span.unit, std::move(body), std::move(now), span.recompute);
    done = span.end;
  }
  run_until(parts_.size());
  return now;
}

}  // namespace strata
