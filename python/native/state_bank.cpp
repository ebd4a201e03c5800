#include "state_bank.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>
#include <utility>

#include "strata/base/error.h"
#include "strata/base/units.h"
#include "strata/optim_cpu/convert.h"
#include "strata/tiering/movement.h"
#include "strata/tiering/start_transfer.h"

namespace strata::python {
namespace {

constexpr std::uint64_t kSlabBytes = 256_KiB;  // what small states are cut from
constexpr std::uint64_t kSmallBytes = 64_KiB;  // shorter states share a slab
constexpr std::uint64_t kPieceAlignment = 64;
/// What a tail takes at most, with its share of a slab's end.
constexpr std::uint64_t kTailBytes = 2048;
constexpr std::uint64_t kChunkBytes = 1_MiB, kSmallestChunkBytes = 64_KiB;
constexpr std::uint64_t kWindowElements = 1u << 20;

constexpr std::array kKept = {StateKind::kMaster, StateKind::kM, StateKind::kV};

std::uint64_t elements_of(const NewParameter& parameter) {
  std::uint64_t count = 1;
  for (const std::int64_t length : parameter.shape) count *= static_cast<std::uint64_t>(length);
  if (count == 0) {
    throw ConfigError("parameter '" + parameter.name + "' has no elements; leave it out");
  }
  return count;
}

StateFormat format_of(const BankOptions& options, Precision precision) {
  StateFormat format(precision);
  if (precision == Precision::kBf16) format.master = options.master;
  format.moments = options.moments;
  format.has_m = options.has_m;
  format.has_v = options.has_v;
  return format;
}

std::uint64_t kept_bytes(const StateFormat& format, std::uint64_t count) {
  std::uint64_t bytes = 0;
  for (const StateKind kind : kKept) bytes += count * state_bytes(format, kind);
  return bytes;
}

/// The windows for shards of every precision that use at most a quarter of the host budget; the
/// smallest ones where that is too little.
optim_cpu::WindowPipeline::Options windows_for(const BankOptions& options) {
  optim_cpu::WindowPipeline::Options windows;
  windows.shards_max = 1024;
  for (const Precision precision : {Precision::kFp32, Precision::kBf16, Precision::kFp16}) {
    windows.formats.push_back(format_of(options, precision));
  }
  windows.window_elements = options.window_elements;
  if (options.window_elements != 0 || options.directories.empty()) {
    if (windows.window_elements == 0) windows.window_elements = kWindowElements;
    return windows;
  }
  windows.window_elements = kWindowElements;
  while (windows.window_elements > kSmallestChunkBytes &&
         optim_cpu::WindowPipeline::arena_bytes(windows) > options.host_bytes / 4) {
    windows.window_elements /= 2;
  }
  return windows;
}

/// The largest chunk that the windows consist of, even of a state of one byte.
std::uint64_t chunk_bytes_for(const BankOptions& options) {
  const std::uint64_t elements = windows_for(options).window_elements;
  if (elements % kChunkBytes == 0) return kChunkBytes;
  if (elements % kSmallestChunkBytes == 0) return kSmallestChunkBytes;
  throw ConfigError("window_elements is " + std::to_string(elements) +
                    "; it has to be a multiple of " + std::to_string(kSmallestChunkBytes));
}

tiering::Tiers::Options tiers_for(const BankOptions& options) {
  tiering::Tiers::Options tiers{.host_bytes = options.host_bytes,
                                .nvme_bytes = options.nvme_bytes,
                                .directories = options.directories,
                                .chunk_bytes = chunk_bytes_for(options)};
  tiers.io.backend = options.io;
  tiers.io.operations_max = 1024;  // the windows' transfers, times the directories
  return tiers;
}

}  // namespace

/// A part of a state as it is read and written.
struct StateBank::Piece {
  const tiering::StateHome* home;
  std::uint64_t bytes;
};

StateBank::StateBank(const BankOptions& options)
    : options_(options), threads_(options.threads), tiers_(tiers_for(options), counters_, log_) {
  make_pipeline();
}

void StateBank::make_pipeline() {
  pipeline_ = std::make_unique<optim_cpu::WindowPipeline>(windows_for(options_), tiers_.places(),
                                                          tiers_.host_arena(), threads_, counters_);
  tiers_.register_memory(pipeline_->memory(), "optimizer windows", /*by_disk=*/true);
}

// ---- homes --------------------------------------------------------------------------------------

std::span<std::byte> StateBank::take_host(std::uint64_t bytes, std::string_view what) {
  if (bytes >= kSmallBytes) return tiers_.host_arena().take(bytes, what);
  const std::uint64_t taken = round_up(bytes, kPieceAlignment);
  if (slab_.size() < taken) slab_ = tiers_.host_arena().take(kSlabBytes, "small states");
  const std::span<std::byte> piece = slab_.first(bytes);
  slab_ = slab_.subspan(taken);
  return piece;
}

tiering::StateHome StateBank::take_home(tiering::Tier tier, std::uint64_t bytes,
                                        const std::string& what) {
  if (bytes == 0) return {};
  if (tier == tiering::Tier::kNvme) {
    states_on_nvme_ += bytes;
    return tiers_.take_home(tier, bytes, what);
  }
  states_in_host_ += bytes;
  return {.memory = take_host(bytes, what)};
}

/// Whether host memory has room for states of these bytes beside `kept_free`.
bool StateBank::has_room(std::span<const std::uint64_t> states, std::uint64_t kept_free) {
  const tiering::Budget& host = tiers_.budget(tiering::Tier::kHost);
  std::uint64_t slab = slab_.size(), taken = kept_free;
  for (const std::uint64_t bytes : states) {
    if (bytes >= kSmallBytes) {
      taken += round_up(bytes, tiering::HostArena::kGranularity);
      continue;
    }
    const std::uint64_t piece = round_up(bytes, kPieceAlignment);
    if (slab < piece) {
      taken += kSlabBytes;
      slab = kSlabBytes;
    }
    slab -= piece;
  }
  return taken <= host.limit() - host.used();
}

BankParameter StateBank::make_parameter(const NewParameter& given, std::size_t index,
                                        tiering::Tier tier) {
  const std::uint64_t count = elements_of(given);
  const StateFormat format = format_of(options_, given.precision);
  BankParameter parameter{
      .name = given.name, .shape = given.shape, .count = count, .group = given.group};
  if (format.moments == MomentFormat::kInt8) parameter.tail_count = count % kMomentBlockElements;

  const auto shard_of = [&](std::uint64_t first, std::uint64_t elements, tiering::Tier at) {
    optim_cpu::ShardStates shard;
    shard.count = elements;
    shard.format = format;
    shard.sequence = index;
    shard.first_element = first;
    const auto home = [&](StateKind kind) {
      return take_home(at, elements * state_bytes(format, kind),
                       given.name + " " + std::string(name_of(kind)));
    };
    shard.master = home(StateKind::kMaster);
    shard.m = home(StateKind::kM);
    shard.v = home(StateKind::kV);
    return shard;
  };
  const std::uint64_t body = count - parameter.tail_count;
  if (body > 0) parameter.body = shard_of(0, body, tier);
  if (parameter.tail_count > 0) {
    parameter.tail = shard_of(body, kMomentBlockElements, tiering::Tier::kHost);
    const std::uint64_t bytes = kMomentBlockElements * weight_bytes(format.precision);
    parameter.tail->weight.memory = take_host(bytes, given.name + " weight");
    parameter.tail->gradient.memory =
        take_host(kMomentBlockElements * sizeof(float), given.name + " gradient");
  }
  return parameter;
}

void StateBank::add(const std::vector<NewParameter>& parameters) {
  std::vector<std::uint64_t> bytes;
  bytes.reserve(parameters.size());
  for (const NewParameter& parameter : parameters) {
    bytes.push_back(kept_bytes(format_of(options_, parameter.precision), elements_of(parameter)));
  }
  // The smallest states go to host memory first: there they cost a disk no requests.
  std::vector<std::size_t> by_size(parameters.size());
  std::iota(by_size.begin(), by_size.end(), 0);
  std::ranges::stable_sort(by_size, {}, [&](std::size_t i) { return bytes[i]; });
  // The padded tails of int8 moments rest in host memory wherever their parameter does.
  std::uint64_t tails =
      options_.moments == MomentFormat::kInt8 ? parameters.size() * kTailBytes : 0;
  std::vector<BankParameter> made(parameters.size());
  for (const std::size_t i : by_size) {
    const StateFormat format = format_of(options_, parameters[i].precision);
    std::vector<std::uint64_t> states;
    states.reserve(kKept.size());
    for (const StateKind kind : kKept) {
      states.push_back(elements_of(parameters[i]) * state_bytes(format, kind));
    }
    const std::uint64_t kept_free = tails > 0 ? tails + kSlabBytes : 0;
    const bool in_host = !tiers_.has_nvme() || has_room(states, kept_free);
    made[i] = make_parameter(parameters[i], parameters_.size() + i,
                             in_host ? tiering::Tier::kHost : tiering::Tier::kNvme);
    if (tails > 0) tails -= kTailBytes;
  }
  for (BankParameter& parameter : made) {
    parameters_.push_back(std::move(parameter));
    BankParameter& kept = parameters_.back();
    for (auto* const shard : {&kept.body, &kept.tail}) {
      if (*shard) (*shard)->name = kept.name;
    }
  }
}

BankUsage StateBank::usage() {
  const CounterReading counted = counters_.read();
  const tiering::Budget& host = tiers_.budget(tiering::Tier::kHost);
  return {.host_bytes = host.used(),
          .host_peak = host.peak(),
          .nvme_bytes = tiers_.budget(tiering::Tier::kNvme).used(),
          .states_in_host = states_in_host_,
          .states_on_nvme = states_on_nvme_,
          .bytes_fetched = counted[Hop::kFetch].bytes,
          .bytes_flushed = counted[Hop::kFlush].bytes,
          .io = tiers_.queue() != nullptr ? tiers_.queue()->description() : ""};
}

// ---- states -------------------------------------------------------------------------------------

std::uint64_t StateBank::bytes_of(const BankParameter& parameter, StateKind kind) {
  const StateFormat& format = parameter.format();
  const bool in_blocks = kind != StateKind::kMaster && format.moments == MomentFormat::kInt8;
  const std::uint64_t elements =
      in_blocks ? round_up(parameter.count, kMomentBlockElements) : parameter.count;
  return elements * state_bytes(format, kind);
}

std::vector<StateBank::Piece> StateBank::pieces_of(const BankParameter& parameter,
                                                   StateKind kind) const {
  std::vector<Piece> pieces;
  std::uint64_t left = bytes_of(parameter, kind);
  for (const auto* const shard : {&parameter.body, &parameter.tail}) {
    if (!*shard || left == 0) continue;
    const std::uint64_t held = (*shard)->count * state_bytes((*shard)->format, kind);
    pieces.push_back({&home_of(**shard, kind), std::min(held, left)});
    left -= pieces.back().bytes;
  }
  return pieces;
}

/// The windows are nobody's between steps.
std::uint64_t StateBank::staging_bytes() const {
  const std::uint64_t chunk = tiers_.has_nvme() ? chunk_bytes_for(options_) : 1;
  return pipeline_->memory().size() / chunk * chunk;
}

void StateBank::read(const BankParameter& parameter, StateKind kind,
                     const std::function<void(std::span<const std::byte>)>& take) {
  for (const Piece& piece : pieces_of(parameter, kind)) {
    if (!piece.home->extent) {
      take(piece.home->memory.first(piece.bytes));
      continue;
    }
    const std::span<std::byte> staging = pipeline_->memory().first(staging_bytes());
    for (std::uint64_t at = 0; at < piece.bytes; at += staging.size()) {
      const tiering::ByteRange range{at, std::min<std::uint64_t>(staging.size(), piece.bytes - at)};
      start_transfer(store(), [&] {
        return fetch(*store(), *piece.home->extent, range, staging);
      }).wait();
      take(staging.first(range.bytes));
    }
  }
}

void StateBank::write(BankParameter& parameter, StateKind kind,
                      const std::function<void(std::span<std::byte>)>& give) {
  (kind == StateKind::kMaster ? parameter.has_blank_master : parameter.has_blank_moments) = false;
  for (const Piece& piece : pieces_of(parameter, kind)) {
    if (!piece.home->extent) {
      give(piece.home->memory.first(piece.bytes));
      continue;
    }
    const std::span<std::byte> staging = pipeline_->memory().first(staging_bytes());
    for (std::uint64_t at = 0; at < piece.bytes; at += staging.size()) {
      const tiering::ByteRange range{at, std::min<std::uint64_t>(staging.size(), piece.bytes - at)};
      give(staging.first(range.bytes));
      start_transfer(store(), [&] {
        return flush(*store(), *piece.home->extent, range, staging);
      }).wait();
    }
  }
}

void StateBank::adopt(BankParameter& parameter, const std::byte* weight) {
  const StateFormat& format = parameter.format();
  if (format.precision == Precision::kFp32) return;
  if (format.precision == Precision::kFp16) {
    write(parameter, StateKind::kMaster, [&](std::span<std::byte> masters) {
      const std::size_t count = masters.size() / sizeof(float);
      optim_cpu::join_master(format, weight, nullptr,
                             {reinterpret_cast<float*>(masters.data()), count});
      weight += count * weight_bytes(format.precision);
    });
    return;
  }
  if (parameter.has_blank_master) return;
  write(parameter, StateKind::kMaster,
        [](std::span<std::byte> remainders) { std::ranges::fill(remainders, std::byte{0}); });
  parameter.has_blank_master = true;
}

void StateBank::forget(BankParameter& parameter) {
  parameter.steps = 0;
  if (parameter.has_blank_moments) return;
  for (const StateKind kind : {StateKind::kM, StateKind::kV}) {
    write(parameter, kind, [](std::span<std::byte> m) { std::ranges::fill(m, std::byte{0}); });
  }
  parameter.has_blank_moments = true;
}

}  // namespace strata::python
