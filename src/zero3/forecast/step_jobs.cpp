#include "zero3/forecast/step_jobs.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "strata/base/error.h"
#include "strata/base/units.h"

namespace strata::zero3::forecast {

namespace {

double speed_of(StepLane lane, const RankSpeeds& speeds) {
  switch (lane) {
    case StepLane::kDiskRead: return speeds.disk_read;
    case StepLane::kDiskWrite: return speeds.disk_write;
    case StepLane::kUpload: return speeds.upload;
    case StepLane::kDrain: return speeds.drain;
    case StepLane::kCompute: return speeds.compute;
    case StepLane::kUpdate: return speeds.update;
    case StepLane::kExchange: return speeds.exchange;
    case StepLane::kCheck: return speeds.check;
  }
  return 0;
}

/// Whether a lane's amount is what its hop moves: of an exchange that is what all ranks have, and
/// what is read to be checked, or read and written to add gradients, is not moved.
bool moves(Hop hop, StepLane lane) {
  if (lane == StepLane::kCompute || lane == StepLane::kExchange) return false;
  if (lane == StepLane::kCheck) return false;
  return lane != StepLane::kUpdate || hop == Hop::kStep;
}

}  // namespace

JobId StepJobs::start(JobQueue queue, Hop hop, StepLane lane, double amount,
                      std::initializer_list<JobId> after) {
  return start(queue, hop, lane, speed_of(lane, speeds_), amount, after);
}

JobId StepJobs::add_gradient(Hop hop, double amount, std::initializer_list<JobId> after) {
  const double speed = speeds_.add > 0 ? speeds_.add : speeds_.update;
  return start(JobQueue::kGradientAdd, hop, StepLane::kUpdate, speed, amount, after);
}

JobId StepJobs::start(JobQueue queue, Hop hop, StepLane lane, double speed, double amount,
                      std::initializer_list<JobId> after) {
  if (amount > 0 && !(speed > 0 && std::isfinite(speed))) {
    throw ConfigError("this step needs the speed of \"" + std::string(name_of(lane)) +
                      "\", and the machine's is not known; give one above 0");
  }
  const double seconds = amount > 0 ? amount / speed : 0;
  amounts_.lanes[static_cast<std::size_t>(lane)] += amount;
  amounts_.seconds[static_cast<std::size_t>(lane)] += seconds;
  if (moves(hop, lane)) count(hop, amount);
  return timeline_.add(queue, hop, seconds, after, program_);
}

void StepJobs::wait_for(Hop hop, JobId job) {
  if (job == kNoJob) return;
  program_ = timeline_.add(JobQueue::kProgram, hop, 0, {job});
}

std::uint64_t StepJobs::part_of(std::uint64_t whole, std::uint64_t grid) const {
  return round_up(std::max(ceil_div(whole, parts_max_), std::uint64_t{1}), grid);
}

double StepJobs::from_others(double bytes) const {
  const auto ranks = static_cast<double>(input_.world_size);
  return bytes * (ranks - 1) / ranks;
}

}  // namespace strata::zero3::forecast
