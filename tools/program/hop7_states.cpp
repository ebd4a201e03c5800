#include "hop7_states.h"

#include <sys/mman.h>

#include <cerrno>
#include <random>
#include <vector>

#include "strata/base/error.h"
#include "strata/base/units.h"
#include "strata/optim_cpu/convert.h"

namespace strata::tool {

using optim_cpu::Block;

namespace {

constexpr std::uint64_t kPage = 2_MiB;
constexpr std::size_t kLine = 64;

/// The memory of the states of all formats.
std::uint64_t total_bytes(const StateFormat& format, Precision gradient, std::uint64_t elements) {
  std::uint64_t bytes = 0;
  for (const StateKind kind :
       {StateKind::kWeight, StateKind::kMaster, StateKind::kM, StateKind::kV}) {
    bytes += round_up(elements * state_bytes(format, kind), kPage);
  }
  return bytes + round_up(elements * weight_bytes(gradient), kPage);
}

/// Cache lines of 16 numbers; the compiler makes one vector of each where there are such.
using Line = std::uint32_t[kLine / sizeof(std::uint32_t)];

struct Streams {
  Line* updated[kStateKindCount - 1];      // read and written
  std::size_t lines[kStateKindCount - 1];  // cache lines for 64 elements
  const Line* gradient;
  std::size_t gradient_lines;
};

#ifndef __SANITIZE_THREAD__  // what chooses a clone would run before ThreadSanitizer is there
__attribute__((target_clones("avx512f", "avx2", "default")))
#endif
void add_to_streams(Streams streams, std::uint64_t blocks, std::uint32_t mask) {
  for (std::uint64_t block = 0; block < blocks; ++block) {
    Line sum = {};
    for (std::size_t line = 0; line < streams.gradient_lines; ++line) {
      for (std::size_t i = 0; i < std::size(sum); ++i) sum[i] += streams.gradient[line][i] & mask;
    }
    streams.gradient += streams.gradient_lines;
    for (std::size_t s = 0; s < std::size(streams.updated); ++s) {
      for (std::size_t line = 0; line < streams.lines[s]; ++line) {
        for (std::size_t i = 0; i < std::size(sum); ++i) streams.updated[s][line][i] += sum[i];
      }
      streams.updated[s] += streams.lines[s];
    }
  }
}

}  // namespace

HugePages::HugePages(std::size_t bytes) : bytes_(round_up(bytes, kPage)) {
  // One more page, so that an aligned part of it can be kept.
  void* start =
      mmap(nullptr, bytes_ + kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (start == MAP_FAILED) {
    throw IoError("no memory for " + format_bytes(bytes) + " of states", errno);
  }
  const auto address = reinterpret_cast<std::uintptr_t>(start);
  const std::uintptr_t aligned = round_up(address, kPage);
  if (aligned > address) munmap(start, aligned - address);
  munmap(reinterpret_cast<void*>(aligned + bytes_), address + kPage - aligned);
  data_ = reinterpret_cast<std::byte*>(aligned);
  madvise(data_, bytes_, MADV_HUGEPAGE);
}

HugePages::~HugePages() { munmap(data_, bytes_); }

Hop7States::Hop7States(const StateFormat& format, Precision gradient_format, std::uint64_t elements)
    : format_(format),
      gradient_format_(gradient_format),
      elements_(round_up(elements, kMomentBlockElements)),
      memory_(total_bytes(format, gradient_format, elements_)) {
  for (int kind = 0; kind < kStateKindCount; ++kind) {
    offsets_[kind + 1] =
        offsets_[kind] + round_up(elements_ * bytes_of(static_cast<StateKind>(kind)), kPage);
  }
  // Weights and gradients as in training; moments start as zeros and fill in the first updates.
  std::mt19937_64 random(1);
  std::normal_distribution<float> normal(0, 0.02f);
  std::vector<float> values(1 << 16);
  for (float& value : values) value = normal(random);
  for (std::uint64_t begin = 0; begin < elements_; begin += values.size()) {
    const std::span part(values.data(), std::min<std::uint64_t>(values.size(), elements_ - begin));
    optim_cpu::split_master(
        format_, part, at(StateKind::kWeight, begin),
        bytes_of(StateKind::kMaster) == 0 ? nullptr : at(StateKind::kMaster, begin));
    optim_cpu::split_master(gradient_format_, part, at(StateKind::kGradient, begin), nullptr);
  }
}

std::uint64_t Hop7States::bytes_of(StateKind kind) const {
  return kind == StateKind::kGradient ? weight_bytes(gradient_format_) : state_bytes(format_, kind);
}

std::byte* Hop7States::at(StateKind kind, std::uint64_t element) const {
  return memory_.data() + offsets_[static_cast<int>(kind)] + element * bytes_of(kind);
}

std::uint64_t Hop7States::bytes_moved() const {
  std::uint64_t bytes = bytes_of(StateKind::kGradient);
  for (const StateKind kind :
       {StateKind::kWeight, StateKind::kMaster, StateKind::kM, StateKind::kV}) {
    // An fp16 weight is a copy of the master that is only written.
    const bool copy = kind == StateKind::kWeight && format_.precision == Precision::kFp16;
    bytes += (copy ? 1 : 2) * bytes_of(kind);
  }
  return bytes * elements_;
}

void Hop7States::update(const optim_cpu::OptimizerOptions& options, std::int64_t step,
                        optim_cpu::ComputeThreads& threads) {
  threads.for_each_block(elements_, optim_cpu::kUpdateElementsAtOnce, [&](Block block) {
    const auto state = [&](StateKind kind) {
      return bytes_of(kind) == 0 ? nullptr : at(kind, block.begin);
    };
    optim_cpu::update(options, {.step = step, .gradient_scale = 0.5f},
                      {.format = format_,
                       .gradient_format = gradient_format_,
                       .count = block.end - block.begin,
                       .weight = state(StateKind::kWeight),
                       .master = state(StateKind::kMaster),
                       .m = state(StateKind::kM),
                       .v = state(StateKind::kV),
                       .gradient = state(StateKind::kGradient),
                       .first_element = block.begin});
  });
}

void Hop7States::stream(optim_cpu::ComputeThreads& threads) {
  static volatile std::uint32_t zero = 0;  // the compiler does not know: nothing may change
  const std::uint32_t mask = zero;
  threads.for_each_block(elements_, optim_cpu::kUpdateElementsAtOnce, [&](Block block) {
    Streams streams{};
    for (int kind = 0; kind < kStateKindCount - 1; ++kind) {
      streams.updated[kind] =
          reinterpret_cast<Line*>(at(static_cast<StateKind>(kind), block.begin));
      streams.lines[kind] = bytes_of(static_cast<StateKind>(kind));
    }
    streams.gradient = reinterpret_cast<const Line*>(at(StateKind::kGradient, block.begin));
    streams.gradient_lines = bytes_of(StateKind::kGradient);
    add_to_streams(streams, (block.end - block.begin) / kMomentBlockElements, mask);
  });
}

}  // namespace strata::tool
