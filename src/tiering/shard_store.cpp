#include "strata/tiering/shard_store.h"

#include <algorithm>
#include <string>
#include <utility>

#include "strata/base/error.h"
#include "strata/base/units.h"
#include "tiering/shard_store_impl.h"

namespace strata::tiering {
namespace {

/// Buffers, chunks and extents start on multiples of this: the largest alignment that the store
/// takes from a file system.
constexpr std::uint64_t kBlock = 4096;
/// Beyond any file; larger values would overflow on the way there.
constexpr std::uint64_t kExtentBytesMax = 1ull << 60;

/// How much of an extent each file holds, the file of its first chunk first.
std::vector<std::uint64_t> share_bytes(std::uint64_t bytes, std::uint64_t chunk_bytes,
                                       std::size_t files) {
  STRATA_CHECK(bytes > 0 && files > 0,
               std::to_string(bytes) + " bytes in " + std::to_string(files) + " files");
  const std::uint64_t chunks = ceil_div(bytes, chunk_bytes);
  std::vector<std::uint64_t> shares(files);
  for (std::size_t i = 0; i < files; ++i) {
    shares[i] = (chunks / files + (i < chunks % files ? 1 : 0)) * chunk_bytes;
  }
  // The last chunk takes only the blocks that it fills.
  shares[(chunks - 1) % files] -= chunks * chunk_bytes - round_up(bytes, kBlock);
  return shares;
}

[[noreturn]] void fail_range(Hop hop, const ExtentRecord& extent, ByteRange range,
                             const std::string& why) {
  throw UsageError(std::string(name_of(hop)) + " of " + extent.name() + ": bytes [" +
                   std::to_string(range.offset) + ", +" + std::to_string(range.bytes) + ") of " +
                   std::to_string(extent.bytes()) + ": " + why);
}

ChunkSpan chunks_of(Hop hop, const ExtentRecord& extent, ByteRange range) {
  const std::uint64_t chunk_bytes = extent.layout().chunk_bytes;
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

ShardStore::Impl::Impl(const Options& options, aio::IoQueue& io_queue, Budget& nvme_budget,
                       Counters& hop_counters)
    : queue(io_queue),
      nvme(nvme_budget),
      counters(hop_counters),
      chunk_bytes(options.chunk_bytes),
      ends(options.directories.size()),
      transfers(io_queue.options().operations_max) {
  if (options.directories.empty()) {
    throw ConfigError("shard store: no directory given; name at least one on an NVMe disk");
  }
  if (chunk_bytes == 0 || chunk_bytes % kBlock != 0) {
    throw ConfigError("shard store: a chunk of " + std::to_string(chunk_bytes) +
                      " bytes; it must be a positive multiple of " + std::to_string(kBlock));
  }
  for (const std::filesystem::path& directory : options.directories) {
    files.push_back(aio::IoFile::create_scratch(directory));
    alignment = std::max(alignment, files.back().alignment());
    if (alignment > kBlock) {
      throw ConfigError("shard store: " + directory.string() + " needs transfers aligned to " +
                        std::to_string(alignment) + " bytes, more than " + std::to_string(kBlock) +
                        "; choose a directory on another file system");
    }
  }
}

StripeLayout ShardStore::Impl::grow(std::uint64_t bytes) {
  const std::vector<std::uint64_t> shares = share_bytes(bytes, chunk_bytes, files.size());
  std::vector<std::uint64_t> grown = ends;
  for (std::size_t i = 0; i < shares.size(); ++i) {
    const std::size_t file = (next_file + i) % files.size();
    grown[file] += shares[i];
    files[file].preallocate(grown[file]);
  }
  const std::size_t chunks = ceil_div(bytes, chunk_bytes);
  return {.chunk_bytes = chunk_bytes,
          .first_file = std::exchange(next_file, (next_file + chunks) % files.size()),
          .share_offsets = std::exchange(ends, std::move(grown))};
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
      reinterpret_cast<std::uintptr_t>(buffer.data()) % kBlock != 0) {
    fail_range(hop, record, range,
               "the buffer has " + std::to_string(buffer.size()) + " bytes; it needs " +
                   std::to_string(buffer_bytes(range.bytes)) + ", aligned to " +
                   std::to_string(kBlock));
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
  transfer->files = &files;
  transfer->counters = &counters;
  transfer->chunks = chunks;
  transfer->range = range;
  transfer->buffer = buffer.first(buffer_bytes(range.bytes));
  transfer->tickets.reserve(chunks.last - chunks.first);
  return transfer;
}

bool ShardStore::Impl::submit(detail::TransferState& transfer, aio::OpKind kind, ChunkSpan chunks) {
  // On one file, chunks that follow each other in the extent do so on the disk.
  const std::uint64_t step = files.size() == 1 ? chunks.last - chunks.first : 1;
  for (std::uint64_t chunk = chunks.first; chunk < chunks.last; chunk += step) {
    const ChunkPlace place = transfer.extent->layout().place_of(chunk);
    const std::uint64_t start = (chunk - transfer.chunks.first) * chunk_bytes;
    const std::uint64_t bytes = std::min(step * chunk_bytes, transfer.buffer.size() - start);
    const aio::Operation operation{.kind = kind,
                                   .file = &files[place.file],
                                   .offset = place.offset,
                                   .buffer = transfer.buffer.subspan(start, bytes)};
    if (!transfer.submit(queue, operation)) return false;
  }
  return true;
}

std::uint64_t ShardStore::Impl::buffer_bytes(std::uint64_t bytes) const noexcept {
  return round_up(bytes, alignment);
}

ShardStore::ShardStore(const Options& options, aio::IoQueue& queue, Budget& nvme,
                       Counters& counters)
    : impl_(std::make_unique<Impl>(options, queue, nvme, counters)) {}

ShardStore::~ShardStore() = default;

Extent ShardStore::allocate(std::uint64_t bytes, std::string_view name) {
  Impl& store = *impl_;
  if (bytes == 0 || bytes > kExtentBytesMax) {
    throw UsageError("shard store: an extent of " + std::to_string(bytes) + " bytes asked for " +
                     std::string(name));
  }
  Reservation reservation = store.nvme.reserve(disk_bytes(bytes), name);
  const auto id = static_cast<std::uint32_t>(store.extents.size());
  try {
    store.extents.emplace_back(id, name, bytes, store.grow(bytes));
  } catch (const IoError& error) {
    throw IoError("shard store: no disk space for " + std::string(name) + " (" +
                      format_bytes(bytes) + "): " + error.what(),
                  error.code());
  }
  store.reservations.push_back(std::move(reservation));
  return {.id = id, .bytes = bytes};
}

std::uint64_t ShardStore::buffer_bytes(std::uint64_t bytes) const noexcept {
  return impl_->buffer_bytes(bytes);
}

std::uint64_t ShardStore::chunk_bytes() const noexcept { return impl_->chunk_bytes; }

std::uint64_t ShardStore::disk_bytes(std::uint64_t bytes) { return round_up(bytes, kBlock); }

}  // namespace strata::tiering
