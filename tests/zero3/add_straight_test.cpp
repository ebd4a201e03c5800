#include "zero3/add_straight.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <vector>

#include "strata/base/units.h"
#include "strata/optim_cpu/compute_threads.h"
#include "strata/optim_cpu/convert.h"

namespace strata::zero3::add_straight_test {
namespace {

using optim_cpu::SumOfSquares;
using torch::Tensor;

constexpr std::uint64_t kBegin = 5 * optim_cpu::kGradientBlockElements;

struct Formats {
  Precision precision;
  bool home_fp32, first;
};

std::vector<Formats> all_formats() {
  std::vector<Formats> all;
  for (const Precision precision : {Precision::kBf16, Precision::kFp16, Precision::kFp32}) {
    for (const bool home_fp32 : {true, false}) {
      for (const bool first : {true, false}) all.push_back({precision, home_fp32, first});
    }
  }
  return all;
}

/// A unit's gradient from element kBegin on: the rest of a matrix that threads share, parameters
/// with padding behind them, some of them without a gradient.
std::vector<GradientStretch> stretches(Precision precision) {
  torch::manual_seed(1);
  std::vector<GradientStretch> all;
  std::uint64_t at = kBegin;
  const auto add = [&](std::int64_t count, bool has_gradient) {
    const std::uint64_t end = at + static_cast<std::uint64_t>(count);
    const Tensor values = torch::randn({count}).to(scalar_type(precision));
    all.push_back({at, end, has_gradient ? values : Tensor()});
    at = end;
  };
  add(300'037, true);
  add(64 - 300'037 % 64, false);
  add(5, true);
  add(59 + 200'000, false);  // padding, and parameters without a gradient
  add(128, true);
  add(64, true);
  add(1, true);
  add(63, false);
  return all;
}

/// What the home holds of the micro-batches before: also where now there is no gradient, but for
/// padding; -0 too.
Tensor home_before(const std::vector<GradientStretch>& gradient, torch::ScalarType format) {
  const auto number = [](std::uint64_t element) {
    return static_cast<std::int64_t>(element - kBegin);
  };
  torch::manual_seed(2);
  Tensor home = torch::randn({number(gradient.back().end)});
  home.slice(0, 0, home.numel(), 7).fill_(-0.0);
  for (const GradientStretch& stretch : gradient) {
    const std::uint64_t end = round_up(stretch.end, optim_cpu::kGradientBlockElements);
    if (stretch.values.defined()) home.slice(0, number(stretch.end), number(end)).zero_();
  }
  return home.to(format);
}

GradientHome home_over(Tensor& home, const Formats& formats) {
  return {.precision = formats.precision,
          .fp32 = formats.home_fp32,
          .first = formats.first,
          .bytes = {static_cast<std::byte*>(home.mutable_data_ptr()), home.nbytes()}};
}

TEST(AddStraight, HasTheBitsOfPackingDrainingAndAdding) {
  optim_cpu::ComputeThreads one_thread(1);
  for (const Formats& formats : all_formats()) {
    const std::vector<GradientStretch> gradient = stretches(formats.precision);
    const std::uint64_t count = gradient.back().end - kBegin;
    const torch::ScalarType home_format =
        formats.home_fp32 ? torch::kFloat32 : scalar_type(formats.precision);
    Tensor packed = torch::zeros({static_cast<std::int64_t>(count)},
                                 torch::TensorOptions(scalar_type(formats.precision)));
    for (const GradientStretch& stretch : gradient) {
      if (!stretch.values.defined()) continue;
      packed
          .slice(0, static_cast<std::int64_t>(stretch.begin - kBegin),
                 static_cast<std::int64_t>(stretch.end - kBegin))
          .copy_(stretch.values);
    }
    Tensor expected = home_before(gradient, home_format);
    const SumOfSquares squares = optim_cpu::accumulate_gradient(
        one_thread, formats.precision, formats.home_fp32, formats.first, count,
        packed.const_data_ptr(), expected.mutable_data_ptr());
    for (const int thread_count : {1, 2, 3}) {
      optim_cpu::ComputeThreads threads(thread_count);
      Tensor home = home_before(gradient, home_format);
      EXPECT_EQ(add_straight(gradient, home_over(home, formats), threads), squares);
      EXPECT_EQ(std::memcmp(home.const_data_ptr(), expected.const_data_ptr(), home.nbytes()), 0)
          << name_of(formats.precision) << (formats.home_fp32 ? " to fp32" : "")
          << (formats.first ? ", the first" : "");
    }
  }
}

TEST(AddStraight, NoticesAValueThatIsNotFiniteInAParametersLastElement) {
  const Formats formats{Precision::kBf16, false, true};
  optim_cpu::ComputeThreads threads;
  for (const std::size_t of : {0u, 2u, 6u}) {
    std::vector<GradientStretch> gradient = stretches(formats.precision);
    gradient[of].values[-1] = std::numeric_limits<float>::infinity();
    Tensor home = home_before(gradient, torch::kBFloat16);
    EXPECT_FALSE(add_straight(gradient, home_over(home, formats), threads).finite()) << of;
  }
}

}  // namespace
}  // namespace strata::zero3::add_straight_test
