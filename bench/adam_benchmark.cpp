/// Hop 7's arithmetic beside what memory allows: for every state format, an update and a pass over
/// the same streams with an addition as its only arithmetic ("roofline"), in turns. The last lines
/// are medians of the paired ratios. Also, with --serve, one side of the comparison with other
/// optimizers in bench/peers/.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "hop7_states.h"
#include "median.h"

namespace {

using strata::MasterFormat;
using strata::MomentFormat;
using strata::Precision;
using strata::StateFormat;
using strata::optim_cpu::AdamOptions;
using strata::optim_cpu::ComputeThreads;
using strata::tool::Hop7States;
using strata::tool::median;

constexpr std::uint64_t kElements = 100'000'000;
constexpr int kRounds = 9;

struct Contestant {
  std::string name;
  StateFormat format;
  Precision gradient;
};

StateFormat format_of(Precision precision, MomentFormat moments, MasterFormat master) {
  StateFormat format = precision;
  format.moments = moments;
  format.master = master;
  return format;
}

std::vector<Contestant> all_contestants() {
  constexpr auto kFull = MasterFormat::kFp32;
  constexpr auto k24Bit = MasterFormat::k24Bit;
  constexpr Precision kBf16 = Precision::kBf16;
  return {
      {"fp32", Precision::kFp32, Precision::kFp32},
      {"bf16_fp32_moments", format_of(kBf16, MomentFormat::kFp32, kFull), kBf16},
      {"bf16_bf16_moments", format_of(kBf16, MomentFormat::kBf16, kFull), kBf16},
      {"bf16_int8_moments", format_of(kBf16, MomentFormat::kInt8, kFull), kBf16},
      {"bf16_int8_moments_24bit", format_of(kBf16, MomentFormat::kInt8, k24Bit), kBf16},
      {"fp16_fp32_moments", Precision::kFp16, Precision::kFp16},
  };
}

double seconds_of(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// ---- against the roofline ---------------------------------------------------------------------

/// Each iteration times a stream and an update, one after the other.
void compare_with_roofline(benchmark::State& state, const Contestant& contestant, int threads) {
  ComputeThreads compute(threads);
  Hop7States states(contestant.format, contestant.gradient, kElements);
  const AdamOptions options{.weight_decay = 0.01};
  std::int64_t step = 0;
  states.update(options, ++step, compute);
  std::vector<double> shares;
  std::vector<double> updates;
  for (auto _ : state) {
    const double stream = seconds_of([&] { states.stream(compute); });
    const double update = seconds_of([&] { states.update(options, ++step, compute); });
    state.SetIterationTime(update);
    shares.push_back(stream / update);
    updates.push_back(update);
  }
  state.counters["Gparam/s"] = static_cast<double>(states.elements()) / median(updates) / 1e9;
  state.counters["GB/s"] = static_cast<double>(states.bytes_moved()) / median(updates) / 1e9;
  state.counters["of_roofline"] = median(shares);
}

void register_benchmarks() {
  for (const Contestant& contestant : all_contestants()) {
    std::vector<int> threads = {1};
    if (const int all = ComputeThreads().threads(); all > 1) threads.push_back(all);
    for (const int count : threads) {
      const std::string name = contestant.name + "/threads:" + std::to_string(count);
      benchmark::RegisterBenchmark(name.c_str(), compare_with_roofline, contestant, count)
          ->Iterations(kRounds)
          ->UseManualTime()
          ->Unit(benchmark::kMillisecond);
    }
  }
}

// ---- beside other optimizers ------------------------------------------------------------------

/// Reads lines "NAME THREADS" and answers each with the seconds of one update. The states of the
/// contestant named last are kept.
int serve() {
  const std::vector<Contestant> contestants = all_contestants();
  const AdamOptions options{.weight_decay = 0.01};
  std::map<std::string, std::unique_ptr<Hop7States>> states;
  std::int64_t step = 0;
  std::string name;
  int threads = 0;
  while (std::cin >> name >> threads) {
    const auto found = std::ranges::find(contestants, name, &Contestant::name);
    if (found == contestants.end()) {
      std::cerr << "adam_benchmark: no contestant is called " << name << "\n";
      return 2;
    }
    ComputeThreads compute(threads);
    std::unique_ptr<Hop7States>& own = states[name];
    if (!own) {
      own = std::make_unique<Hop7States>(found->format, found->gradient, kElements);
      own->update(options, ++step, compute);
    }
    std::cout << seconds_of([&] { own->update(options, ++step, compute); }) << std::endl;
  }
  return 0;
}

}  // namespace

int main(int count, char** arguments) {
  if (count == 2 && std::strcmp(arguments[1], "--serve") == 0) return serve();
  benchmark::Initialize(&count, arguments);
  if (benchmark::ReportUnrecognizedArguments(count, arguments)) return 2;
  register_benchmarks();
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
