#include "tiering/stripe_map.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "strata/base/error.h"
#include "strata/base/units.h"

namespace strata::tiering {
namespace {

/// The smallest change of a share that is worth mentioning.
constexpr double kShareNoticed = 0.005;

std::uint64_t spares_of(std::uint64_t chunks, std::size_t paths) {
  return paths > 1 ? chunks / StripeMap::kChunksPerSpare : 0;
}

}  // namespace

StripeMap::StripeMap(std::span<const aio::PathBandwidth> paths, std::uint64_t chunk_bytes)
    : chunk_bytes_(chunk_bytes),
      files_(paths.size()),
      meters_(paths.size()),
      totals_(paths.size()),
      balancer_(paths),
      shares_(balancer_.shares().begin(), balancer_.shares().end()),
      fitted_(paths.size()),
      ceilings_(paths.size()) {}

std::uint64_t StripeMap::disk_bytes(std::uint64_t bytes, std::uint64_t chunk_bytes,
                                    std::size_t paths) {
  return round_up(bytes, kDiskBlock) + spares_of(bytes / chunk_bytes, paths) * chunk_bytes;
}

// ---- new extents ------------------------------------------------------------------------------

// Deals by the balancer's shares, not by free room: an extent brings its own room.
StripeMap::Deal StripeMap::deal(std::uint64_t bytes, Room room) const {
  const std::uint64_t whole_chunks = bytes / chunk_bytes_;
  const std::uint64_t tail_bytes = round_up(bytes % chunk_bytes_, kDiskBlock);
  Deal deal;
  deal.first_position = next_position_;
  deal.whole_chunks = whole_chunks;
  for (const File& file : files_) deal.ends.push_back(file.end);
  const auto left_on = [&room](std::size_t path) -> std::uint64_t& {
    return room.bytes_of_disk[room.disk_of_path[path]];
  };
  const auto take = [&](std::uint64_t position, std::uint64_t place_bytes) {
    std::size_t path = aio::path_at(position, balancer_.shares());
    for (std::size_t other = 0; left_on(path) < place_bytes && other < paths(); ++other) {
      if (left_on(other) > left_on(path)) path = other;
    }
    left_on(path) -= std::min(place_bytes, left_on(path));
    const ChunkPlace place{path, deal.ends[path]};
    deal.ends[path] += place_bytes;
    return place;
  };
  deal.places.reserve(whole_chunks + 1);
  for (std::uint64_t i = 0; i < whole_chunks; ++i) {
    deal.places.push_back(take(next_position_ + i, chunk_bytes_));
  }
  if (tail_bytes > 0) deal.places.push_back(take(next_position_ + whole_chunks, tail_bytes));
  for (std::uint64_t i = 0; i < spares_of(whole_chunks, paths()); ++i) {
    deal.spares.push_back(take(next_spare_ + i, chunk_bytes_));
  }
  return deal;
}

void StripeMap::adopt(const Deal& deal) {
  STRATA_CHECK(deal.first_position == next_position_, std::to_string(deal.first_position));
  for (std::uint64_t i = 0; i < deal.whole_chunks; ++i) ++files_[deal.places[i].file].slots;
  for (const ChunkPlace spare : deal.spares) ++files_[spare.file].slots;
  for (std::size_t i = 0; i < files_.size(); ++i) {
    files_[i].end = deal.ends[i];
    if (paths() > 1) files_[i].free.reserve(files_[i].slots);
  }
  for (const ChunkPlace spare : deal.spares) release(spare);
  chunks_ += deal.whole_chunks;
  next_position_ += deal.places.size();
  next_spare_ += deal.spares.size();
  fit_shares();
}

// ---- moving -----------------------------------------------------------------------------------

std::optional<ChunkPlace> StripeMap::move(std::uint64_t position, ChunkPlace place) {
  if (paths() == 1) return std::nullopt;
  const std::size_t path = aio::path_at(position, shares_);
  std::vector<std::uint64_t>& free = files_[path].free;
  if (path == place.file || free.empty()) return std::nullopt;
  const ChunkPlace slot{path, free.back()};
  free.pop_back();
  return slot;
}

void StripeMap::release(ChunkPlace slot) {
  File& file = files_[slot.file];
  STRATA_CHECK(file.free.size() < file.slots, "slot at " + std::to_string(slot.offset));
  file.free.push_back(slot.offset);
}

// ---- shares -----------------------------------------------------------------------------------

bool StripeMap::rebalance() {
  if (paths() == 1) return false;
  for (std::size_t i = 0; i < totals_.size(); ++i) totals_[i] = meters_[i].totals();
  if (!balancer_.observe(totals_)) return false;
  return fit_shares();
}

void StripeMap::set_bandwidths(std::span<const aio::PathBandwidth> bandwidths) {
  balancer_.reset(bandwidths);
  fit_shares();
}

bool StripeMap::fit_shares() {
  std::ranges::copy(balancer_.shares(), fitted_.begin());
  if (chunks_ > 0) {
    for (std::size_t i = 0; i < files_.size(); ++i) {
      ceilings_[i] = static_cast<double>(files_[i].slots) / static_cast<double>(chunks_);
    }
    aio::limit_shares(fitted_, ceilings_);
  }
  const bool changed = !std::ranges::equal(shares_, fitted_, [](double before, double after) {
    return std::abs(before - after) < kShareNoticed;
  });
  std::ranges::copy(fitted_, shares_.begin());
  return changed;
}

aio::PathMeter* StripeMap::meter(std::size_t path) noexcept {
  return paths() > 1 ? &meters_[path] : nullptr;
}

std::uint64_t StripeMap::used_slots(std::size_t path) const {
  return files_[path].slots - files_[path].free.size();
}

std::uint64_t StripeMap::free_slots(std::size_t path) const { return files_[path].free.size(); }

}  // namespace strata::tiering
