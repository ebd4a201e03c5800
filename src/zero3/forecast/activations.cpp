#include "zero3/forecast/activations.h"

#include <algorithm>
#include <utility>

namespace strata::zero3::forecast {

namespace {

// As ActivationStore: pages that are written before their frame is wanted.
constexpr std::uint64_t kPagesAhead = 8;

}  // namespace

Activations::Activations(const PlanInput& input, const StepWork& work, StepJobs& jobs)
    : room_(input.activations), jobs_(jobs), taken_(work.uses.size()) {
  const std::uint64_t times = work.goes_unit_by_unit() ? work.micro_batches : 1;
  const std::uint64_t width = weight_bytes(input.format.precision);
  for (const UnitUse& use : work.uses) {
    wanted_.push_back(use.recompute > 0 ? use.input_elements * width * times : 0);
  }
}

void Activations::put(std::size_t use, JobId computed) {
  const std::uint64_t room = room_.host_bytes() + room_.nvme_bytes();
  std::uint64_t left = std::min(wanted_[use], room - held_);
  taken_[use] = left;
  if (held_ == 0) written_ = away_ = 0;
  for (const std::uint64_t part = part_of(left); left > 0;) {
    const std::uint64_t bytes = std::min(part, left);
    put_part(bytes, computed);
    left -= bytes;
  }
  to_read_ = away_;
  reads_.clear();
}

void Activations::put_part(std::uint64_t bytes, JobId computed) {
  const std::uint64_t end = held_ + bytes;
  write_for(end);
  JobId frames_free = left_;
  if (end > room_.host_bytes()) {
    away_ = end - room_.host_bytes();
    while (writes_.front().number < away_) writes_.pop_front();
    frames_free = writes_.front().done;
  }
  arrived_ = jobs_.start(JobQueue::kDrain, Hop::kDrain, StepLane::kDrain,
                         static_cast<double>(bytes), {computed, frames_free});
  if (jobs_.program_computes()) jobs_.wait_for(Hop::kDrain, arrived_);
  held_ = end;
  write_for(end + std::min(kPagesAhead, room_.frames / 2) * room_.page_bytes);
}

/// Writes what host memory has no room for when it is to hold the bytes up to `end`.
void Activations::write_for(std::uint64_t end) {
  end = std::min(end, room_.host_bytes() + room_.nvme_bytes());
  const std::uint64_t needed = std::min(held_, end - std::min(end, room_.host_bytes()));
  if (needed <= written_) return;
  const std::uint64_t bytes = needed - written_;
  written_ = needed;
  const JobId checked = check(Hop::kFlush, bytes, arrived_);
  writes_.push_back(
      {written_, jobs_.start(JobQueue::kActivationWrite, Hop::kFlush, StepLane::kDiskWrite,
                             static_cast<double>(bytes), {arrived_, checked})});
}

JobId Activations::bring(std::size_t use) {
  std::uint64_t left = std::exchange(taken_[use], 0);
  JobId brought = kNoJob;
  for (const std::uint64_t part = part_of(left); left > 0;) {
    const std::uint64_t bytes = std::min(part, left);
    left -= bytes;
    held_ -= bytes;
    brought = jobs_.start(JobQueue::kUpload, Hop::kUpload, StepLane::kUpload,
                          static_cast<double>(bytes), {in_memory(held_), arrived_});
    if (jobs_.program_computes()) jobs_.wait_for(Hop::kUpload, brought);
    left_ = brought;
    read_down_to(held_ - std::min(held_, room_.host_bytes()));
  }
  return brought;
}

/// The job after which the bytes from a number on are in host memory; the program waits for it.
JobId Activations::in_memory(std::uint64_t begin) {
  if (begin >= away_) return kNoJob;
  read_down_to(begin);
  while (reads_.front().number > begin) reads_.pop_front();
  jobs_.wait_for(Hop::kFetch, reads_.front().done);
  return reads_.front().done;
}

void Activations::read_down_to(std::uint64_t begin) {
  if (begin >= to_read_) return;
  const std::uint64_t bytes = to_read_ - begin;
  to_read_ = begin;
  const JobId read = jobs_.start(JobQueue::kActivationRead, Hop::kFetch, StepLane::kDiskRead,
                                 static_cast<double>(bytes), {left_, writes_.back().done});
  reads_.push_back({begin, check(Hop::kFetch, bytes, read)});
}

std::uint64_t Activations::part_of(std::uint64_t bytes) const {
  return bytes > 0 ? jobs_.part_of(bytes, room_.page_bytes) : 0;
}

/// One thread makes checksums of what goes to the disk or has come. Returns the job after which
/// that is done.
JobId Activations::check(Hop hop, std::uint64_t bytes, JobId after) {
  if (!jobs_.checks()) return after;
  return jobs_.start(JobQueue::kProgramCheck, hop, StepLane::kCheck, static_cast<double>(bytes),
                     {after});
}

}  // namespace strata::zero3::forecast
