#include "strata/tiering/shard_store.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <deque>
#include <string>
#include <utility>

#include "strata/base/error.h"
#include "strata/base/units.h"
#include "tiering/transfer_state.h"

namespace strata::tiering {
namespace {

/// A size beyond any file; larger values would overflow in sums.
constexpr std::uint64_t kExtentBytesMax = 1ull << 60;
/// The most directories that the balancer can follow.
constexpr std::size_t kDirectoriesMax = 64;

/// The directories' bandwidths, or as many unknown ones.
std::vector<aio::PathBandwidth> checked_bandwidths(const ShardStore::Options& options) {
  const std::size_t count = options.directories.size();
  if (count == 0) {
    throw ConfigError("shard store: no directory given; name at least one on an NVMe disk");
  }
  if (count > kDirectoriesMax) {
    throw ConfigError("shard store: " + std::to_string(count) + " directories; name at most " +
                      std::to_string(kDirectoriesMax));
  }
  if (!options.bandwidths.empty() && options.bandwidths.size() != count) {
    throw UsageError("shard store: " + std::to_string(options.bandwidths.size()) +
                     " bandwidths for " + std::to_string(count) + " directories");
  }
  return options.bandwidths.empty() ? std::vector<aio::PathBandwidth>(count) : options.bandwidths;
}

std::uint64_t checked_chunk(std::uint64_t chunk_bytes) {
  if (chunk_bytes > 0 && chunk_bytes % kDiskBlock == 0) return chunk_bytes;
  throw ConfigError("shard store: a chunk of " + std::to_string(chunk_bytes) +
                    " bytes; it must be a positive multiple of " + std::to_string(kDiskBlock));
}

std::vector<aio::IoFile> open_files(std::span<const std::filesystem::path> directories) {
  std::vector<aio::IoFile> files;
  for (const std::filesystem::path& directory : directories) {
    files.push_back(aio::IoFile::create_scratch(directory));
    if (files.back().alignment() <= kDiskBlock) continue;
    throw ConfigError("shard store: " + directory.string() + " needs transfers aligned to " +
                      std::to_string(files.back().alignment()) + " bytes, more than " +
                      std::to_string(kDiskBlock) + "; choose a directory on another file system");
  }
  return files;
}

}  // namespace

struct ShardStore::Impl : detail::StoreParts {
  Impl(const Options& options, aio::Submitter& submitter, Budget& nvme_budget,
       Counters& hop_counters);

  /// The extent's record. Throws UsageError when it is of another store.
  ExtentRecord& record_of(Hop hop, Extent extent);

  /// Allocates the blocks of a new extent where there is room for them. Throws IoError.
  StripeMap::Deal allocate_on_disk(std::uint64_t bytes, std::string_view name);
  [[nodiscard]] StripeMap::Room room() const;

  /// Follows the directories' bandwidths; says so when their shares change.
  void rebalance();

