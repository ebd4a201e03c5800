#include "summary.h"

#include <sys/resource.h>

#include <cstdio>
#include <nlohmann/json.hpp>
#include <ostream>

#include "plural.h"
#include "progress.h"
#include "step_line.h"
#include "strata/base/units.h"
#include "strata/tiering/budget.h"

namespace strata::tool {
namespace {

void row(std::ostream& out, const std::string& name, const std::string& value) {
  char padded[32];
  std::snprintf(padded, sizeof padded, "  %-16s", name.c_str());
  out << padded << value << '\n';
}

std::string from_to(double before, double after) {
  char text[64];
  std::snprintf(text, sizeof text, "%.4f -> %.4f", before, after);
  return text;
}

std::string moved(std::uint64_t bytes, double bytes_per_second) {
  return format_bytes(bytes) + " at " + format_rate(bytes_per_second);
}

std::string percent(double share) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f %%", 100 * share);
  return text;
}

}  // namespace

void print(std::ostream& out, const Summary& summary) {
  const Interval& training = summary.training;
  out << "\nSummary\n";
  row(out, "model", summary.model + ", " + with_separators(summary.parameters) + " parameters");
  row(out, "trained",
      with_separators(static_cast<std::uint64_t>(summary.steps)) + " " +
          plural(summary.steps, "step") + ", " + with_separators(training.tokens) + " " +
          plural(training.tokens, "token") + " in " + format_duration(training.seconds));
  if (summary.skipped_steps > 0) {
    row(out, "skipped",
        with_separators(static_cast<std::uint64_t>(summary.skipped_steps)) +
            " of these steps changed nothing, as a gradient was not finite");
  }
  if (summary.eval_loss_before && summary.eval_loss_after) {
    row(out, "held-out loss",
        from_to(*summary.eval_loss_before, *summary.eval_loss_after) +
            "  (before and after training)");
  }
  row(out, "training loss",
      from_to(summary.train_loss_first, summary.train_loss_last) +
          "  (first step, mean of the last tenth)");
  row(out, "speed",
      with_separators(static_cast<std::uint64_t>(training.tokens_per_second() + 0.5)) +
          " tokens/s");
  for (const tiering::Tier tier : tiering::kTiers) {
    row(out, "peak " + std::string(name_of(tier)),
        bytes_of_budget(summary.memory.peak.of(tier), summary.memory.budget.of(tier)));
  }
  row(out, "peak process", format_bytes(summary.rss_peak_bytes) + " resident, LibTorch included");
  row(out, "read", moved(training.read_bytes, training.read_bytes_per_second()));
  row(out, "written", moved(training.written_bytes, training.written_bytes_per_second()));
  if (training.gathered_bytes + training.reduced_bytes > 0) {
    row(out, "from other ranks",
        format_bytes(training.gathered_bytes) + " of weights, " +
            format_bytes(training.reduced_bytes) + " of gradients, to each rank");
  }
  row(out, "waited for disk", percent(training.disk_wait_share()) + " of the training time");
  row(out, "output", summary.output);
  out << std::flush;
}

std::string to_json(const Summary& summary) {
  nlohmann::ordered_json json;
  json["model"] = summary.model;
  json["parameters"] = summary.parameters;
  json["global_step"] = summary.steps;
  json["skipped_steps"] = summary.skipped_steps;
  if (summary.eval_loss_before) json["eval_loss_before"] = *summary.eval_loss_before;
  if (summary.eval_loss_after) json["eval_loss"] = *summary.eval_loss_after;
  json["train_loss_first"] = summary.train_loss_first;
  json["train_loss"] = summary.train_loss_last;
  json["train_runtime"] = summary.training.seconds;
  json["train_tokens"] = summary.training.tokens;
  json["tokens_per_second"] = summary.training.tokens_per_second();
  for (const tiering::Tier tier : tiering::kTiers) {
    const std::string name = std::string(name_of(tier)) + "_bytes";
    json[name + "_peak"] = summary.memory.peak.of(tier);
    const std::uint64_t budget = summary.memory.budget.of(tier);
    if (budget != tiering::Budget::kUnlimited) json[name + "_budget"] = budget;
  }
  json["rss_bytes_peak"] = summary.rss_peak_bytes;
  json["read_bytes"] = summary.training.read_bytes;
  json["written_bytes"] = summary.training.written_bytes;
  json["gathered_bytes"] = summary.training.gathered_bytes;
  json["reduced_bytes"] = summary.training.reduced_bytes;
  json["wait_share"] = summary.training.disk_wait_share();
  return json.dump(2) + "\n";
}

std::uint64_t rss_peak_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;  // Linux counts KiB
}

}  // namespace strata::tool
