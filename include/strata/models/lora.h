#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "strata/formats/safetensors.h"
#include "strata/models/lora_config.h"
#include "strata/models/model_config.h"

/// \file
/// Models with low-rank adapters, in numbers and files. No LibTorch; adapter_checkpoint.h has what
/// needs it.

namespace strata::models {

/// The model with adapters: all that is made of its config (units, plans, modules) has them, and
/// all else of it is frozen. Throws ConfigError, which begins with `where`, for a family whose
/// layers take none, and a target that is no linear layer of the model, with the list of those that
/// are.
[[nodiscard]] ModelConfig with_lora(const ModelConfig& config, LoraConfig lora,
                                    std::string_view where);
/// The same model without adapters.
[[nodiscard]] ModelConfig without_lora(const ModelConfig& config);
/// Its adapters, if it has some.
[[nodiscard]] std::optional<LoraConfig> lora_of(const ModelConfig& config);

/// The name that PEFT gives an adapter's parameter in files.
[[nodiscard]] std::string peft_name(const std::string& full_name);

/// An adapter as PEFT stores it: a directory with adapter_config.json and
/// adapter_model.safetensors. Nothing of the tensors is in memory. Thread-safe once open.
class AdapterDirectory {
 public:
  /// Throws DataError for a directory that holds none (adapter_model.bin is not read), ConfigError
  /// as LoraConfig::from_json does, IoError.
  explicit AdapterDirectory(std::filesystem::path path);

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] std::filesystem::path config_path() const;
  [[nodiscard]] const LoraConfig& config() const { return config_; }

  /// Throws DataError, naming tensors, unless the file holds the adapters of `config`, a model with
  /// these (with_lora), in their shapes, and nothing else.
  void require_adapters_of(const ModelConfig& config) const;

  /// Reads elements of the parameter of this full name as fp32. Throws IoError; DataError for one
  /// that is not there or in a format that is not F32, F16 or BF16.
  void read_f32(const std::string& full_name, std::uint64_t begin, std::span<float> out) const;

 private:
  std::filesystem::path path_;
  LoraConfig config_;
  formats::SafetensorsFile file_;
};

}  // namespace strata::models
