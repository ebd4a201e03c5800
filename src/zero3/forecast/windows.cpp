#include "zero3/forecast/windows.h"

#include <algorithm>

#include "strata/base/units.h"

namespace strata::zero3::forecast {

namespace {

// A pipeline of vectors that are updated where they rest has no windows, and goes over them in
// pieces for the forecast alone.
constexpr std::uint64_t kElementsInPlace = std::uint64_t{1} << 20;

constexpr std::uint64_t kPlacesMin = 3;

}  // namespace

Windows::Windows(const Plan& plan, const PlanInput& input, StepJobs& jobs)
    : plan_(plan),
      input_(input),
      jobs_(jobs),
      places_(std::max<std::size_t>(1, plan.windows), kNoJob) {}

JobId Windows::update(const UnitShape& unit, const VectorShape& vector, JobId gradient) {
  const StateBytes states = state_bytes_of(input_, unit, vector.format);
  const auto gradient_bytes =
      static_cast<double>(state_bytes(vector.format, StateKind::kGradient, input_.accumulate_fp32));
  const double read = states.of_disk + (unit.gradient_on_nvme ? gradient_bytes : 0);
  const bool in_place = read == 0 && states.of_device == 0;
  const std::uint64_t grid =
      in_place || plan_.window_elements == 0 ? kElementsInPlace : plan_.window_elements;
  const std::uint64_t part = jobs_.part_of(vector.shard_elements, grid);

  // As much is under way as windows hold, and with parts larger than that three: one that is read,
  // one that is updated, one that is written.
  const std::uint64_t under_way =
      in_place ? places_.size()
               : std::clamp<std::uint64_t>(plan_.windows * grid / part,
                                           std::min<std::uint64_t>(kPlacesMin, places_.size()),
                                           places_.size());
  JobId ended = kNoJob;
  for (std::uint64_t begin = 0; begin < vector.shard_elements; begin += part) {
    const auto elements = static_cast<double>(std::min(part, vector.shard_elements - begin));
    const JobId place = places_[places_.size() - under_way];
    places_.pop_front();
    JobId fetched = kNoJob;
    JobId drained = kNoJob;
    if (read > 0) {
      fetched = jobs_.start(JobQueue::kWindowRead, Hop::kFetch, StepLane::kDiskRead,
                            elements * read, {place, unit.gradient_on_nvme ? gradient : kNoJob});
    }
    if (states.of_device > 0) {
      drained = jobs_.start(JobQueue::kWindowDrain, Hop::kFetch, StepLane::kDrain,
                            elements * states.of_device, {place});
    }
    // One thread checks a window, updates it (with all others), and checks what it writes.
    const bool checks = jobs_.checks();
    if (checks && read > 0) {
      fetched = jobs_.start(JobQueue::kWindowCheck, Hop::kFetch, StepLane::kCheck, elements * read,
                            {fetched, thread_free_});
    }
    ended =
        jobs_.start(JobQueue::kWindowUpdate, Hop::kStep, StepLane::kUpdate,
                    elements * (2 * states.in_all + gradient_bytes), {fetched, drained, gradient});
    thread_free_ = ended;
    if (checks && states.of_disk > 0) {
      thread_free_ = jobs_.start(JobQueue::kWindowCheck, Hop::kFlush, StepLane::kCheck,
                                 elements * states.of_disk, {ended});
    }
    JobId uploaded = kNoJob;
    if (states.of_device > 0) {
      uploaded = jobs_.start(JobQueue::kWindowUpload, Hop::kFlush, StepLane::kUpload,
                             elements * states.of_device, {ended});
    }
    if (states.of_disk > 0) {
      ended = jobs_.start(JobQueue::kWindowWrite, Hop::kFlush, StepLane::kDiskWrite,
                          elements * states.of_disk, {ended, uploaded});
    } else if (uploaded != kNoJob) {
      ended = uploaded;
    }
    places_.push_back(ended);
  }
  return ended;
}

}  // namespace strata::zero3::forecast
