#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <vector>

#include "strata/base/hop.h"
#include "strata/zero3/step_model.h"

/// \file
/// Jobs that wait for one another, and the time they take on lanes that they share.

namespace strata::zero3::forecast {

/// Names a job of a timeline. kNoJob is one that is done from the beginning.
using JobId = std::uint32_t;
inline constexpr JobId kNoJob = UINT32_MAX;

/// A line of jobs that are done one after the other, in the order in which they were added.
enum class JobQueue : std::uint8_t {
  kProgram,  ///< the training program's thread: its jobs take no time, it only waits
  kFetch,    ///< weights, from the disk
  kUpload,
  kExchange,  ///< with the other ranks
  kCompute,
  kDrain,
  kGradientRead,  ///< gradients that rest on the disk, to be added to
  kGradientAdd,
  kGradientWrite,
  kWindowRead,   ///< states, from the disk
  kWindowDrain,  ///< states, from the device
  kWindowUpdate,
  kWindowWrite,
  kWindowUpload,
  kActivationWrite,
  kActivationRead,
  kProgramCheck,  ///< checksums that the program makes: of all but states
  kWindowCheck,   ///< those of states
};

inline constexpr std::size_t kJobQueueCount = 18;

/// What a mark saw: sums since the beginning.
struct TimelineMark {
  double seconds = 0;
  std::array<double, kHopCount> busy{};
  std::array<double, kHopCount> hidden{};  ///< busy while the device computed
};

/// The jobs and what they wait for; `run` says when everything ends.
class JobTimeline {
 public:
  /// A job that takes `seconds` with its lane to itself and waits for `after` and `started_by`,
  /// which were added before it.
  JobId add(JobQueue queue, Hop hop, double seconds, std::initializer_list<JobId> after,
            JobId started_by = kNoJob);
  /// A mark of the program, when it has come here.
  void mark();

  [[nodiscard]] std::size_t size() const { return jobs_.size(); }

  /// Runs all jobs, each as early as what it waits for and its lane allow.
  [[nodiscard]] std::vector<TimelineMark> run(const RankSpeeds& speeds) const;

 private:
  friend class TimelineRun;
  struct Job {
    double seconds = 0;
    JobQueue queue = JobQueue::kProgram;
    Hop hop = Hop::kCompute;
    bool marks = false;
    std::uint32_t waits_for = 0;  ///< jobs
  };
  struct Wait {
    JobId before, after;
  };
  void wait(JobId before, JobId after);

  std::vector<Job> jobs_;
  std::vector<Wait> waits_;
};

}  // namespace strata::zero3::forecast
