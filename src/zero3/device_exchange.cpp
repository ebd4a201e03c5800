#include "zero3/device_exchange.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "strata/tiering/movement.h"

namespace strata::zero3 {

using tiering::DeviceSpan;
using tiering::StreamRole;

DeviceExchange::DeviceExchange(const Places& places, Counters& counters)
    : places_(places),
      counters_(counters),
      halves_{Half{places.staging.first(places.staging.size() / 2)},
              Half{places.staging.subspan(places.staging.size() / 2)}} {}

void DeviceExchange::gather(std::span<const DeviceSpan> vectors) {
  if (places_.ranks.size() == 1 || vectors.empty()) return;
  for (const DeviceSpan vector : vectors) received_.weights += from_others(vector.bytes());
  if (is_in_place()) {
    gather_in_place(vectors);
    return;
  }
  places_.device.wait(StreamRole::kDrain, places_.device.record(StreamRole::kUpload));
  for (const DeviceSpan vector : vectors) gather_through_host(vector);
  places_.device.wait(StreamRole::kCompute, places_.device.record(StreamRole::kUpload));
}

void DeviceExchange::gather_in_place(std::span<const DeviceSpan> vectors) {
  std::vector<Collective> under_way;
  for (const DeviceSpan vector : vectors) {
    under_way.push_back(places_.ranks.begin_all_gather(*places_.device.host_view(vector)));
  }
  for (Collective& each : under_way) each.wait();
}

/// Uploads of one piece go on while the next one is drained and exchanged.
void DeviceExchange::gather_through_host(DeviceSpan vector) {
  const auto ranks = static_cast<std::uint64_t>(places_.ranks.size());
  const auto own = static_cast<std::uint64_t>(places_.ranks.rank());
  const std::uint64_t shard = vector.bytes() / ranks;
  const std::uint64_t piece_max = halves_[0].memory.size() / ranks;
  for (std::uint64_t begin = 0; begin < shard; begin += piece_max) {
    const std::uint64_t piece = std::min(piece_max, shard - begin);
    Half& half = halves_[next_half_];
    next_half_ = 1 - next_half_;
    const std::span<std::byte> of_all = free_memory(half).first(ranks * piece);
    tiering::drain(places_.device, vector.subspan(own * shard + begin, piece),
                   of_all.subspan(own * piece, piece), counters_)
        .wait();
    places_.ranks.begin_all_gather(of_all).wait();
    for (std::uint64_t rank = 0; rank < ranks; ++rank) {
      if (rank == own) continue;
      half.uploads.push_back(tiering::upload(places_.device, of_all.subspan(rank * piece, piece),
                                             vector.subspan(rank * shard + begin, piece),
                                             counters_));
    }
  }
}

Reduction DeviceExchange::begin_reduction(DeviceSpan bucket) {
  tiering::Device& device = places_.device;
  received_.gradients += from_others(bucket.bytes());
  if (is_in_place()) {
    return {places_.ranks, *device.host_view(bucket),
            *device.host_view(places_.received.first(bucket.bytes()))};
  }
  const std::span<std::byte> packed = free_memory(halves_[0]).first(bucket.bytes());
  const std::span<std::byte> received = free_memory(halves_[1]).first(bucket.bytes());
  device.wait(StreamRole::kDrain, device.record(StreamRole::kCompute));
  tiering::drain(device, bucket, packed, counters_).wait();
  return {places_.ranks, packed, received};
}

std::span<const std::byte> DeviceExchange::gather_sums(std::span<const std::byte> own) {
  const auto ranks = static_cast<std::uint64_t>(places_.ranks.size());
  const std::uint64_t bytes = ranks * own.size();
  const std::span<std::byte> of_all = is_in_place()
                                          ? *places_.device.host_view(places_.received.first(bytes))
                                          : free_memory(halves_[1]).first(bytes);
  std::ranges::copy(
      own, of_all.subspan(static_cast<std::uint64_t>(places_.ranks.rank()) * own.size()).begin());
  received_.gradients += from_others(bytes);
  places_.ranks.begin_all_gather(of_all).wait();
  return of_all;
}

std::uint64_t DeviceExchange::from_others(std::uint64_t of_all) const {
  const auto ranks = static_cast<std::uint64_t>(places_.ranks.size());
  return of_all / ranks * (ranks - 1);
}

std::span<std::byte> DeviceExchange::free_memory(Half& half) {
  for (tiering::DeviceCopy& upload : half.uploads) upload.wait();
  half.uploads.clear();
  return half.memory;
}

}  // namespace strata::zero3
