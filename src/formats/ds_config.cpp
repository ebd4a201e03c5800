#include "strata/formats/ds_config.h"

#include <algorithm>

#include "formats/ds_config_reader.h"
#include "formats/regular_file.h"
#include "strata/base/error.h"
#include "strata/formats/name_pattern.h"

namespace strata::formats {
namespace {

constexpr JsonLimits kConfigLimits = {};
constexpr std::uint64_t kActivationBytes = std::uint64_t{1} << 30;  // where none are named
constexpr std::uint64_t kActivationPart = 8;                        // of a host budget, at most
constexpr std::int64_t kMicroBatch = 8;  // per_device_train_batch_size of transformers' Trainer

using Wide = __int128;  // holds every product of three batch sizes

std::string decimal(Wide positive) {
  std::string digits;
  for (; positive > 0; positive /= 10) {
    digits.insert(digits.begin(), static_cast<char>('0' + static_cast<int>(positive % 10)));
  }
  return digits.empty() ? "0" : digits;
}

/// The third size: train_batch_size divided by `size` (under `key`) and the ranks.
std::int64_t quotient(const DsConfig& config, std::string_view key, std::int64_t size, int ranks) {
  const std::int64_t total = config.train_batch_size;
  const Wide divisor = Wide{size} * ranks;
  if (total % divisor == 0) return static_cast<std::int64_t>(total / divisor);
  throw ConfigError(config.name + ": train_batch_size " + std::to_string(total) +
                    " is not a multiple of " + std::string(key) + " * ranks = " +
                    std::to_string(size) + " * " + std::to_string(ranks) + "; change one of them");
}

}  // namespace

DsConfig DsConfig::from_file(const std::filesystem::path& path) {
  return from_text(read_text_file(path, RegularFile::Links::kFollow, kConfigLimits.bytes_max),
                   path.string());
}

DsConfig DsConfig::from_text(std::string_view text, std::string name) {
  DsConfig config;
  config.name = std::move(name);
  DsConfigReader(config).read(
      JsonValue::parse(text, config.name, JsonRole::kHjsonConfig, kConfigLimits));
  return config;
}

void DsConfig::resolve_batch(int world_size) {
  std::int64_t& total = train_batch_size;
  std::int64_t& micro = train_micro_batch_size_per_gpu;
  std::int64_t& steps = gradient_accumulation_steps;
  if (world_size < 1) throw UsageError("resolve_batch: a world of " + std::to_string(world_size));

  if (total == 0) {
    if (micro == 0) micro = kMicroBatch;
    if (steps == 0) steps = 1;
    const Wide product = Wide{micro} * steps * world_size;
    if (product > INT64_MAX) throw ConfigError(name + ": train_batch_size is beyond 2^63");
    total = static_cast<std::int64_t>(product);
    return;
  }
  if (micro == 0) {
    if (steps == 0) steps = 1;
    micro = quotient(*this, "gradient_accumulation_steps", steps, world_size);
  } else if (steps == 0) {
    steps = quotient(*this, "train_micro_batch_size_per_gpu", micro, world_size);
  }
  if (Wide{micro} * steps * world_size == total) return;
  throw ConfigError(
      name + ": train_batch_size " + std::to_string(total) +
      " is not train_micro_batch_size_per_gpu * gradient_accumulation_steps * ranks = " +
      std::to_string(micro) + " * " + std::to_string(steps) + " * " + std::to_string(world_size) +
      " = " + decimal(Wide{micro} * steps * world_size) + "; set one of them to \"auto\"");
}

void DsConfig::set_total_steps(std::int64_t optimizer_steps) {
  if (scheduler.ends() && scheduler.total_num_steps == 0) {
    scheduler.total_num_steps = optimizer_steps;
  }
}

Precision DsConfig::precision() const {
  if (bf16.enabled) return Precision::kBf16;
  return fp16.enabled ? Precision::kFp16 : Precision::kFp32;
}

StateFormat DsConfig::state_format() const {
  StateFormat format = precision();
  format.master = strata.states.master;
  format.moments = strata.states.moments;
  format.has_m = optimizer.keeps_m();
  format.has_v = optimizer.keeps_v();
  return format;
}

ActivationBytes DsConfig::activation_bytes() const {
  const bool is_named = strata.activations_host_bytes || strata.activations_nvme_bytes;
  if (is_named || !activation_checkpointing.cpu_checkpointing) {
    return {.host = strata.activations_host_bytes.value_or(0),
            .nvme = strata.activations_nvme_bytes.value_or(0)};
  }
  const std::uint64_t budget =
      strata.host_budget_bytes.value_or(kActivationBytes * kActivationPart);
  return {.host = std::min(kActivationBytes, budget / kActivationPart), .nvme = 0};
}

std::vector<std::string> DsConfig::nvme_directories() const {
  if (!strata.nvme_directories.empty()) return strata.nvme_directories;
  std::vector<std::string> directories;
  for (const OffloadConfig& offload : {zero.offload_param, zero.offload_optimizer}) {
    const bool is_new =
        std::find(directories.begin(), directories.end(), offload.nvme_path) == directories.end();
    if (!offload.nvme_path.empty() && is_new) directories.push_back(offload.nvme_path);
  }
  return directories;
}

bool DsConfig::decays(std::string_view parameter_name) const {
  return !matches_any_pattern(strata.no_decay, parameter_name);
}

bool DsConfig::skips_nonfinite() const {
  if (strata.nonfinite != NonfinitePolicy::kDefault) {
    return strata.nonfinite == NonfinitePolicy::kSkip;
  }
  if (precision() == Precision::kBf16) return bf16.check_grad_overflow.value_or(false);
  return precision() == Precision::kFp16;
}

std::vector<std::string> DsConfig::fp32_patterns() const {
  if (precision() == Precision::kFp32) return {};
  return strata.keep_fp32;
}

}  // namespace strata::formats
