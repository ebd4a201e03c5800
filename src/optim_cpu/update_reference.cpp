#include <algorithm>
#include <cmath>

#include "optim_cpu/dither.h"
#include "optim_cpu/moment_reference.h"
#include "optim_cpu/number_values.h"
#include "optim_cpu/reference_kernels.h"

namespace strata::optim_cpu {
namespace {

// ---- the formulas: one element -----------------------------------------------------------------

void update_element(const AdamConstants& k, float& p, float g, float& m, float& v) {
  p = p * k.weight_factor;
  if (k.has_l2) g = std::fma(p, k.l2, g);
  m = std::fma(g, k.one_minus_beta1, m * k.beta1);
  v = std::fma(k.one_minus_beta2 * g, g, v * k.beta2);
  const float denominator = std::sqrt(v) / k.root_bias_correction2 + k.eps;
  p = p + k.negative_step_size * m / denominator;
}

void update_element(const SgdConstants& k, float& p, float g, float& m, float& /*v*/) {
  if (k.has_l2) g = std::fma(p, k.l2, g);
  if (k.has_momentum) {
    m = std::fma(g, k.gradient_share, m * k.momentum);
    g = k.nesterov ? std::fma(m, k.momentum, g) : m;
  }
  p = std::fma(g, k.negative_lr, p);
}

void update_element(const AdagradConstants& k, float& p, float g, float& /*m*/, float& v) {
  if (k.has_l2) g = std::fma(p, k.l2, g);
  v = std::fma(g, g, v);
  p = p + k.negative_step_size * g / (std::sqrt(v) + k.eps);
}

void update_element(const LionConstants& k, float& p, float g, float& m, float& /*v*/) {
  p = p * k.weight_factor;
  const float direction = std::fma(g, k.one_minus_beta1, m * k.beta1);
  if (direction > 0) p = p - k.lr;
  if (direction < 0) p = p + k.lr;
  m = std::fma(g, k.one_minus_beta2, m * k.beta2);
}

// ---- masters -----------------------------------------------------------------------------------

bool has_byte_remainder(const StateFormat& format) {
  return master_bytes(format.precision, format.master) == 1;
}

float read_master(const UpdateSpan& span, std::size_t i) {
  if (span.format.precision == Precision::kFp32) return static_cast<const float*>(span.weight)[i];
  if (span.format.precision == Precision::kFp16) return static_cast<const float*>(span.master)[i];
  const std::uint16_t hi = static_cast<const std::uint16_t*>(span.weight)[i];
  return has_byte_remainder(span.format)
             ? join_hi_lo_24({hi, static_cast<const std::int8_t*>(span.master)[i]})
             : join_hi_lo({hi, static_cast<const std::int16_t*>(span.master)[i]});
}

void write_master(const UpdateSpan& span, std::size_t i, float master, std::uint32_t dither) {
  if (span.format.precision == Precision::kFp32) {
    static_cast<float*>(span.weight)[i] = master;
  } else if (span.format.precision == Precision::kFp16) {
    static_cast<float*>(span.master)[i] = master;
    static_cast<std::uint16_t*>(span.weight)[i] = to_fp16(master);
  } else if (has_byte_remainder(span.format)) {
    const auto [hi, lo] = split_hi_lo_24(master, dither >> kMasterDitherShift & kMasterDitherMask);
    static_cast<std::uint16_t*>(span.weight)[i] = hi;
    static_cast<std::int8_t*>(span.master)[i] = lo;
  } else {
    const auto [hi, lo] = split_hi_lo(master);
    static_cast<std::uint16_t*>(span.weight)[i] = hi;
    static_cast<std::int16_t*>(span.master)[i] = lo;
  }
}

// ---- the pass: block by block ------------------------------------------------------------------

template <class Constants>
void update_span(const Constants& constants, const UpdateSpan& span) {
  const std::uint32_t dither_key = make_dither_key(span.sequence, constants.step_number);
  for (std::size_t begin = 0; begin < span.count; begin += kBlock) {
    const std::size_t count = std::min(kBlock, span.count - begin);
    MomentValues m{};
    MomentValues v{};
    read_moments(span, begin, count, m, v);
    for (std::size_t i = 0; i < count; ++i) {
      float p = read_master(span, begin + i);
      const float g =
          read_value(span.gradient_format, span.gradient, begin + i) * constants.gradient_scale;
      update_element(constants, p, g, m[i], v[i]);
      write_master(span, begin + i, p, dither_bits(dither_key, span.first_element + begin + i));
    }
    write_moments(span, begin, count, m, v, dither_key);
  }
}

}  // namespace

void reference::update(const AdamConstants& constants, const UpdateSpan& span) {
  update_span(constants, span);
}
void reference::update(const SgdConstants& constants, const UpdateSpan& span) {
  update_span(constants, span);
}
void reference::update(const AdagradConstants& constants, const UpdateSpan& span) {
  update_span(constants, span);
}
void reference::update(const LionConstants& constants, const UpdateSpan& span) {
  update_span(constants, span);
}

void update_reference(const OptimizerOptions& options, const UpdateStep& step,
                      const UpdateSpan& span) {
  std::visit([&](const auto& constants) { reference::update(constants, span); },
             constants_of(options, step));
}

}  // namespace strata::optim_cpu
