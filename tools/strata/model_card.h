#pragma once

#include <cstdint>
#include <string>

#include "summary.h"

namespace strata::tool {

/// What a model card says of a run beside its summary.
struct CardFacts {
  std::string name;          ///< of the directory that the model is published in
  std::string model_config;  ///< text of its config.json, or the base's
  std::string adapter;       ///< what it is, where the output is one; else empty
  std::string base;          ///< the end of "trained from": "random weights"
  std::string data;          ///< what it was trained on, for people
  std::string steps;         ///< such as "20 steps of 8 sequences of 32 tokens"
  std::uint64_t seed = 0;
  std::string config;  ///< the config in effect, JSON
};

/// The model card of a run: README.md of its output, as the Hugging Face Hub reads it, with tags at
/// its head. It says what was trained on what and with what outcome, and has those sections of the
/// config that decide the numbers; a path of this machine is in none of them.
[[nodiscard]] std::string model_card(const CardFacts& facts, const Summary& summary);

}  // namespace strata::tool
