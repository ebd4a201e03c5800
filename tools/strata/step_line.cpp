#include "step_line.h"

#include <cmath>
#include <cstdio>

#include "strata/base/units.h"
#include "strata/tiering/budget.h"

namespace strata::tool {
namespace {

template <class... Values>
std::string format(const char* pattern, Values... values) {
  char text[128];
  std::snprintf(text, sizeof text, pattern, values...);
  return text;
}

std::string memory_text(const MemoryReading& memory) {
  std::string text;
  for (const tiering::Tier tier : tiering::kTiers) {
    text += std::string(name_of(tier)) + ": " +
            bytes_of_budget(memory.used.of(tier), memory.budget.of(tier)) + "  ";
  }
  return text;
}

}  // namespace

std::string step_line(const StepRecord& record, std::int64_t steps,
                      const Interval& since_last_line) {
  const int width = static_cast<int>(std::to_string(steps).size());
  std::string line = format("step: %*lld/%lld  loss: %.4f  lr: %.2e  grad_norm: %.4f  ", width,
                            static_cast<long long>(record.step), static_cast<long long>(steps),
                            record.loss, record.lr, record.grad_norm);
  if (record.overflow) line += format("overflow: skipped, scale %g  ", record.loss_scale);
  line += "tps: " +
          with_separators(static_cast<std::uint64_t>(since_last_line.tokens_per_second() + 0.5)) +
          "  " + memory_text(record.memory);
  line += "read: " + format_rate(since_last_line.read_bytes_per_second()) +
          "  written: " + format_rate(since_last_line.written_bytes_per_second());
  line += format("  waiting: %.0f%%  bound: %.0f%% (", 100 * since_last_line.disk_wait_share(),
                 100 * since_last_line.bound_share());
  line += std::string(since_last_line.binding_resource()) + ")";
  return line;
}

std::string evaluation_line(const EvaluationRecord& record) {
  return format("eval: step %lld  loss: %.4f  perplexity: %.2f  (%.1f s)",
                static_cast<long long>(record.step), record.loss, std::exp(record.loss),
                record.seconds);
}

std::string with_separators(std::uint64_t number) {
  std::string text = std::to_string(number);
  for (std::size_t i = text.size(); i > 3;) text.insert(i -= 3, ",");
  return text;
}

std::string bytes_of_budget(std::uint64_t bytes, std::uint64_t budget) {
  if (budget == tiering::Budget::kUnlimited) return format_bytes(bytes);
  return format_bytes(bytes) + " of " + format_bytes(budget);
}

std::string format_rate(double bytes_per_second) {
  if (bytes_per_second < 1e8) return format("%.1f MB/s", bytes_per_second * 1e-6);
  return format("%.2f GB/s", bytes_per_second * 1e-9);
}

}  // namespace strata::tool
