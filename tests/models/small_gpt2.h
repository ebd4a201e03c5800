#pragma once

#include "strata/models/gpt2_config.h"

namespace strata::models {

/// A GPT-2 that is done in milliseconds, without dropout, of extents that are all different.
inline Gpt2Config small_gpt2() {
  Gpt2Config config;
  config.vocab_size = 37;
  config.n_positions = 24;
  config.n_embd = 16;
  config.n_layer = 3;
  config.n_head = 2;
  config.resid_pdrop = config.embd_pdrop = config.attn_pdrop = 0.0;
  return config;
}

}  // namespace strata::models
