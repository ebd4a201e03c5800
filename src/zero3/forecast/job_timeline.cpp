#include "zero3/forecast/job_timeline.h"

#include <algorithm>
#include <deque>
#include <limits>
#include <optional>
#include <string>

#include "strata/base/error.h"

namespace strata::zero3::forecast {

namespace {

// What is this near to its end ends together with what ends now.
constexpr double kTogether = 1e-12;
// A bound that is reached is passed by so much, lest it be reached again and again.
constexpr double kByte = 1;

constexpr std::size_t index_of(JobQueue queue) { return static_cast<std::size_t>(queue); }

constexpr std::array kDiskReads = {JobQueue::kFetch, JobQueue::kGradientRead, JobQueue::kWindowRead,
                                   JobQueue::kActivationRead};
constexpr std::array kOnDisk = {JobQueue::kFetch,          JobQueue::kGradientRead,
                                JobQueue::kWindowRead,     JobQueue::kActivationRead,
                                JobQueue::kGradientWrite,  JobQueue::kWindowWrite,
                                JobQueue::kActivationWrite};
constexpr std::array kUploads = {JobQueue::kUpload, JobQueue::kWindowUpload};
constexpr std::array kDrains = {JobQueue::kDrain, JobQueue::kWindowDrain};
constexpr std::array kUpdates = {JobQueue::kGradientAdd, JobQueue::kWindowUpdate};
constexpr std::array kComputes = {JobQueue::kCompute};
constexpr std::array kChecks = {JobQueue::kProgramCheck, JobQueue::kWindowCheck};

template <class Queues>
bool has(const Queues& queues, JobQueue queue) {
  return std::find(queues.begin(), queues.end(), queue) != queues.end();
}

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
    std::size_t asked = 0;  ///< of the disk: jobs that it has been asked for, from the first on
    bool active = false;    ///< jobs[next] is under way
    double left = 0;        ///< seconds of it, alone on its lane
    double rate = 0;
  };

  Line& line(JobQueue queue) { return lines_[index_of(queue)]; }

  void start_what_can() {
    for (bool progress = true; progress;) {
      progress = false;
      ask_the_disk();
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

  /// Puts what is ready at the end of the disk's queue.
  void ask_the_disk() {
    for (const JobQueue queue : kOnDisk) {
      Line& each = line(queue);
      while (each.asked < each.jobs.size() && open_waits_[each.jobs[each.asked]] == 0) {
        asked_.push_back(each.jobs[each.asked++]);
      }
    }
  }

  void end(Line& of) {
    const JobId id = of.jobs[of.next++];
    if (has(kOnDisk, jobs_[id].queue)) std::erase(asked_, id);
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

  void set_rates() {
    line(JobQueue::kExchange).rate = 1;
    share_disk();
    share_cores();
  }

  /// The disk works on the first read and the first write among what is in flight. Side by side for
  /// a second, each does what takes 1 / (2 - overlap) seconds alone, so that x and y seconds of
  /// work take max(x, y) + (1 - overlap) min(x, y).
  void share_disk() {
    for (const JobQueue queue : kOnDisk) line(queue).rate = 0;
    Line* read = nullptr;
    Line* write = nullptr;
    double before = 0;    // bytes
    double too_many = 0;  // of them, for the next job to be in flight
    for (const JobId id : asked_) {
      if (speeds_.disk_in_flight > 0 && before > speeds_.disk_in_flight) {
        too_many = before - speeds_.disk_in_flight;
        break;
      }
      const JobQueue queue = jobs_[id].queue;
      Line& its = line(queue);
      const bool reads = has(kDiskReads, queue);
      Line*& first = reads ? read : write;
      if (first == nullptr) first = &its;
      if (read != nullptr && write != nullptr) break;
      const bool is_under_way = its.active && its.jobs[its.next] == id;
      before += (is_under_way ? its.left : jobs_[id].seconds) *
                (reads ? speeds_.disk_read : speeds_.disk_write);
    }
    double rate = read != nullptr && write != nullptr ? 1 / (2 - speeds_.disk_overlap) : 1;
    if (speeds_.shares_cores && line(JobQueue::kCompute).active) {
      rate *= speeds_.disk_beside_compute;
    }
    double bytes_per_second = 0;
    if (read != nullptr) {
      read->rate = rate;
      bytes_per_second += rate * speeds_.disk_read;
    }
    if (write != nullptr) {
      write->rate = rate;
      bytes_per_second += rate * speeds_.disk_write;
    }
    until_more_in_flight_ = too_many > 0 ? (too_many + kByte) / bytes_per_second
                                         : std::numeric_limits<double>::infinity();
  }

  /// What all cores do counts whole, what one thread does a core's part. All slow down alike where
  /// they are too many.
  void share_cores() {
    const double one = speeds_.cores > 0 ? 1 / speeds_.cores : 0;
    const bool computes = active_among(kComputes) > 0;
    const bool updates = active_among(kUpdates) > 0;
    const int copies = speeds_.shares_cores ? static_cast<int>(active_among(kUploads) > 0) +
                                                  static_cast<int>(active_among(kDrains) > 0)
                                            : 0;
    const double wanted = (speeds_.shares_cores && computes ? 1 : 0) + (updates ? 1 : 0) +
                          one * (active_among(kChecks) + copies);
    const double rate = wanted > 1 ? 1 / wanted : 1;
    share(kComputes, speeds_.shares_cores ? rate : 1);
    share(kUpdates, rate);
    for (const JobQueue queue : kChecks) line(queue).rate = rate;
    share(kUploads, copies > 0 ? rate : 1);
    share(kDrains, copies > 0 ? rate : 1);
  }

  double until_next_end() {
    double pause = until_more_in_flight_;
    for (const Line& each : lines_) {
      if (each.active && each.rate > 0) pause = std::min(pause, each.left / each.rate);
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
  double until_more_in_flight_ = 0;  ///< seconds
  std::deque<JobId> asked_;          ///< of the disk, in the order in which they were ready
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
