#include "report_tables.h"

#include <algorithm>
#include <array>
#include <utility>

#include "plural.h"
#include "report_numbers.h"
#include "step_line.h"
#include "svg_chart.h"

namespace strata::tool {
namespace {

using std::chrono::nanoseconds;

constexpr std::size_t kStallsMax = 12;

/// Collects rows of cells; the first column is text, the others are numbers.
class Table {
 public:
  explicit Table(const std::vector<std::string>& heads) { add("th", heads); }

  void row(const std::vector<std::string>& cells) {
    add("td", cells);
    ++rows_;
  }

  /// `note` stands below it.
  [[nodiscard]] std::string html(const std::string& note) const {
    if (rows_ == 0) return "";
    const std::string below =
        note.empty() ? "" : "<p class=\"quiet\">" + escape_markup(note) + "</p>\n";
    return "<div class=\"scroll\"><table>\n" + markup_ + "</table></div>\n" + below;
  }

 private:
  void add(const std::string& tag, const std::vector<std::string>& cells) {
    markup_ += "<tr>";
    for (std::size_t i = 0; i < cells.size(); ++i) {
      markup_ += "<" + tag + (i == 0 ? " class=\"text\">" : ">") + escape_markup(cells[i]) + "</" +
                 tag + ">";
    }
    markup_ += "</tr>\n";
  }

  std::string markup_;
  std::size_t rows_ = 0;
};

double seconds_of(nanoseconds time) { return std::chrono::duration<double>(time).count(); }

std::string rate_text(std::uint64_t bytes, double seconds) {
  return seconds > 0 && bytes > 0 ? fixed_text(static_cast<double>(bytes) / seconds * 1e-9, 3) : "";
}

std::string numbered(std::size_t hop) {
  return std::to_string(hop + 1) + " " + std::string(kHopNames[hop]);
}

}  // namespace

std::string hop_table(const RunRecord& run) {
  std::array<HopRecord, kHopCount> sums;
  double seconds = 0;
  for (const RunStep& step : run.steps) {
    if (!step.hops) continue;
    seconds += step.seconds;
    for (std::size_t hop = 0; hop < kHopCount; ++hop) {
      const HopRecord& one = (*step.hops)[hop];
      sums[hop].busy_seconds += one.busy_seconds;
      sums[hop].wait_seconds += one.wait_seconds;
      if (one.bytes) sums[hop].bytes = sums[hop].bytes.value_or(0) + *one.bytes;
    }
  }
  Table table({"hop", "bytes", "GB/s", "work s", "exposed s", "exposed share"});
  for (std::size_t hop = 0; hop < kHopCount && seconds > 0; ++hop) {
    const HopRecord& sum = sums[hop];
    table.row({numbered(hop), sum.bytes ? with_separators(*sum.bytes) : "",
               rate_text(sum.bytes.value_or(0), seconds), fixed_text(sum.busy_seconds, 3),
               fixed_text(sum.wait_seconds, 3), share_text(sum.wait_seconds / seconds)});
  }
  return table.html(
      "GB/s: bytes over the time of all steps. Work: a thread did the hop's own work. Exposed: the "
      "training thread stood still for it.");
}

std::string traced_hop_table(const TraceSummary& trace) {
  Table table({"hop", "bytes", "GB/s under way", "under way s", "hidden s", "work s", "exposed s"});
  for (std::size_t index = 0; index < kHopCount; ++index) {
    const TracedHop& hop = trace.hops[index];
    const double under_way = seconds_of(length_of(hop.under_way));
    if (hop.busy.empty() && hop.waited.empty() && hop.under_way.empty()) continue;
    const bool moves = !hop.under_way.empty();
    table.row({numbered(index), moves ? with_separators(hop.bytes) : "",
               rate_text(hop.bytes, under_way), moves ? fixed_text(under_way, 4) : "",
               moves ? fixed_text(seconds_of(hop.hidden), 4) : "",
               fixed_text(seconds_of(length_of(hop.busy)), 4),
               fixed_text(seconds_of(length_of(hop.waited)), 4)});
  }
  return table.html(
      "Under way: at least one of the hop's transfers was with the disk. Hidden: while no thread "
      "stood still for any hop. The traced steps took " +
      fixed_text(seconds_of(trace.traced), 4) + " s.");
}

std::string stall_table(const TraceSummary& trace) {
  Table table({"unit", "hop", "stood still s", "times", "share of the steps"});
  const double traced = seconds_of(trace.traced);
  for (std::size_t i = 0; i < std::min(trace.stalls.size(), kStallsMax); ++i) {
    const Stall& stall = trace.stalls[i];
    const double seconds = seconds_of(stall.stood_still);
    table.row({stall.unit.empty() ? "(of no single unit)" : stall.unit,
               std::string(name_of(stall.hop)), fixed_text(seconds, 4),
               with_separators(stall.times), traced > 0 ? share_text(seconds / traced) : ""});
  }
  return table.html(trace.stalls.size() > kStallsMax
                        ? "The longest " + std::to_string(kStallsMax) + " of " +
                              std::to_string(trace.stalls.size()) + "."
                        : "");
}

std::string step_table(const std::vector<RunStep>& steps, std::size_t count) {
  const bool has_ranks = std::ranges::any_of(
      steps, [](const RunStep& step) { return step.gathered_bytes + step.reduced_bytes > 0; });
  std::vector<std::string> heads = {
      "step",     "loss",       "learning rate", "seconds",
      "tokens/s", "read bytes", "written bytes", "waited for the disk"};
  if (has_ranks) heads.insert(heads.end(), {"weights from ranks", "gradients from ranks"});
  Table table(heads);
  for (const RunStep& step : steps) {
    std::vector<std::string> row = {std::to_string(step.step),
                                    fixed_text(step.loss, 4),
                                    fixed_text(step.learning_rate, 8),
                                    fixed_text(step.seconds, 4),
                                    fixed_text(step.tokens_per_second, 1),
                                    with_separators(step.read_bytes),
                                    with_separators(step.written_bytes),
                                    share_text(step.wait_share)};
    if (has_ranks) {
      row.push_back(with_separators(step.gathered_bytes));
      row.push_back(with_separators(step.reduced_bytes));
    }
    table.row(row);
  }
  const std::string summary =
      steps.size() == count
          ? counted(count, "step")
          : std::to_string(steps.size()) + " of " + counted(count, "step") + ", evenly spread";
  return "<details><summary>" + summary + "</summary>\n" + table.html("") + "</details>\n";
}

}  // namespace strata::tool
