/// Hop 7's arithmetic alone: how fast adam_update goes through memory, per precision and number of
/// threads, beside the bytes it must read and write.

#include <benchmark/benchmark.h>
#include <oneapi/tbb/blocked_range.h>
#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/task_arena.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "strata/optim_cpu/adam.h"

namespace {

using strata::Precision;
using strata::StateKind;
using strata::optim_cpu::AdamOptions;
using strata::optim_cpu::AdamSpan;

constexpr std::size_t kElements = 32u << 20;  // far beyond any cache
constexpr std::size_t kBlock = 16u << 10;

struct States {
  explicit States(Precision of, bool fp32_gradient) : precision(of), gradient_fp32(fp32_gradient) {}

  [[nodiscard]] std::uint64_t bytes_of(StateKind kind) const {
    return strata::state_bytes(precision, kind, gradient_fp32);
  }
  [[nodiscard]] AdamSpan span(std::size_t begin, std::size_t end) {
    const auto at = [&](std::vector<std::byte>& state, StateKind kind) {
      return static_cast<void*>(state.data() + begin * bytes_of(kind));
    };
    return {precision,
            gradient_fp32,
            end - begin,
            at(weight, StateKind::kWeight),
            at(master, StateKind::kMaster),
            m.data() + begin,
            v.data() + begin,
            at(gradient, StateKind::kGradient)};
  }

  Precision precision;
  bool gradient_fp32;
  std::vector<std::byte> weight{kElements * bytes_of(StateKind::kWeight)};
  std::vector<std::byte> master{kElements * bytes_of(StateKind::kMaster)};
  std::vector<std::byte> gradient{kElements * bytes_of(StateKind::kGradient)};
  std::vector<float> m = std::vector<float>(kElements), v = std::vector<float>(kElements, 1.0f);
};

void adam(benchmark::State& state, Precision precision, bool gradient_fp32) {
  States states(precision, gradient_fp32);
  const AdamOptions options{.weight_decay = 0.01};
  tbb::task_arena arena(static_cast<int>(state.range(0)));
  std::int64_t step = 0;
  for (auto _ : state) {
    ++step;
    arena.execute([&] {
      tbb::parallel_for(tbb::blocked_range<std::size_t>(0, kElements, kBlock), [&](auto range) {
        adam_update(options, step, 1.0f, states.span(range.begin(), range.end()));
      });
    });
  }
  const std::uint64_t kept =
      states.bytes_of(StateKind::kWeight) + states.bytes_of(StateKind::kMaster) + 2 * sizeof(float);
  const std::uint64_t moved = 2 * kept + states.bytes_of(StateKind::kGradient);
  const double parameters = static_cast<double>(state.iterations()) * kElements;
  state.counters["param/s"] = benchmark::Counter(parameters, benchmark::Counter::kIsRate);
  state.counters["bytes/s"] =
      benchmark::Counter(parameters * static_cast<double>(moved), benchmark::Counter::kIsRate);
}

// Argument: threads.
#define STRATA_ADAM_BENCHMARK(name, ...)     \
  BENCHMARK_CAPTURE(adam, name, __VA_ARGS__) \
      ->Arg(1)                               \
      ->Arg(2)                               \
      ->MinTime(0.5)                         \
      ->UseRealTime()                        \
      ->Unit(benchmark::kMillisecond)

STRATA_ADAM_BENCHMARK(fp32, Precision::kFp32, true);
STRATA_ADAM_BENCHMARK(bf16, Precision::kBf16, false);
STRATA_ADAM_BENCHMARK(bf16_accumulated, Precision::kBf16, true);
STRATA_ADAM_BENCHMARK(fp16, Precision::kFp16, false);

}  // namespace

BENCHMARK_MAIN();
