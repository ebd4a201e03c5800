#include "zero3/forecast/job_timeline.h"

#include <algorithm>
#include <bit>
#include <deque>
#include <limits>
#include <string>

#include "strata/base/error.h"

namespace strata::zero3::forecast {

namespace {

// What is this near to its end ends together with what ends now.
constexpr double kTogether = 1e-12;
// A bound that is reached is passed by so much, lest it be reached again and again.
constexpr double kByte = 1;

constexpr std::size_t index_of(JobQueue queue) { return static_cast<std::size_t>(queue); }

/// A set of queues: a bit for each.
using Queues = std::uint32_t;
static_assert(kJobQueueCount <= 32);

constexpr Queues set_of(std::initializer_list<JobQueue> queues) {
  Queues set = 0;
  for (const JobQueue queue : queues) set |= Queues{1} << index_of(queue);
  return set;
}

constexpr Queues kDiskReads = set_of(
    {JobQueue::kFetch, JobQueue::kGradientRead, JobQueue::kWindowRead, JobQueue::kActivationRead});
constexpr Queues kDiskWrites =
    set_of({JobQueue::kGradientWrite, JobQueue::kWindowWrite, JobQueue::kActivationWrite});
constexpr Queues kOnDisk = kDiskReads | kDiskWrites;
constexpr Queues kExchanges = set_of({JobQueue::kExchange});
constexpr Queues kUploads = set_of({JobQueue::kUpload, JobQueue::kWindowUpload});
constexpr Queues kDrains = set_of({JobQueue::kDrain, JobQueue::kWindowDrain});
constexpr Queues kUpdates = set_of({JobQueue::kGradientAdd, JobQueue::kWindowUpdate});
constexpr Queues kComputes = set_of({JobQueue::kCompute});
constexpr Queues kChecks = set_of({JobQueue::kProgramCheck, JobQueue::kWindowCheck});

constexpr bool has(Queues queues, std::size_t queue) { return (queues >> queue & 1) != 0; }

/// Calls `f` with the index of each queue of `queues`, the lowest first.
template <class Function>
void for_each(Queues queues, Function f) {
  for (; queues != 0; queues &= queues - 1) f(static_cast<std::size_t>(std::countr_zero(queues)));
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
    for (std::size_t queue = 0; queue < kJobQueueCount; ++queue) look_at_head(queue);
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
    double left = 0;        ///< of jobs[next] under way: seconds of it, alone on its lane
    double rate = 0;
  };

  void start_what_can() {
    for (bool progress = true; progress;) {
      progress = false;
      ask_the_disk();
      for (std::size_t queue = 0; queue < kJobQueueCount; ++queue) {
        while (has(ready_, queue)) {
          progress = true;
          start(queue);
        }
      }
    }
  }

  void start(std::size_t queue) {
    Line& line = lines_[queue];
    active_ |= Queues{1} << queue;
    ready_ &= ~(Queues{1} << queue);
    line.left = jobs_[line.jobs[line.next]].seconds;
    if (line.left <= 0) end(queue);
  }

  /// Puts what is ready at the end of the disk's queue.
  void ask_the_disk() {
    for_each(kOnDisk, [&](std::size_t queue) {
      Line& line = lines_[queue];
      while (line.asked < line.jobs.size() && open_waits_[line.jobs[line.asked]] == 0) {
        asked_.push_back(line.jobs[line.asked++]);
      }
    });
  }

  void end(std::size_t queue) {
    Line& line = lines_[queue];
    const JobId id = line.jobs[line.next++];
    if (line.asked >= line.next) {
      asked_.erase(std::find(asked_.begin(), asked_.end(), id));
    } else {
      line.asked =
          line.next;  // a job of no bytes was done before the disk was asked, or is not its
    }
    active_ &= ~(Queues{1} << queue);
    ++done_;
    if (jobs_[id].marks) marks_.push_back(now_);
    look_at_head(queue);
    for (std::uint32_t i = followers_begin_[id]; i < followers_begin_[id + 1]; ++i) {
      if (--open_waits_[followers_[i]] == 0) look_at_head(index_of(jobs_[followers_[i]].queue));
    }
  }

