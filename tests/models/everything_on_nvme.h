#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>

#include "strata/base/number_format.h"
#include "strata/formats/ds_config.h"

namespace strata::models {

/// Everything in a directory on nvme, two sequences a micro-batch, no clipping. SGD at rate 1
/// without decay: a step takes the gradient from the master.
[[nodiscard]] inline formats::DsConfig everything_on_nvme(std::string name,
                                                          const std::filesystem::path& directory,
                                                          Precision precision,
                                                          std::int64_t accumulation) {
  formats::DsConfig config;
  config.name = std::move(name);
  config.train_batch_size = 2 * accumulation;
  config.train_micro_batch_size_per_gpu = 2;
  config.gradient_accumulation_steps = accumulation;
  config.gradient_clipping = 0.0;
  config.bf16.enabled = precision == Precision::kBf16;
  config.fp16.enabled = precision == Precision::kFp16;
  config.optimizer = {.type = formats::OptimizerType::kSgd, .lr = 1.0};
  config.zero.offload_param.device = formats::OffloadDevice::kNvme;
  config.zero.offload_optimizer.device = formats::OffloadDevice::kNvme;
  config.strata.nvme_directories = {directory.string()};
  config.strata.chunk_bytes = 4096;
  return config;
}

}  // namespace strata::models