  Budget& nvme;
  const std::uint64_t chunk_bytes;
  std::vector<aio::IoRegistration> file_registrations;  // as far as the queue's backend takes them
  Logger* log;                                          // null: no messages
  std::deque<ExtentRecord> extents;
  std::vector<Reservation> reservations;
  detail::Transfers transfers;
};

ShardStore::Impl::Impl(const Options& options, aio::Submitter& submitter, Budget& nvme_budget,
                       Counters& hop_counters)
    : StoreParts{.queue = submitter,
                 .counters = hop_counters,
                 .stripes = {checked_bandwidths(options), checked_chunk(options.chunk_bytes)},
                 .files = open_files(options.directories)},
      nvme(nvme_budget),
      chunk_bytes(options.chunk_bytes),
      log(options.log),
      transfers(*this, submitter.operations_max()) {
  for (const aio::IoFile& file : files) {
    alignment = std::max<std::uint64_t>(alignment, file.alignment());
    file_registrations.push_back(queue.register_file(file));
  }
}

ExtentRecord& ShardStore::Impl::record_of(Hop hop, Extent extent) {
  if (extent.id < extents.size() && extents[extent.id].bytes() == extent.bytes) {
    return extents[extent.id];
  }
  throw UsageError(std::string(name_of(hop)) + ": extent " + std::to_string(extent.id) + " of " +
                   std::to_string(extent.bytes) + " bytes is not of this store");
}

void ShardStore::Impl::rebalance() {
  if (!stripes.rebalance() || log == nullptr) return;
  std::string text = "nvme directories: shares follow the bandwidths:";
  for (std::size_t i = 0; i < files.size(); ++i) {
    const long percent = std::lround(stripes.shares()[i] * 100);
    text += (i == 0 ? " " : ", ") + files[i].path().parent_path().string() + " takes " +
            std::to_string(percent) + " %";
  }
  log->info(text);
}

StripeMap::Room ShardStore::Impl::room() const {
  StripeMap::Room room;
  std::vector<std::uint64_t> numbers;
  for (const aio::IoFile& file : files) {
    const aio::IoFile::Room found = file.room();
    const auto known = std::ranges::find(numbers, found.file_system);
    room.disk_of_path.push_back(static_cast<std::size_t>(known - numbers.begin()));
    if (known != numbers.end()) continue;
    numbers.push_back(found.file_system);
    room.bytes_of_disk.push_back(found.bytes);
  }
  return room;
}

StripeMap::Deal ShardStore::Impl::allocate_on_disk(std::uint64_t bytes, std::string_view name) {
  std::vector<std::uint64_t> sizes_before;
  for (const aio::IoFile& file : files) sizes_before.push_back(file.size());
  StripeMap::Room left = room();
  while (true) {
    StripeMap::Deal deal = stripes.deal(bytes, left);
    std::size_t at = 0;
    try {
      for (; at < files.size(); ++at) files[at].preallocate(deal.ends[at]);
      return deal;
    } catch (const IoError& error) {
      for (std::size_t i = 0; i < files.size(); ++i) files[i].shrink(sizes_before[i]);
      // A file system may have less than it says, or a quota less: then others may take its part.
      std::uint64_t& there = left.bytes_of_disk[left.disk_of_path[at]];
      const bool is_full = error.code() == ENOSPC || error.code() == EDQUOT;
      if (is_full && there > 0 && left.bytes_of_disk.size() > 1) {
        there = 0;
        continue;
      }
      throw IoError("shard store: no disk space for " + std::string(name) + " (" +
                        format_bytes(bytes) + "): " + error.what(),
                    error.code());
    }
  }
}

ShardStore::ShardStore(const Options& options, aio::Submitter& queue, Budget& nvme,
                       Counters& counters)
    : impl_(std::make_unique<Impl>(options, queue, nvme, counters)) {}

ShardStore::~ShardStore() = default;

Extent ShardStore::allocate(std::uint64_t bytes, std::string_view name) {
  Impl& store = *impl_;
  if (bytes == 0 || bytes > kExtentBytesMax) {
    throw UsageError("shard store: an extent of " + std::to_string(bytes) + " bytes asked for " +
                     std::string(name));
  }
  Reservation reservation =
      store.nvme.reserve(disk_bytes(bytes, store.chunk_bytes, store.files.size()), name);
  const auto id = static_cast<std::uint32_t>(store.extents.size());
  const StripeMap::Deal deal = store.allocate_on_disk(bytes, name);
  store.stripes.adopt(deal);
  store.extents.emplace_back(id, name, bytes, store.chunk_bytes, deal.first_position, deal.places);
  store.reservations.push_back(std::move(reservation));
  return {.id = id, .bytes = bytes};
}

std::uint64_t ShardStore::buffer_bytes(std::uint64_t bytes) const noexcept {
  return impl_->buffer_bytes(bytes);
}

std::uint64_t ShardStore::chunk_bytes() const noexcept { return impl_->chunk_bytes; }

std::uint64_t ShardStore::disk_bytes(std::uint64_t bytes, std::uint64_t chunk_bytes,
                                     std::size_t directories) {
  return StripeMap::disk_bytes(bytes, chunk_bytes, directories);
}

std::optional<Transfer> ShardStore::start_read(Extent extent, ByteRange range,
                                               std::span<std::byte> target) {
  return impl_->transfers.start(Hop::kFetch, impl_->record_of(Hop::kFetch, extent), range, target);
}

std::optional<Transfer> ShardStore::start_write(Extent extent, ByteRange range,
                                                std::span<std::byte> source) {
  ExtentRecord& record = impl_->record_of(Hop::kFlush, extent);
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->rebalance();
  }
  return impl_->transfers.start(Hop::kFlush, record, range, source);
}

bool ShardStore::wait_for_room(std::chrono::nanoseconds timeout) {
  return !impl_->transfers.is_exhausted() && impl_->queue.wait_for_room(timeout);
}

void ShardStore::set_bandwidths(std::span<const aio::PathBandwidth> bandwidths) {
  if (bandwidths.size() != impl_->files.size()) {
    throw UsageError("shard store: " + std::to_string(bandwidths.size()) + " bandwidths for " +
                     std::to_string(impl_->files.size()) + " directories");
  }
  const std::lock_guard lock(impl_->mutex);
  impl_->stripes.set_bandwidths(bandwidths);
}

std::shared_ptr<const aio::LostMemory> ShardStore::lost_memory() const noexcept {
  return impl_->queue.lost_memory();
}

std::vector<DirectoryUse> ShardStore::directories() const {
  const std::lock_guard lock(impl_->mutex);
  const StripeMap& stripes = impl_->stripes;
  std::vector<DirectoryUse> uses;
  for (std::size_t i = 0; i < impl_->files.size(); ++i) {
    uses.push_back({.share = stripes.shares()[i],
                    .chunks = stripes.used_slots(i),
                    .spares = stripes.free_slots(i)});
  }
  return uses;
}

}  // namespace strata::tiering