  /// Says whether the next job of a line can start.
  void look_at_head(std::size_t queue) {
    const Line& line = lines_[queue];
    const bool is_ready = !has(active_, queue) && line.next < line.jobs.size() &&
                          open_waits_[line.jobs[line.next]] == 0;
    if (is_ready) ready_ |= Queues{1} << queue;
  }

  /// Gives the active ones of `queues` equal parts of `rate`.
  void share(Queues queues, double rate) {
    const Queues active = active_ & queues;
    for_each(active, [&](std::size_t queue) { lines_[queue].rate = rate / std::popcount(active); });
  }

  void set_rates() {
    share(kExchanges, 1);
    share_disk();
    share_cores();
  }

  /// The disk works on the first read and the first write among what is in flight. Side by side for
  /// a second, each does what takes 1 / (2 - overlap) seconds alone, so that x and y seconds of
  /// work take max(x, y) + (1 - overlap) min(x, y).
  void share_disk() {
    for_each(active_ & kOnDisk, [&](std::size_t queue) { lines_[queue].rate = 0; });
    Line* read = nullptr;
    Line* write = nullptr;
    double before = 0;    // bytes
    double too_many = 0;  // of them, for the next job to be in flight
    for (const JobId id : asked_) {
      if (speeds_.disk_in_flight > 0 && before > speeds_.disk_in_flight) {
        too_many = before - speeds_.disk_in_flight;
        break;
      }
      const std::size_t queue = index_of(jobs_[id].queue);
      Line& its = lines_[queue];
      const bool reads = has(kDiskReads, queue);
      Line*& first = reads ? read : write;
      if (first == nullptr) first = &its;
      if (read != nullptr && write != nullptr) break;
      const bool is_under_way = has(active_, queue) && its.jobs[its.next] == id;
      before += (is_under_way ? its.left : jobs_[id].seconds) *
                (reads ? speeds_.disk_read : speeds_.disk_write);
    }
    double rate = read != nullptr && write != nullptr ? 1 / (2 - speeds_.disk_overlap) : 1;
    if (speeds_.shares_cores && (active_ & kComputes) != 0) rate *= speeds_.disk_beside_compute;
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
    const bool computes = (active_ & kComputes) != 0;
    const bool updates = (active_ & kUpdates) != 0;
    const int copies = speeds_.shares_cores ? static_cast<int>((active_ & kUploads) != 0) +
                                                  static_cast<int>((active_ & kDrains) != 0)
                                            : 0;
    const double wanted = (speeds_.shares_cores && computes ? 1 : 0) + (updates ? 1 : 0) +
                          one * (std::popcount(active_ & kChecks) + copies);
    const double rate = wanted > 1 ? 1 / wanted : 1;
    share(kComputes, speeds_.shares_cores ? rate : 1);
    share(kUpdates, rate);
    for_each(active_ & kChecks, [&](std::size_t queue) { lines_[queue].rate = rate; });
    share(kUploads, copies > 0 ? rate : 1);
    share(kDrains, copies > 0 ? rate : 1);
  }

  double until_next_end() {
    double pause = until_more_in_flight_;
    for_each(active_, [&](std::size_t queue) {
      const Line& line = lines_[queue];
      if (line.rate > 0) pause = std::min(pause, line.left / line.rate);
    });
    return pause;
  }

  void pass(double pause) {
    std::uint32_t busy = 0;  // a bit for each hop
    static_assert(kHopCount <= 32);
    for_each(active_, [&](std::size_t queue) {
      const Line& line = lines_[queue];
      busy |= std::uint32_t{1} << static_cast<std::size_t>(jobs_[line.jobs[line.next]].hop);
    });
    const bool computes = (active_ & kComputes) != 0;
    now_.seconds += pause;
    for_each(busy, [&](std::size_t hop) {
      now_.busy[hop] += pause;
      if (computes) now_.hidden[hop] += pause;
    });
    for_each(active_, [&](std::size_t queue) {
      Line& line = lines_[queue];
      const bool ends = line.left <= line.rate * pause * (1 + kTogether);
      line.left -= line.rate * pause;
      if (ends) end(queue);
    });
  }

  const std::vector<JobTimeline::Job>& jobs_;
  const RankSpeeds& speeds_;
  std::array<Line, kJobQueueCount> lines_{};
  Queues active_ = 0;                ///< their next job is under way
  Queues ready_ = 0;                 ///< their next job can start
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
