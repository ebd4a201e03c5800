#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "promise/training_run.h"

/// \file
/// The training job on several ranks, threads of this process.

namespace strata::promise {

/// For as long as it lives each thread computes alone, because several do.
class OneThreadEach {
 public:
  OneThreadEach() : before_(torch::get_num_threads()) { torch::set_num_threads(1); }
  ~OneThreadEach() { torch::set_num_threads(before_); }
  OneThreadEach(const OneThreadEach&) = delete;
  OneThreadEach& operator=(const OneThreadEach&) = delete;

 private:
  int before_;
};

struct World {
  int size = 1;
  std::uint64_t seed = 0;  ///< of the delays between ranks
};

/// The part of a rank.
struct Job {
  formats::DsConfig config;
  models::Gpt2Config model;
  double (EngineRun::*step)() = &EngineRun::step;
  int steps = 3;
  std::function<void(EngineRun&)> look{};  ///< at each rank's run in the end; may be empty
};

/// Trains; returns every rank's result. Throws what the first rank threw that threw something.
/// Fails the running test where a tier of a rank held other bytes at its peak than its plan says.
[[nodiscard]] std::vector<Parameters> train(const World& world, const Job& job);

}  // namespace strata::promise
