#include "trace_steps.h"

#include <charconv>
#include <string>

#include "strata/base/error.h"

namespace strata::tool {
namespace {

constexpr std::string_view kKey = "steps=";
/// A recording is bounded, and a viewer slow with more.
constexpr std::int64_t kStepsMax = 100;

[[noreturn]] void refuse(std::string_view text, const std::string& why) {
  throw ConfigError("--trace: \"" + std::string(text) + "\": " + why +
                    "; write it like steps=3-5, or steps=7 for a single step (the first step is "
                    "1, and at most " +
                    std::to_string(kStepsMax) + " are traced)");
}

std::int64_t step_of(std::string_view number, std::string_view text) {
  std::int64_t step = 0;
  const char* const end = number.data() + number.size();
  const auto [after, code] = std::from_chars(number.data(), end, step);
  if (number.empty() || code != std::errc() || after != end || step < 1) {
    refuse(text, "\"" + std::string(number) + "\" is no number of a step");
  }
  return step;
}

}  // namespace

TraceSteps parse_trace_option(std::string_view text) {
  if (!text.starts_with(kKey)) refuse(text, "it does not begin with \"steps=\"");
  const std::string_view range = text.substr(kKey.size());
  const std::size_t dash = range.find('-');
  TraceSteps steps;
  steps.first = steps.last = step_of(range.substr(0, dash), text);
  if (dash != std::string_view::npos) steps.last = step_of(range.substr(dash + 1), text);
  if (steps.last < steps.first) refuse(text, "the last step is before the first");
  if (steps.last - steps.first >= kStepsMax) refuse(text, "too many steps");
  return steps;
}

void require_traced_steps(const TraceSteps& traced, std::int64_t steps) {
  if (traced.last <= steps) return;
  throw ConfigError("--trace names step " + std::to_string(traced.last) + " and the run has " +
                    std::to_string(steps) + "; name steps from 1 to " + std::to_string(steps));
}

}  // namespace strata::tool
