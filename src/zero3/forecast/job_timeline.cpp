#include "zero3/forecast/job_timeline.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <string>

#include "strata/base/error.h"

namespace strata::zero3::forecast {

namespace {

// What is this near to its end ends together with what ends now.
constexpr double kTogether = 1e-12;

constexpr std::size_t index_of(JobQueue queue) { return static_cast<std::size_t>(queue); }

constexpr std::array kDiskReads = {JobQueue::kFetch, JobQueue::kGradientRead,
                                   JobQueue::kWindowRead};
constexpr std::array kDiskWrites = {JobQueue::kGradientWrite, JobQueue::kWindowWrite};
constexpr std::array kUploads = {JobQueue::kUpload, JobQueue::kWindowUpload};
constexpr std::array kDrains = {JobQueue::kDrain, JobQueue::kWindowDrain};
constexpr std::array kUpdates = {JobQueue::kGradientAdd, JobQueue::kWindowUpdate};
constexpr std::array kComputes = {JobQueue::kCompute};

}  // namespace

JobId JobTimeline::add(JobQueue queue, Hop hop, double seconds, std::initializer_list<JobId> after,
                       JobId started_by) {
  const auto id = static_cast<JobId>(jobs_.size());
  Job& job = jobs_.emplace_back();
  job.seconds = seconds;
  job.queue = queue;
  job.hop = hop;
  for (const JobId before : after) wait(before, id);
  wait(started_by, id);
  return id;
}

void JobTimeline::wait(JobId before, JobId after) {
  if (before == kNoJob) return;
  STRATA_CHECK(before < after, "a job waits for one that comes after it");
  waits_.push_back({before, after});
  ++jobs_[after].waits_for;
}

void JobTimeline::mark() { jobs_[add(JobQueue::kProgram, Hop::kCompute, 0, {})].marks = true; }

/// One run over the jobs. Between two ends of jobs every queue goes on at its rate.
class TimelineRun {
 public:
  TimelineRun(const JobTimeline& timeline, const RankSpeeds& speeds)
      : jobs_(timeline.jobs_), speeds_(speeds), open_waits_(jobs_.size()) {
    for (JobId id = 0; id < jobs_.size(); ++id) {
      lines_[index_of(jobs_[id].queue)].jobs.push_back(id);
      open_waits_[id] = jobs_[id].waits_for;
    }
    followers_begin_.resize(jobs_.size() + 1);
    for (const JobTimeline::Wait& wait : timeline.waits_) ++followers_begin_[wait.before + 1];
    for (std::size_t i = 1; i < followers_begin_.size(); ++i) {
      followers_begin_[i] += followers_begin_[i - 1];
    }
    followers_.resize(timeline.waits_.size());
    std::vector<std::uint32_t> end(followers_begin_.begin(), followers_begin_.end() - 1);
    for (const JobTimeline::Wait& wait : timeline.waits_) {
      followers_[end[wait.before]++] = wait.after;
    }
  }

  std::vector<TimelineMark> run() {
    while (done_ < jobs_.size()) {
      start_what_can();
      if (done_ == jobs_.size()) break;
      set_rates();
      const double pause = until_next_end();
      STRATA_CHECK(pause < std::numeric_limits<double>::infinity(),
                   "the step stands still: " + std::to_string(jobs_.size() - done_) +
                       " jobs wait for one another");
      pass(pause);
    }
    return std::move(marks_);
  }

 private:
  struct Line {
    std::vector<JobId> jobs;
    std::size_t next = 0;
    bool active = false;  ///< jobs[next] is under way
    double left = 0;      ///< seconds of it, alone on its lane
    double rate = 0;
  };

  Line& line(JobQueue queue) { return lines_[index_of(queue)]; }

  void start_what_can() {
    for (bool progress = true; progress;) {
      progress = false;
      for (Line& each : lines_) {
        while (!each.active && each.next < each.jobs.size() &&
               open_waits_[each.jobs[each.next]] == 0) {
          progress = true;
          each.active = true;
          each.left = jobs_[each.jobs[each.next]].seconds;
          if (each.left <= 0) end(each);
        }
      }
    }
  }

  void end(Line& of) {
    const JobId id = of.jobs[of.next++];
    of.active = false;
    ++done_;
    if (jobs_[id].marks) marks_.push_back(now_);
    for (std::uint32_t i = followers_begin_[id]; i < followers_begin_[id + 1]; ++i) {
      --open_waits_[followers_[i]];
    }
  }

  template <class Queues>
  int active_among(const Queues& queues) {
    return static_cast<int>(
        std::count_if(queues.begin(), queues.end(), [&](JobQueue q) { return line(q).active; }));
  }

  /// Gives the active ones of `queues` equal parts of `rate`.
  template <class Queues>
  void share(const Queues& queues, double rate) {
    const int active = active_among(queues);
    for (const JobQueue queue : queues) line(queue).rate = active > 0 ? rate / active : 0;
  }

  /// Two lanes that overlap as far as `overlap` says: side by side for a second, each does what
  /// takes 1 / (2 - overlap) seconds alone, so that x and y seconds of work take
  /// max(x, y) + (1 - overlap) min(x, y).
  template <class Some, class Others>
  void share(const Some& some, const Others& others, double overlap) {
    const bool both = active_among(some) > 0 && active_among(others) > 0;
    const double rate = both ? 1 / (2 - overlap) : 1;
    share(some, rate);
    share(others, rate);
  }

  void set_rates() {
    line(JobQueue::kExchange).rate = 1;
    share(kDiskReads, kDiskWrites, speeds_.disk_overlap);
    share(kUploads, 1.0);
    share(kDrains, 1.0);
    share(kComputes, kUpdates, speeds_.shares_cores ? 0 : 1);
  }

  double until_next_end() {
    double pause = std::numeric_limits<double>::infinity();
    for (const Line& each : lines_) {
      if (each.active) pause = std::min(pause, each.left / each.rate);
    }
    return pause;
  }

  void pass(double pause) {
    std::array<bool, kHopCount> busy{};
    for (const Line& each : lines_) {
      if (each.active) busy[static_cast<std::size_t>(jobs_[each.jobs[each.next]].hop)] = true;
    }
    const bool computes = line(JobQueue::kCompute).active;
    now_.seconds += pause;
    for (std::size_t hop = 0; hop < kHopCount; ++hop) {
      if (!busy[hop]) continue;
      now_.busy[hop] += pause;
      if (computes) now_.hidden[hop] += pause;
    }
    for (Line& each : lines_) {
      if (!each.active) continue;
      const bool ends = each.left <= each.rate * pause * (1 + kTogether);
      each.left -= each.rate * pause;
      if (ends) end(each);
    }
  }

  const std::vector<JobTimeline::Job>& jobs_;
  const RankSpeeds& speeds_;
  std::array<Line, kJobQueueCount> lines_{};
  std::vector<std::uint32_t> open_waits_;
  std::vector<std::uint32_t> followers_begin_;
  std::vector<JobId> followers_;
  std::size_t done_ = 0;
  TimelineMark now_;
  std::vector<TimelineMark> marks_;
};

std::vector<TimelineMark> JobTimeline::run(const RankSpeeds& speeds) const {
  return TimelineRun(*this, speeds).run();
}

}  // namespace strata::zero3::forecast
