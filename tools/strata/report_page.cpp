#include "report_page.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <utility>
#include <vector>

#include "html_page.h"
#include "overlap_picture.h"
#include "plural.h"
#include "report_numbers.h"
#include "report_tables.h"
#include "step_line.h"
#include "strata/base/units.h"
#include "svg_chart.h"
#include "trace_summary.h"

namespace strata::tool {
namespace {

/// The most points of a line; a longer run is drawn, and listed, in as many of its steps.
constexpr std::size_t kPointsMax = 500;

std::vector<RunStep> thinned(const std::vector<RunStep>& steps) {
  if (steps.size() <= kPointsMax) return steps;
  std::vector<RunStep> some;
  for (std::size_t i = 0; i < kPointsMax; ++i) {
    some.push_back(steps[i * (steps.size() - 1) / (kPointsMax - 1)]);
  }
  return some;
}

/// One line of a chart over the steps; `value` gives a step's height and `text` what it says.
template <class Value, class Text>
Series series_of(const std::string& name, const std::vector<RunStep>& steps, Value value,
                 Text text) {
  Series series{name, {}};
  for (const RunStep& step : steps) {
    series.points.push_back({static_cast<double>(step.step), value(step),
                             "step " + std::to_string(step.step) + ": " + text(step)});
  }
  return series;
}

Chart chart(const std::string& title, const std::string& unit, std::vector<Series> series) {
  return {.title = title,
          .x = {.label = "step"},
          .y = {.label = unit},
          .series = std::move(series),
          .markers = false};
}

std::string side_by_side(const std::vector<Chart>& charts) {
  std::string html;
  for (const Chart& each : charts) html += "<div>" + render_svg(each) + "</div>\n";
  return html.empty() ? "" : "<div class=\"charts\">\n" + html + "</div>\n";
}

Chart loss_chart(const RunRecord& run, const std::vector<RunStep>& steps) {
  std::vector<Series> series{series_of(
      "training", steps, [](const RunStep& step) { return step.loss; },
      [](const RunStep& step) { return fixed_text(step.loss, 4); })};
  if (!run.evaluations.empty()) {
    Series held_out{"held-out", {}};
    for (const RunEvaluation& evaluation : run.evaluations) {
      held_out.points.push_back({static_cast<double>(evaluation.step), evaluation.loss,
                                 "after step " + std::to_string(evaluation.step) + ": " +
                                     fixed_text(evaluation.loss, 4)});
    }
    series.push_back(std::move(held_out));
  }
  return chart("Loss", "loss", std::move(series));
}

Chart speed_chart(const std::vector<RunStep>& steps) {
  return chart("Speed", "tokens/s",
               {series_of(
                   "tokens/s", steps, [](const RunStep& step) { return step.tokens_per_second; },
                   [](const RunStep& step) { return fixed_text(step.tokens_per_second, 1); })});
}

std::vector<Chart> tier_charts(const std::vector<RunStep>& steps) {
  std::vector<Chart> charts;
  for (const tiering::Tier tier : tiering::kTiers) {
    const std::string name(name_of(tier));
    charts.push_back(chart(
        "Held in the " + name + " tier", "MiB",
        {series_of(
            name, steps,
            [&](const RunStep& step) { return static_cast<double>(step.held.of(tier)) / 1_MiB; },
            [&](const RunStep& step) { return with_separators(step.held.of(tier)) + " bytes"; })}));
  }
  const auto bytes = [](std::uint64_t count) { return with_separators(count) + " bytes"; };
  charts.push_back(
      chart("Moved in a step, nvme tier", "MB",
            {series_of(
                 "read", steps,
                 [](const RunStep& step) { return static_cast<double>(step.read_bytes) / 1e6; },
                 [&](const RunStep& step) { return bytes(step.read_bytes); }),
             series_of(
                 "written", steps,
                 [](const RunStep& step) { return static_cast<double>(step.written_bytes) / 1e6; },
                 [&](const RunStep& step) { return bytes(step.written_bytes); })}));
  return charts;
}

/// Mean of the steps that have a bound; nullopt where none has.
std::optional<double> bound_share_of(const RunRecord& run) {
  double sum = 0;
  int count = 0;
  for (const RunStep& step : run.steps) {
    if (!step.bound_share || !std::isfinite(*step.bound_share)) continue;
    sum += *step.bound_share;
    ++count;
  }
  return count > 0 ? std::optional(sum / count) : std::nullopt;
}

/// The resource that most steps name; empty where none does.
std::string binding_resource(const RunRecord& run) {
  std::map<std::string, int> votes;
  for (const RunStep& step : run.steps) {
    if (!step.binds.empty()) ++votes[step.binds];
  }
  const auto most =
      std::ranges::max_element(votes, {}, [](const auto& vote) { return vote.second; });
  return most == votes.end() ? "" : most->first;
}

std::vector<std::pair<std::string, std::string>> figures_of(const RunRecord& run) {
  double seconds = 0, tokens = 0, stood_still = 0;
  for (const RunStep& step : run.steps) {
    seconds += step.seconds;
    tokens += step.seconds * step.tokens_per_second;
    stood_still += step.seconds * step.wait_share;
  }
  std::vector<std::pair<std::string, std::string>> figures{
      {"steps", with_separators(run.steps.size())},
      {"training loss",
       fixed_text(run.steps.front().loss, 4) + " → " + fixed_text(run.steps.back().loss, 4)}};
  if (!run.evaluations.empty()) {
    figures.emplace_back("held-out loss", fixed_text(run.evaluations.front().loss, 4) + " → " +
                                              fixed_text(run.evaluations.back().loss, 4));
  }
  const double rate = seconds > 0 ? tokens / seconds : 0;
  figures.emplace_back("tokens/s", fixed_text(rate, 1));
  figures.emplace_back("waited for the disk", share_text(seconds > 0 ? stood_still / seconds : 0));
  if (const std::optional<double> share = bound_share_of(run)) {
    figures.emplace_back("of the bound's speed", share_text(*share));
  }
  if (const std::string resource = binding_resource(run); !resource.empty()) {
    figures.emplace_back("what binds", resource);
  }
  return figures;
}

std::vector<Chart> bound_charts(const std::vector<RunStep>& steps) {
  const bool has_bound =
      std::ranges::any_of(steps, [](const RunStep& step) { return step.bound_share.has_value(); });
  if (!has_bound) return {};
  const auto share = [](const RunStep& step) { return step.bound_share.value_or(std::nan("")); };
  return {chart("Least time of a step over its time", "share",
                {series_of("share of the bound", steps, share,
                           [&](const RunStep& step) { return share_text(share(step)); })})};
}

void add_trace(HtmlPage& page, const TimelineRecord& trace) {
  const TraceSummary summary = summary_of(trace);
  std::string picture;
  if (!summary.steps.empty()) {
    picture = overlap_picture(summary, summary.steps[summary.steps.size() / 2]);
  }
  page.sections.emplace_back("A traced step", picture);
  page.sections.emplace_back("Hops in the traced steps", traced_hop_table(summary));
  page.sections.emplace_back("Longest stalls in the traced steps", stall_table(summary));
  if (trace.dropped > 0) {
    page.sections.emplace_back(
        "What the trace lacks",
        "<p>" + with_separators(trace.dropped) + " " + plural(trace.dropped, "span") +
            " of the last traced steps, for which its memory had no room.</p>\n");
  }
}

}  // namespace

std::string report_page(const RunRecord& run, const TimelineRecord* trace) {
  const std::vector<RunStep> steps = thinned(run.steps);
  HtmlPage page{.title = run.name,
                .summary = "A run of strata finetune.",
                .figures = figures_of(run),
                .sections = {}};
  std::vector<Chart> charts{loss_chart(run, steps), speed_chart(steps)};
  for (Chart& each : bound_charts(steps)) charts.push_back(std::move(each));
  page.sections.emplace_back("Loss and speed", side_by_side(charts));
  page.sections.emplace_back("Tiers", side_by_side(tier_charts(steps)));
  page.sections.emplace_back("Hops", hop_table(run));
  if (trace != nullptr) add_trace(page, *trace);
  page.sections.emplace_back("Steps", step_table(steps, run.steps.size()));
  return html_page(page);
}

}  // namespace strata::tool
