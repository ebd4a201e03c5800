#include "strata/tiering/shard_store.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <string>
#include <utility>

#include "strata/base/error.h"
#include "strata/base/units.h"
#include "tiering/shard_store_impl.h"

namespace strata::tiering {
namespace {

/// Beyond any file; larger values would overflow on the way there.
constexpr std::uint64_t kExtentBytesMax = 1ull << 60;
/// What the balancer can follow.
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

[[noreturn]] void fail_range(Hop hop, const ExtentRecord& extent, ByteRange range,
                             const std::string& why) {
  throw UsageError(std::string(name_of(hop)) + " of " + extent.name() + ": bytes [" +
                   std::to_string(range.offset) + ", +" + std::to_string(range.bytes) + ") of " +
                   std::to_string(extent.bytes()) + ": " + why);
}

ChunkSpan chunks_of(Hop hop, const ExtentRecord& extent, ByteRange range) {
  const std::uint64_t chunk_bytes = extent.chunk_bytes();
  if (range.bytes == 0 || range.offset >= extent.bytes() ||
      range.bytes > extent.bytes() - range.offset) {
    fail_range(hop, extent, range, "an empty range, or one that leaves the extent");
  }
  const std::uint64_t end = range.offset + range.bytes;
  if (range.offset % chunk_bytes != 0 || (end % chunk_bytes != 0 && end != extent.bytes())) {
    fail_range(hop, extent, range,
               "start and end must be multiples of the chunk, " + std::to_string(chunk_bytes) +
                   " bytes, or the end of the extent");
  }
  return {range.offset / chunk_bytes, ceil_div(end, chunk_bytes)};
}

}  // namespace

ShardStore::Impl::Impl(const Options& options, aio::Submitter& submitter, Budget& nvme_budget,
                       Counters& hop_counters)
    : queue(submitter),
      nvme(nvme_budget),
      counters(hop_counters),
      chunk_bytes(options.chunk_bytes),
      stripes(checked_bandwidths(options), chunk_bytes),
      log(options.log),
      transfers(submitter.operations_max()) {
  if (chunk_bytes == 0 || chunk_bytes % kDiskBlock != 0) {
    throw ConfigError("shard store: a chunk of " + std::to_string(chunk_bytes) +
                      " bytes; it must be a positive multiple of " + std::to_string(kDiskBlock));
  }
  for (const std::filesystem::path& directory : options.directories) {
    files.push_back(aio::IoFile::create_scratch(directory));
    alignment = std::max(alignment, files.back().alignment());
    if (alignment > kDiskBlock) {
      throw ConfigError("shard store: " + directory.string() + " needs transfers aligned to " +
                        std::to_string(alignment) + " bytes, more than " +
                        std::to_string(kDiskBlock) + "; choose a directory on another file system");
    }
    prepared_files.push_back(queue.prepare(files.back()));
  }
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

detail::TransferLease ShardStore::Impl::prepare(Hop hop, Extent extent, ByteRange range,
                                                std::span<std::byte> buffer) {
  if (extent.id >= extents.size() || extents[extent.id].bytes() != extent.bytes) {
    throw UsageError(std::string(name_of(hop)) + ": extent " + std::to_string(extent.id) + " of " +
                     std::to_string(extent.bytes) + " bytes is not of this store");
  }
  ExtentRecord& record = extents[extent.id];
  const ChunkSpan chunks = chunks_of(hop, record, range);
  if (buffer.size() < buffer_bytes(range.bytes) ||
      reinterpret_cast<std::uintptr_t>(buffer.data()) % kDiskBlock != 0) {
    fail_range(hop, record, range,
               "the buffer has " + std::to_string(buffer.size()) + " bytes; it needs " +
                   std::to_string(buffer_bytes(range.bytes)) + ", aligned to " +
                   std::to_string(kDiskBlock));
  }
  if (hop == Hop::kFetch) {
    record.require_fetchable(chunks);
  } else {
    record.require_flushable(chunks);
  }

  detail::TransferLease transfer = transfers.try_acquire();
  if (transfer == nullptr) return transfer;
  transfer->hop = hop;
  transfer->extent = &record;
  transfer->stripes = &stripes;
  transfer->files = &files;
  transfer->counters = &counters;
  transfer->chunks = chunks;
  transfer->range = range;
  transfer->buffer = buffer.first(buffer_bytes(range.bytes));
  transfer->tickets.reserve(chunks.last - chunks.first);
  if (hop == Hop::kFlush && files.size() > 1) {
    transfer->moves.reserve(chunks.last - chunks.first);
  }
  return transfer;
}

bool ShardStore::Impl::submit(detail::TransferState& transfer, aio::OpKind kind, ChunkSpan chunks) {
  while (chunks.first < chunks.last) {
    const ChunkSpan piece = transfer.extent->leading_piece(chunks);
    const ChunkPlace place = transfer.extent->place_of(piece.first);
    const std::uint64_t start = (piece.first - transfer.chunks.first) * chunk_bytes;
    const std::uint64_t bytes =
        std::min((piece.last - piece.first) * chunk_bytes, transfer.buffer.size() - start);
    const aio::Operation operation{.kind = kind,
                                   .file = &files[place.file],
                                   .offset = place.offset,
                                   .buffer = transfer.buffer.subspan(start, bytes),
                                   .meter = stripes.meter(place.file)};
    if (!transfer.submit(queue, operation)) return false;
    chunks.first = piece.last;
  }
  return true;
}

std::uint64_t ShardStore::Impl::buffer_bytes(std::uint64_t bytes) const noexcept {
  return round_up(bytes, alignment);
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

bool ShardStore::wait_for_room(std::chrono::nanoseconds timeout) {
  return !impl_->transfers.is_exhausted() && impl_->queue.wait_for_room(timeout);
}

void ShardStore::set_bandwidths(std::span<const aio::PathBandwidth> bandwidths) {
  if (bandwidths.size() != impl_->files.size()) {
    throw UsageError("shard store: " + std::to_string(bandwidths.size()) + " bandwidths for " +
                     std::to_string(impl_->files.size()) + " directories");
  }
  impl_->stripes.set_bandwidths(bandwidths);
}

std::shared_ptr<const aio::LostMemory> ShardStore::lost_memory() const noexcept {
  return impl_->queue.lost_memory();
}

std::vector<DirectoryUse> ShardStore::directories() const {
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
