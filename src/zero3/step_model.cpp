#include "strata/zero3/step_model.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "strata/base/error.h"
#include "zero3/forecast/step_program.h"
#include "zero3/forecast/update_cycle.h"

namespace strata::zero3 {

namespace {

// The first step records the order of units, the second is the first to fetch ahead, and what is
// under way at the end of the third is what it is at the end of every later one.
constexpr int kStepsBefore = 3;
constexpr int kStepsMeasured = 2;
// An order that is faster by less is not worth gradients' waiting in memory for less.
constexpr double kWorthwhile = 1e-3;
// The share is looked for among quarters, then in halves of the distance to the next one.
constexpr double kFirstDistance = 0.25;
constexpr double kLastDistance = 1.0 / 64;
// Of more micro-batches than that those in the middle are alike.
constexpr std::uint64_t kMicroBatchesMost = 4;
constexpr std::uint64_t kMicroBatchesAlike = 2;

void check(const Plan& plan, const PlanInput& input, const StepWork& work) {
  if (plan.gradient_tier.size() != input.units.size()) {
    throw UsageError("the plan is of " + std::to_string(plan.gradient_tier.size()) +
                     " units, and its input has " + std::to_string(input.units.size()));
  }
  if (work.uses.empty() || work.micro_batches == 0) {
    throw ConfigError(
        "a step without units or micro-batches takes no time; name at least one each");
  }
  for (std::size_t i = 0; i < work.uses.size(); ++i) {
    const UnitUse& use = work.uses[i];
    const std::string where = "use " + std::to_string(i) + " of the step's work ";
    if (use.unit >= input.units.size()) {
      throw ConfigError(where + "is of unit " + std::to_string(use.unit) + ", and there are " +
                        std::to_string(input.units.size()));
    }
    for (const double flop : {use.forward, use.backward, use.recompute}) {
      if (flop >= 0 && std::isfinite(flop)) continue;
      throw ConfigError(where + "has " + std::to_string(flop) +
                        " FLOP; they are finite and not negative");
    }
  }
  std::size_t behind = 0;
  const std::size_t most = work.uses.size() - (work.goes_unit_by_unit() ? 1 : 0);
  for (const UseSpan& span : work.spans) {
    if (span.begin < behind || span.end <= span.begin || span.end > most) {
      throw ConfigError("a span of the step's work goes from use " + std::to_string(span.begin) +
                        " to " + std::to_string(span.end) + "; spans are in order, and of the " +
                        std::to_string(most) + " uses that can be run again");
    }
    behind = span.end;
  }
}

void check_share(double share, const std::string& what) {
  if (share >= 0 && share <= 1) return;
  throw ConfigError(what + " is " + std::to_string(share) + "; it is a share from 0 to 1");
}

/// Two lanes' seconds, that overlap so far.
double together(double a, double b, double overlap) {
  return std::max(a, b) + (1 - overlap) * std::min(a, b);
}

std::vector<BoundTerm> bound_of(const StepForecast& forecast, const RankSpeeds& speeds) {
  const auto seconds = [&](StepLane lane) { return forecast.at(lane).seconds; };
  std::vector<BoundTerm> bound = {
      {StepResource::kDisk, together(seconds(StepLane::kDiskRead), seconds(StepLane::kDiskWrite),
                                     std::max(0.0, speeds.disk_overlap))},
      {StepResource::kUpload, seconds(StepLane::kUpload)},
      {StepResource::kDrain, seconds(StepLane::kDrain)},
      {StepResource::kExchange, seconds(StepLane::kExchange)}};
  if (speeds.shares_cores) {
    bound.push_back({StepResource::kCompute,
                     together(seconds(StepLane::kCompute), seconds(StepLane::kUpdate), 0)});
  } else {
    bound.push_back({StepResource::kCompute, seconds(StepLane::kCompute)});
    bound.push_back({StepResource::kUpdate, seconds(StepLane::kUpdate)});
  }
  std::erase_if(bound, [](const BoundTerm& term) { return term.seconds == 0; });
  std::stable_sort(bound.begin(), bound.end(),
                   [](const BoundTerm& a, const BoundTerm& b) { return a.seconds > b.seconds; });
  return bound;
}

/// A forecast of the micro-batches that the work has, one after the other.
StepForecast forecast_all(const Plan& plan, const PlanInput& input, const StepWork& work,
                          const RankSpeeds& speeds, const StepOrder& order) {
  forecast::StepProgram program(plan, input, work, speeds, order);
  for (int step = 0; step < kStepsBefore; ++step) program.add_step();
  const forecast::StepAmounts before = program.jobs().amounts();
  for (int step = 0; step < kStepsMeasured; ++step) program.add_step();
  const forecast::StepAmounts& after = program.jobs().amounts();
  const std::vector<forecast::TimelineMark> marks = program.jobs().timeline().run(speeds);
  const forecast::TimelineMark& first = marks[kStepsBefore - 1];
  const forecast::TimelineMark& last = marks.back();

  StepForecast forecast;
  forecast.seconds = (last.seconds - first.seconds) / kStepsMeasured;
  for (std::size_t lane = 0; lane < kStepLaneCount; ++lane) {
    forecast.lanes[lane] = {(after.lanes[lane] - before.lanes[lane]) / kStepsMeasured,
                            (after.seconds[lane] - before.seconds[lane]) / kStepsMeasured};
  }
  for (std::size_t hop = 0; hop < kHopCount; ++hop) {
    forecast.hops[hop] = {.bytes = (after.hops[hop] - before.hops[hop]) / kStepsMeasured,
                          .busy = (last.busy[hop] - first.busy[hop]) / kStepsMeasured,
                          .hidden = (last.hidden[hop] - first.hidden[hop]) / kStepsMeasured};
  }
  // It is what the others hide behind.
  forecast.hops[static_cast<std::size_t>(Hop::kCompute)].hidden = 0;
  forecast.bound = bound_of(forecast, speeds);
  return forecast;
}

/// What `few` and `more` say of one more micro-batch each, gone on to `count` more than `more`.
StepForecast gone_on(const StepForecast& few, const StepForecast& more, double count) {
  const auto go_on = [&](double in_few, double in_more) {
    return in_more + (in_more - in_few) / static_cast<double>(kMicroBatchesAlike) * count;
  };
  StepForecast forecast;
  forecast.seconds = go_on(few.seconds, more.seconds);
  for (std::size_t i = 0; i < kStepLaneCount; ++i) {
    forecast.lanes[i] = {go_on(few.lanes[i].amount, more.lanes[i].amount),
                         go_on(few.lanes[i].seconds, more.lanes[i].seconds)};
  }
  for (std::size_t i = 0; i < kHopCount; ++i) {
    forecast.hops[i] = {.bytes = go_on(few.hops[i].bytes, more.hops[i].bytes),
                        .busy = go_on(few.hops[i].busy, more.hops[i].busy),
                        .hidden = go_on(few.hops[i].hidden, more.hops[i].hidden)};
  }
  return forecast;
}

/// A forecast without its cycle.
StepForecast forecast_lanes(const Plan& plan, const PlanInput& input, const StepWork& work,
                            const RankSpeeds& speeds, const StepOrder& order) {
  if (work.goes_unit_by_unit() || work.micro_batches <= kMicroBatchesMost) {
    return forecast_all(plan, input, work, speeds, order);
  }
  StepWork part = work;
  part.micro_batches = kMicroBatchesMost;
  const StepForecast more = forecast_all(plan, input, part, speeds, order);
  part.micro_batches -= kMicroBatchesAlike;
  const StepForecast few = forecast_all(plan, input, part, speeds, order);
  StepForecast forecast =
      gone_on(few, more, static_cast<double>(work.micro_batches - kMicroBatchesMost));
  forecast.bound = bound_of(forecast, speeds);
  return forecast;
}

}  // namespace

std::string_view name_of(StepLane lane) {
  constexpr std::array<std::string_view, kStepLaneCount> kNames = {
      "disk read", "disk write", "upload", "drain", "compute", "update", "exchange", "check"};
  return kNames[static_cast<std::size_t>(lane)];
}

std::string_view name_of(StepResource resource) {
  constexpr std::array<std::string_view, 6> kNames = {"disk",    "upload", "drain",
                                                      "compute", "update", "exchange"};
  return kNames[static_cast<std::size_t>(resource)];
}

StepForecast forecast_step(const Plan& plan, const PlanInput& input, const StepWork& work,
                           const RankSpeeds& speeds, const StepOrder& order) {
  check(plan, input, work);
  if (!(speeds.disk_overlap >= kDiskOverlapMin && speeds.disk_overlap <= 1)) {
    throw ConfigError("the overlap of a disk's reads and writes is " +
                      std::to_string(speeds.disk_overlap) + "; it is from -4 to 1");
  }
  if (!(speeds.disk_beside_compute > 0 && speeds.disk_beside_compute <= 1)) {
    throw ConfigError("a disk beside computation has " +
                      std::to_string(speeds.disk_beside_compute) +
                      " of its speeds; it is a share above 0, at most 1");
  }
  check_share(order.early_share, "what is updated under backward");
  StepForecast forecast = forecast_lanes(plan, input, work, speeds, order);
  forecast.cycle_seconds =
      forecast::update_cycle(plan, input, forecast::unit_shapes(plan, input), work, speeds, order,
                             forecast.at(StepLane::kUpdate).seconds);
  return forecast;
}

StepOrder shortest_overlap(const Plan& plan, const PlanInput& input, const StepWork& work,
                           const RankSpeeds& speeds, bool under_backward) {
  StepOrder best{.kind = StepOrder::Kind::kOverlapped};
  if (!under_backward) return best;
  double least = forecast_step(plan, input, work, speeds, best).seconds;
  const auto look_at = [&](double share) {
    if (share < 0 || share > 1) return;
    const StepOrder order{.kind = StepOrder::Kind::kOverlapped, .early_share = share};
    const double seconds = forecast_step(plan, input, work, speeds, order).seconds;
    if (seconds >= least * (1 - kWorthwhile)) return;
    least = seconds;
    best = order;
  };
  for (double share = kFirstDistance; share <= 1; share += kFirstDistance) look_at(share);
  for (double distance = kFirstDistance / 2; distance >= kLastDistance; distance /= 2) {
    const double middle = best.early_share;
    look_at(middle - distance);
    look_at(middle + distance);
  }
  return best;
}

}  // namespace strata::zero3
