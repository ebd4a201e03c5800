#include "optim_cpu/moment_reference.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "optim_cpu/dither.h"

namespace strata::optim_cpu {
namespace {

bool is_coarse(std::size_t i) { return i < kCoarseCodes; }

std::uint32_t largest_magnitude(const MomentValues& values) {
  std::uint32_t largest = 0;
  for (const float value : values) {
    largest = std::max(largest, std::bit_cast<std::uint32_t>(value) & 0x7FFFFFFF);
  }
  return largest;
}

/// `value` in parts of a step of one code, or two, moved by at most half a step.
float dithered(float value, const BlockScale& scale, bool coarse, std::uint32_t random) {
  const auto part = static_cast<float>(static_cast<std::int32_t>(random));
  return std::fma(value, scale.inverse * (coarse ? 0.5f : 1.0f), part);
}

/// The code of the nearest step.
std::uint8_t code_of(float parts, bool coarse) {
  const std::uint32_t steps = std::bit_cast<std::uint32_t>(parts + kToSteps);
  return static_cast<std::uint8_t>(coarse ? steps << 1 : steps);
}

// ---- int8: m -----------------------------------------------------------------------------------

void read_block_of_m(const std::uint8_t* codes, MomentValues& m) {
  const float unit = scale_of_block(codes) * kUnitOfM;
  for (std::size_t i = 0; i < kBlock; ++i) {
    const std::uint8_t code = is_coarse(i) ? codes[i] & 0xFE : codes[i];
    m[i] = static_cast<float>(static_cast<std::int8_t>(code)) * unit;
  }
}

void write_block_of_m(std::uint8_t* codes, const MomentValues& m, std::uint32_t key,
                      std::uint64_t first) {
  const BlockScale scale = scale_for(largest_magnitude(m), kPartsOfM);
  for (std::size_t i = 0; i < kBlock; ++i) {
    codes[i] = 0;
    if (!scale.finite) continue;
    const std::uint32_t random = std::rotl(dither_bits(key, first + i), static_cast<int>(kHalf));
    codes[i] = code_of(dithered(m[i], scale, is_coarse(i), random), is_coarse(i));
  }
  set_scale_of_block(codes, scale.bits);
}

// ---- int8: v -----------------------------------------------------------------------------------

void read_block_of_v(const std::uint8_t* codes, MomentValues& v) {
  const float unit = scale_of_block(codes) * kUnitOfV;
  for (std::size_t i = 0; i < kBlock; ++i) {
    const std::uint8_t code = is_coarse(i) ? codes[i] & 0xFE : codes[i];
    const float root = static_cast<float>(code) * unit;
    v[i] = root * root;
  }
}

void write_block_of_v(std::uint8_t* codes, const MomentValues& v, std::uint32_t key,
                      std::uint64_t first) {
  MomentValues roots;
  std::ranges::transform(v, roots.begin(), [](float value) { return std::sqrt(value); });
  const BlockScale scale = scale_for(largest_magnitude(roots), kPartsOfV);
  for (std::size_t i = 0; i < kBlock; ++i) {
    codes[i] = 0;
    if (!scale.finite) continue;
    const std::uint32_t random = dither_bits(key, first + i);
    const float parts = dithered(roots[i], scale, is_coarse(i), random);
    codes[i] = code_of(std::max(parts, kPartsOfStep), is_coarse(i));
  }
  set_scale_of_block(codes, scale.bits);
}

// ---- the elementwise formats -------------------------------------------------------------------

void read_values(MomentFormat format, const void* state, std::size_t begin, std::size_t count,
                 MomentValues& values) {
  for (std::size_t i = 0; i < count; ++i) {
    values[i] = format == MomentFormat::kFp32
                    ? static_cast<const float*>(state)[begin + i]
                    : from_bf16(static_cast<const std::uint16_t*>(state)[begin + i]);
  }
}

void write_values(MomentFormat format, void* state, std::size_t begin, std::size_t count,
                  const MomentValues& values, std::uint32_t dither_shift, std::uint32_t key,
                  std::uint64_t first) {
  for (std::size_t i = 0; i < count; ++i) {
    if (format == MomentFormat::kFp32) {
      static_cast<float*>(state)[begin + i] = values[i];
    } else {
      const std::uint32_t random = dither_bits(key, first + i) >> dither_shift & kLowerHalf;
      static_cast<std::uint16_t*>(state)[begin + i] = to_bf16_stochastically(values[i], random);
    }
  }
}

}  // namespace

void read_moments(const UpdateSpan& span, std::size_t begin, std::size_t count, MomentValues& m,
                  MomentValues& v) {
  if (span.format.moments == MomentFormat::kInt8) {
    if (span.m != nullptr) read_block_of_m(static_cast<const std::uint8_t*>(span.m) + begin, m);
    if (span.v != nullptr) read_block_of_v(static_cast<const std::uint8_t*>(span.v) + begin, v);
    return;
  }
  if (span.m != nullptr) read_values(span.format.moments, span.m, begin, count, m);
  if (span.v != nullptr) read_values(span.format.moments, span.v, begin, count, v);
}

void write_moments(const UpdateSpan& span, std::size_t begin, std::size_t count,
                   const MomentValues& m, const MomentValues& v, std::uint32_t dither_key) {
  const std::uint64_t first = span.first_element + begin;
  if (span.format.moments == MomentFormat::kInt8) {
    if (span.m != nullptr) {
      write_block_of_m(static_cast<std::uint8_t*>(span.m) + begin, m, dither_key, first);
    }
    if (span.v != nullptr) {
      write_block_of_v(static_cast<std::uint8_t*>(span.v) + begin, v, dither_key, first);
    }
    return;
  }
  if (span.m != nullptr) {
    write_values(span.format.moments, span.m, begin, count, m, 0, dither_key, first);
  }
  if (span.v != nullptr) {
    write_values(span.format.moments, span.v, begin, count, v, kHalf, dither_key, first);
  }
}

}  // namespace strata::optim_cpu
