#include "measuring_thread.h"

#include <algorithm>
#include <cstring>

#include "random_bytes.h"
#include "strata/base/error.h"
#include "strata/base/units.h"

namespace strata::nvme_bench {
namespace {

using aio::OpKind;
using std::chrono::steady_clock;

// A change of the phase is heard within this time, even when the disk says nothing.
constexpr std::chrono::milliseconds kAttention{50};

// The finest grain at which disks and file systems look for equal contents.
constexpr std::size_t kStampEvery = 4_KiB;

/// Blocks of one thread's part of each file.
std::uint64_t blocks_per_file(const Point& point, const TargetFiles& files) {
  std::uint64_t smallest = ~std::uint64_t{0};
  for (const aio::IoFile& file : files.files()) smallest = std::min(smallest, file.size());
  return smallest / point.threads / point.block_bytes;
}

/// The NUMA node that all disks are next to; -1 when there is none.
int node_of(const TargetFiles& files) { return aio::numa_node_of(files.disks()); }

/// Buffers of a thread that runs next to the disks; it stays there.
IoMemory make_memory(const Point& point, const TargetFiles& files) {
  aio::run_on_numa_node(node_of(files));
  return {point.depth * point.block_bytes, point.huge_pages};
}

aio::IoQueueOptions channel_options(const Point& point) {
  return {.backend = point.engine,
          .block_bytes = static_cast<std::uint32_t>(round_up(point.block_bytes, 4_KiB)),
          .depth = point.depth,
          .threads = std::min(point.depth, kEngineThreadsMax),
          .operations_max = point.depth};
}

void make_channel(std::optional<aio::IoChannel>& channel, const Point& point,
                  const TargetFiles& files, std::chrono::nanoseconds timeout,
                  const MakeBackend& make_backend, Logger& log) {
  aio::IoQueueOptions options = channel_options(point);
  options.fail_after =
      std::max(std::chrono::duration_cast<std::chrono::milliseconds>(timeout), kTimeoutMin);
  options.warn_after = std::min(options.warn_after, options.fail_after);
  options.numa_node = node_of(files);
  if (make_backend) {
    channel.emplace(options, make_backend(), log);
  } else {
    channel.emplace(options, files.files().front().path().parent_path(), log);
  }
}

void add(std::atomic<std::uint64_t>& value, std::uint64_t increment) {
  // The only writer: no locked instruction is needed.
  value.store(value.load(std::memory_order_relaxed) + increment, std::memory_order_relaxed);
}

}  // namespace

void check_engine(const Point& point, const std::filesystem::path& directory, Logger& log) {
  if (point.engine == IoBackend::kAuto || point.engine == IoBackend::kNull) return;
  const aio::IoChannel tried(channel_options(point), directory, log);
}

MeasuringThread::MeasuringThread(const Point& point, const TargetFiles& files, std::uint32_t index,
                                 std::uint64_t bytes_max, std::chrono::nanoseconds timeout,
                                 const MakeBackend& make_backend, Logger& log)
    : point_(point),
      files_(files),
      bytes_max_(bytes_max),
      pattern_(point.workload, blocks_per_file(point, files) * files.files().size(), point.depth,
               point.block_bytes, files.fill_seed(0) + index),
      memory_(make_memory(point, files)),
      slots_(point.depth),
      outcomes_(point.depth) {
  const std::uint64_t blocks = blocks_per_file(point, files);
  part_begin_ = index * blocks * point.block_bytes;
  stamps_ = mix(files.fill_seed(0) + index);
  if (point.verify) check_.emplace(blocks * files.files().size());
  free_.reserve(point.depth);
  for (std::uint32_t slot = point.depth; slot > 0; --slot) free_.push_back(slot - 1);
  make_channel(channel_, point, files, timeout, make_backend, log);
  result_.engine = channel_->description();
  if (point.prepare) register_with_engine();
}

void MeasuringThread::register_with_engine() {
  registrations_.push_back(channel_->register_memory(memory_.bytes()));
  for (const aio::IoFile& file : files_.files()) {
    if (registrations_.back().refusal().empty())
      registrations_.push_back(channel_->register_file(file));
  }
  const std::string& refusal = registrations_.back().refusal();
  if (!refusal.empty() && refusal != aio::Backend::kNothingToRegister) {
    result_.engine += "; buffers and files not registered: " + refusal;
  }
}

ThreadResult MeasuringThread::run(const std::atomic<Phase>& phase, Tally& tally) {
  try {
    move_blocks(phase, tally);
  } catch (const DeadlineExceeded& error) {
    result_.unanswered = error.what();
    end_without_engine(error);
  } catch (const IoError& error) {
    end_without_engine(error);
  }
  (result_.read.requests >= result_.write.requests ? result_.read : result_.write).short_transfers =
      channel_->statistics().short_transfers;
  return std::move(result_);
}

void MeasuringThread::end_without_engine(const IoError& error) {
  memory_.abandon();  // the device may still write to memory that was given up
  if (counting_) result_.end = steady_clock::now();
  if (result_.first_error.empty()) {
    note_error(error.what(), has_reads(point_.workload) ? result_.read : result_.write);
  }
}

void MeasuringThread::move_blocks(const std::atomic<Phase>& phase, Tally& tally) {
  Time now = steady_clock::now();
  follow(phase.load(std::memory_order_relaxed), now);
  while (true) {
    if (issuing_) issue(now);
    if (channel_->unfinished() == 0 && !issuing_) break;
    const std::size_t count = channel_->reap(outcomes_, kAttention);
    now = steady_clock::now();
    const std::uint64_t read_before = result_.read.bytes;
    const std::uint64_t written_before = result_.write.bytes;
    for (std::size_t i = 0; i < count; ++i) complete(outcomes_[i], now);
    add(tally.bytes_read, result_.read.bytes - read_before);
    add(tally.bytes_written, result_.write.bytes - written_before);
    follow(phase.load(std::memory_order_relaxed), now);
    if (counting_ && issuing_ && quota_reached()) issuing_ = false;
  }
  if (counting_) result_.end = now;
}

/// Follows the phase. Requests count that finish within the counted time, whenever issued; only a
/// measurement that ends by bytes counts its last requests until they are all home.
void MeasuringThread::follow(Phase phase, Time now) {
  if (phase == phase_) return;
  phase_ = phase;
  if (phase == Phase::kMeasuring) {
    result_.begin = now;
    counting_ = true;
  } else if (phase == Phase::kStopping) {
    issuing_ = false;
    if (counting_) result_.end = now;
    counting_ = false;
  }
}

bool MeasuringThread::quota_reached() const {
  const std::uint64_t in_flight = (slots_.size() - free_.size()) * point_.block_bytes;
  return bytes_max_ > 0 && result_.read.bytes + result_.write.bytes + in_flight >= bytes_max_;
}

void MeasuringThread::issue(Time now) {
  while (!free_.empty() && !(counting_ && quota_reached())) {
    const std::optional<Access> access = pattern_.next();
    if (!access) return;
    const std::uint32_t index = free_.back();
    Slot& slot = slots_[index];
    const std::size_t file_count = files_.files().size();
    const aio::IoFile& file = files_.files()[access->block % file_count];
    slot.block = access->block;
    slot.operation = {
        .kind = access->kind,
        .file = &file,
        .offset = part_begin_ + access->block / file_count * point_.block_bytes,
        .buffer = memory_.bytes().subspan(index * point_.block_bytes, point_.block_bytes)};
    if (access->kind == OpKind::kWrite) {
      fill_for_write(slot);
      now = steady_clock::now();  // preparing is no time of the disk's
    }
    slot.issued = now;
    const bool accepted = channel_->try_submit(slot.operation, index);
    STRATA_CHECK(accepted, "the channel refused slot " + std::to_string(index));
    free_.pop_back();
  }
}

void MeasuringThread::complete(const aio::IoOutcome& outcome, Time now) {
  const auto index = static_cast<std::uint32_t>(outcome.tag);
  const Slot& slot = slots_[index];
  free_.push_back(index);
  pattern_.finished(slot.block);
  DirectionResult& direction = slot.operation.kind == OpKind::kRead ? result_.read : result_.write;
  if (outcome.error) {
    note_failure(outcome.error, direction);
    return;
  }
  if (check_ && slot.operation.kind == OpKind::kRead) {
    const std::string mismatch = check_->check(place_of(slot), slot.operation.buffer);
    if (!mismatch.empty()) {
      note_error("read of " + slot.operation.file->path().string() + " at offset " +
                     std::to_string(slot.operation.offset) + ": " + mismatch,
                 direction);
    }
  }
  if (!counting_) return;
  direction.bytes += point_.block_bytes;
  ++direction.requests;
  direction.latency.add(now - slot.issued);
}

void MeasuringThread::note_failure(const std::exception_ptr& failure, DirectionResult& direction) {
  try {
    std::rethrow_exception(failure);
  } catch (const DeadlineExceeded& error) {
    note_error(error.what(), direction);
    throw;  // the engine is lost with it
  } catch (const std::exception& error) {
    note_error(error.what(), direction);
  }
}

void MeasuringThread::note_error(std::string message, DirectionResult& direction) {
  ++direction.errors;
  if (result_.first_error.empty()) result_.first_error = std::move(message);
}

BlockPlace MeasuringThread::place_of(const Slot& slot) const {
  return {.block = slot.block,
          .offset = slot.operation.offset,
          .fill_seed = files_.fill_seed(slot.block % files_.files().size())};
}

void MeasuringThread::fill_for_write(const Slot& slot) {
  if (check_) {
    check_->prepare_write(place_of(slot), slot.operation.buffer);
    return;
  }
  for (std::size_t at = 0; at < point_.block_bytes; at += kStampEvery) {
    const std::uint64_t stamp = ++stamps_;
    std::memcpy(slot.operation.buffer.data() + at, &stamp, sizeof stamp);
  }
}

}  // namespace strata::nvme_bench
