#pragma once

#include <cstdint>
#include <filesystem>

#include "strata/formats/model_directory.h"
#include "strata/models/gpt2.h"

namespace strata::models {

/// Reads parameters from a Hugging Face directory, one at a time, straight from its files.
///
/// Everything is checked here, before anything is built: DataError lists every tensor that is
/// missing, unexpected or of another shape. Accepted: names with and without the "transformer."
/// prefix; the mask buffers that old files carry and a stored copy of a tied head are passed over.
/// `directory` must outlive the initializer. The initializer throws DataError and IoError.
[[nodiscard]] ParameterInitializer checkpoint_initializer(const Gpt2Config& config,
                                                          const formats::ModelDirectory& directory);

/// What goes into a saved directory.
struct SaveOptions {
  /// Above it, the tensors are spread over model-NNNNN-of-NNNNN.safetensors files and an index.
  std::uint64_t file_bytes_max = 5'000'000'000;
  /// The model whose tokenizer files are copied along; null: none.
  const formats::ModelDirectory* tokenizer_source = nullptr;
};

/// Writes a Hugging Face directory that `AutoModelForCausalLM.from_pretrained` loads: the compute
/// weights (fp32, bf16 or fp16) as safetensors, and config.json. At most one unit is in memory at a
/// time. Nothing appears under `directory` before everything is written. Throws IoError, and
/// ConfigError when `directory` exists and is not empty.
void save_pretrained(Gpt2& model, const std::filesystem::path& directory,
                     const SaveOptions& options = {});

/// Writes the same files into a directory that exists, beside what the caller puts there: for one
/// that publishes it itself (see formats::OutputDirectory). Throws IoError; then files may be left.
void write_pretrained(Gpt2& model, const std::filesystem::path& directory,
                      const SaveOptions& options = {});

}  // namespace strata::models
