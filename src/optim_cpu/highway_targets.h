#pragma once

/// \file
/// Include before any of Highway. Keeps to instruction sets with fixed vector lengths, fused
/// multiply-adds and full IEEE arithmetic: only those can give the bits of the reference. All
/// other machines run the reference itself. AVX3_DL is out because Highway 1.0.3 narrows 32-bit
/// lanes to bytes wrongly there (a byte index is given to a permutation of 32-bit lanes).
/// STRATA_BASIC_TARGETS leaves AVX-512 out: a sanitizer's checks of vectors take the compiler
/// minutes for each instruction set, and all of them share one source.

#include "hwy/detect_compiler_arch.h"

#if HWY_ARCH_ARM_V7  // flushes denormals, divides by approximation
#define HWY_DISABLED_TARGETS (HWY_NEON)
#else
#if defined(STRATA_BASIC_TARGETS)
#define STRATA_TARGETS_LEFT_OUT HWY_AVX3
#else
#define STRATA_TARGETS_LEFT_OUT 0
#endif
#define HWY_DISABLED_TARGETS                                                           \
  (STRATA_TARGETS_LEFT_OUT | HWY_AVX3_DL | HWY_SSSE3 | HWY_SSE4 | HWY_SVE | HWY_SVE2 | \
   HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV | HWY_WASM | HWY_WASM_EMU256)
#endif

#define HWY_BROKEN_EMU128 1  // the fallback target of Highway is then HWY_SCALAR
