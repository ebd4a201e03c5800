#include "strata/aio/path_trial.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <optional>
#include <random>
#include <string>
#include <utility>

#include "aio/aligned_memory.h"
#include "strata/aio/disk.h"
#include "strata/aio/io_file.h"
#include "strata/aio/stripe.h"
#include "strata/base/error.h"
#include "strata/base/units.h"

namespace strata::aio {
namespace {

constexpr std::chrono::milliseconds kTime{100};  // time for each direction
constexpr std::uint64_t kFileBytes = 64_MiB;
constexpr std::uint64_t kOperationBytes = 1_MiB;
constexpr std::size_t kOperations = 8;  // operations in flight at once
constexpr std::size_t kAlignment = 64_KiB;

/// Transfers one after the other, `kOperations` of them in flight, until the time is over. Returns
/// how many bytes of the file, from its start, they have reached.
std::uint64_t transfer(Submitter& queue, const IoFile& file, OpKind kind, std::byte* memory,
                       std::uint64_t file_bytes, PathMeter& meter, const Clock& clock) {
  const std::size_t operations_max = std::min<std::size_t>(kOperations, queue.operations_max());
  std::array<std::optional<IoTicket>, kOperations> tickets;
  const Time end = clock.now() + kTime;
  std::uint64_t bytes = 0;
  for (std::size_t i = 0; bytes == 0 || clock.now() < end; ++i) {
    std::optional<IoTicket>& ticket = tickets[i % operations_max];
    if (ticket) ticket->wait();
    ticket =
        queue.submit({.kind = kind,
                      .file = &file,
                      .offset = bytes % file_bytes,
                      .buffer = {memory + i % operations_max * kOperationBytes, kOperationBytes},
                      .meter = &meter});
    bytes += kOperationBytes;
  }
  for (std::optional<IoTicket>& ticket : tickets) {
    if (ticket) ticket->wait();
  }
  return std::min(bytes, file_bytes);
}

PathBandwidth try_path(Submitter& queue, const std::filesystem::path& directory, std::byte* memory,
                       const Clock& clock) {
  PathMeter meter;
  IoFile file = IoFile::create_scratch(directory);
  file.preallocate(kFileBytes);
  // Blocks that are allocated but never written would be read without the disk.
  const std::uint64_t written =
      transfer(queue, file, OpKind::kWrite, memory, kFileBytes, meter, clock);
  transfer(queue, file, OpKind::kRead, memory, written, meter, clock);
  return bandwidth_of(meter.totals());
}

/// Disks that compress must find something to do.
void fill_with_noise(std::byte* memory, std::size_t bytes) {
  std::mt19937_64 random;
  for (std::size_t i = 0; i < bytes; i += sizeof(std::uint64_t)) {
    const std::uint64_t word = random();
    std::memcpy(memory + i, &word, sizeof word);
  }
}

/// The number of the directories on the disk of each.
std::vector<std::size_t> count_neighbours(std::span<const std::filesystem::path> directories) {
  std::vector<DiskDescription> disks;
  for (const auto& directory : directories) disks.push_back(describe_disk(directory));
  return paths_on_the_disk_of(disks);
}

std::string describe(const std::filesystem::path& directory, const PathBandwidth& bandwidth,
                     double share, std::size_t neighbours) {
  std::array<char, 96> text{};
  std::snprintf(text.data(), text.size(), " reads %.2f GB/s, writes %.2f GB/s, takes %.0f %%",
                bandwidth.read / 1e9, bandwidth.write / 1e9, share * 100);
  std::string line = directory.string() + text.data();
  if (neighbours > 1) {
    line += " (its part of one disk that holds " + std::to_string(neighbours) +
            " of the directories, which gains nothing)";
  }
  return line;
}

}  // namespace

std::vector<PathBandwidth> try_paths(Submitter& queue,
                                     std::span<const std::filesystem::path> directories,
                                     Logger& log, const Clock& clock) {
  std::vector<PathBandwidth> bandwidths(directories.size());
  if (directories.size() <= 1) return bandwidths;
  AlignedMemory memory = make_zeroed_memory(kAlignment, kOperations * kOperationBytes);
  fill_with_noise(memory.get(), kOperations * kOperationBytes);
  std::vector<std::size_t> neighbours;
  try {
    neighbours = count_neighbours(directories);
    for (std::size_t i = 0; i < directories.size(); ++i) {
      const PathBandwidth alone = try_path(queue, directories[i], memory.get(), clock);
      const auto parts = static_cast<double>(neighbours[i]);
      bandwidths[i] = {.read = alone.read / parts, .write = alone.write / parts};
    }
  } catch (const DeadlineExceeded&) {
    // Left behind on purpose: the kernel may still write to it.
    [[maybe_unused]] std::byte* const lent_for_ever = memory.release();
    throw;
  } catch (const IoError& error) {
    log.warning("nvme directories: not tried, they begin with equal shares (" +
                std::string(error.what()) + ")");
    return std::vector<PathBandwidth>(directories.size());
  }
  std::vector<double> shares(directories.size());
  shares_of(bandwidths, shares);
  std::string line;
  for (std::size_t i = 0; i < directories.size(); ++i) {
    line += (i == 0 ? "nvme directories: " : "; ") +
            describe(directories[i], bandwidths[i], shares[i], neighbours[i]);
  }
  log.info(line);
  return bandwidths;
}

}  // namespace strata::aio
