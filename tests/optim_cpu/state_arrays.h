#pragma once

#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "optim_cpu/moment_reference.h"
#include "strata/optim_cpu/convert.h"
#include "strata/optim_cpu/update.h"
#include "support/same_bytes.h"

namespace strata::optim_cpu {

/// Numbers of mean 0 and variance 1, most of them near 0: each the sum of four even ones out of one
/// step of Knuth's linear congruential generator. Tests fill many states, and drawing a number of a
/// true normal distribution takes them longer than the updates do, under a sanitizer above all.
class BellCurve {
 public:
  explicit BellCurve(std::uint64_t seed) : bits_(seed) {}

  float operator()() {
    bits_ = bits_ * 6364136223846793005u + 1442695040888963407u;
    const std::uint64_t sum =
        (bits_ & 0xFFFF) + (bits_ >> 16 & 0xFFFF) + (bits_ >> 32 & 0xFFFF) + (bits_ >> 48);
    constexpr float kMean = 2 * 65535.0f;
    constexpr float kDeviation = 65536 / 1.7320508f;
    return (static_cast<float>(sum) - kMean) / kDeviation;
  }

 private:
  std::uint64_t bits_;
};

inline constexpr std::array kStateKinds = {StateKind::kWeight, StateKind::kMaster, StateKind::kM,
                                           StateKind::kV, StateKind::kGradient};

/// The states of a shard in plain memory, with `offset` elements in front of them so that tests can
/// put them on any alignment that their elements allow.
class StateArrays {
 public:
  StateArrays(const StateFormat& format, Precision gradient_format, std::size_t count,
              std::size_t offset = 0)
      : format_(format), gradient_format_(gradient_format), count_(count), offset_(offset) {
    for (const StateKind kind : kStateKinds)
      bytes_[index(kind)].resize((count + offset) * element_bytes(kind));
  }

  /// Fills every state from functions that give the next fp32 value.
  void fill(const std::function<float()>& next_master, const std::function<float()>& next_m,
            const std::function<float()>& next_v, const std::function<float()>& next_gradient) {
    std::vector<float> masters(count_);
    std::vector<float> gradients(count_);
    for (std::size_t i = 0; i < count_; ++i) {
      masters[i] = next_master();
      gradients[i] = next_gradient();
    }
    split_master(format_, masters, data(StateKind::kWeight), data(StateKind::kMaster));
    set_gradients(gradients);
    for (std::size_t begin = 0; begin < count_; begin += kBlock) {
      const std::size_t count = std::min(kBlock, count_ - begin);
      MomentValues m{};
      MomentValues v{};
      for (std::size_t i = 0; i < count; ++i) {
        m[i] = next_m();
        v[i] = next_v();
      }
      write_moments(span(), begin, count, m, v, /*dither_key=*/1);
    }
  }

  /// States as they are in the middle of a training run.
  void fill_plausibly(std::uint64_t seed) {
    BellCurve next(seed);
    fill([&] { return 0.5f * next(); }, [&] { return 0.01f * next(); },
         [&] {
           const float root = 0.01f * next();
           return root * root;
         },
         [&] { return 0.02f * next(); });
  }

  void fill_gradient_plausibly(std::uint64_t seed) {
    BellCurve next(seed);
    std::vector<float> gradients(count_);
    for (float& gradient : gradients) gradient = 0.02f * next();
    set_gradients(gradients);
  }

  void set_gradients(std::span<const float> gradients) {
    split_master(gradient_format_, gradients, data(StateKind::kGradient), nullptr);
  }

  [[nodiscard]] UpdateSpan span() {
    return {.format = format_,
            .gradient_format = gradient_format_,
            .count = count_,
            .weight = data(StateKind::kWeight),
            .master = data(StateKind::kMaster),
            .m = data(StateKind::kM),
            .v = data(StateKind::kV),
            .gradient = data(StateKind::kGradient)};
  }

  [[nodiscard]] std::vector<float> masters() {
    std::vector<float> values(count_);
    join_master(format_, data(StateKind::kWeight), data(StateKind::kMaster), values);
    return values;
  }

  struct Moments {
    std::vector<float> m, v;
  };
  [[nodiscard]] Moments moments() {
    Moments values{std::vector<float>(count_), std::vector<float>(count_)};
    for (std::size_t begin = 0; begin < count_; begin += kBlock) {
      const std::size_t count = std::min(kBlock, count_ - begin);
      MomentValues m{};
      MomentValues v{};
      read_moments(span(), begin, count, m, v);
      std::copy_n(m.begin(), count, values.m.begin() + static_cast<std::ptrdiff_t>(begin));
      std::copy_n(v.begin(), count, values.v.begin() + static_cast<std::ptrdiff_t>(begin));
    }
    return values;
  }

  [[nodiscard]] std::size_t count() const { return count_; }
  [[nodiscard]] const StateFormat& format() const { return format_; }
  [[nodiscard]] std::uint64_t element_bytes(StateKind kind) const {
    return kind == StateKind::kGradient ? weight_bytes(gradient_format_)
                                        : state_bytes(format_, kind);
  }
  /// Null for a state that the format has not.
  [[nodiscard]] void* data(StateKind kind) {
    if (element_bytes(kind) == 0) return nullptr;
    return bytes_[index(kind)].data() + offset_ * element_bytes(kind);
  }
  [[nodiscard]] std::span<std::byte> bytes(StateKind kind) {
    return std::span(bytes_[index(kind)]).subspan(offset_ * element_bytes(kind));
  }
  [[nodiscard]] std::span<const std::byte> bytes(StateKind kind) const {
    return std::span(bytes_[index(kind)]).subspan(offset_ * element_bytes(kind));
  }

 private:
  static std::size_t index(StateKind kind) { return static_cast<std::size_t>(kind); }

  StateFormat format_;
  Precision gradient_format_;
  std::size_t count_;
  std::size_t offset_;
  std::array<std::vector<std::byte>, kStateKindCount> bytes_;
};

/// Whether two arrays of fp32 hold the same bits. One NaN is as good as another: which operand's
/// payload survives an operation is the instruction set's choice.
inline bool same_fp32(std::span<const std::byte> left, std::span<const std::byte> right) {
  if (support::same_bytes(left, right)) return true;
  for (std::size_t at = 0; at < left.size(); at += sizeof(float)) {
    if (std::memcmp(&left[at], &right[at], sizeof(float)) == 0) continue;
    float a = 0;
    float b = 0;
    std::memcpy(&a, &left[at], sizeof a);
    std::memcpy(&b, &right[at], sizeof b);
    if (!std::isnan(a) || !std::isnan(b)) return false;
  }
  return true;
}

/// Succeeds when all states of both have the same bits; else names the states that differ.
inline ::testing::AssertionResult same_bits(const StateArrays& left, const StateArrays& right) {
  std::string differing;
  for (const StateKind kind : kStateKinds) {
    const auto a = left.bytes(kind);
    const auto b = right.bytes(kind);
    const bool same =
        left.element_bytes(kind) == sizeof(float) ? same_fp32(a, b) : support::same_bytes(a, b);
    if (!same) differing.append(" ").append(name_of(kind));
  }
  if (differing.empty()) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "differ in" << differing;
}

}  // namespace strata::optim_cpu
