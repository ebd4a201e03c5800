#include <algorithm>
#include <array>
#include <cctype>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "strata/base/error.h"
#include "strata/models/save_options.h"

namespace strata::models {

namespace {

namespace fs = std::filesystem;

constexpr std::uintmax_t kFileBytesMax = 64u << 20;
constexpr std::string_view kTemplates = "additional_chat_templates";

constexpr std::array<std::string_view, 19> kWeightExtensions = {
    ".safetensors", ".bin",  ".pt",   ".pth",    ".ckpt",   ".h5",  ".msgpack",
    ".ot",          ".onnx", ".gguf", ".tflite", ".npz",    ".npy", ".pkl",
    ".pickle",      ".zip",  ".gz",   ".tar",    ".parquet"};

/// Files that are written anew, or true of another model or run.
constexpr std::array<std::string_view, 9> kOthers = {
    "config.json",      "readme.md",          "ds_config.json",
    "metrics.jsonl",    "train_results.json", "eval_results.json",
    "all_results.json", "trainer_state.json", "adapter_config.json"};

bool belongs_to_model(std::string_view name) {
  std::string lower(name);
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  const auto ends = [&](std::string_view end) { return lower.ends_with(end); };
  return !lower.starts_with('.') && !lower.starts_with("events.out.tfevents") &&
         !lower.ends_with(".index.json") &&
         std::none_of(kWeightExtensions.begin(), kWeightExtensions.end(), ends) &&
         std::find(kOthers.begin(), kOthers.end(), lower) == kOthers.end();
}

std::vector<std::string> names_in(const fs::path& directory) {
  std::vector<std::string> names;
  std::error_code error;
  fs::directory_iterator entries(directory, error);
  for (; !error && entries != fs::directory_iterator(); entries.increment(error)) {
    names.push_back(entries->path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

void copy(const formats::ModelDirectory& source, const std::string& name, const fs::path& target) {
  const auto file = source.find_file(name);
  std::error_code error;
  if (!file || fs::file_size(*file, error) > kFileBytesMax) return;
  fs::copy_file(*file, target / name, error);
  if (error) {
    throw system_error("copy to " + target.string(), file->string(), error.value(),
                       "make it readable or remove it");
  }
}

}  // namespace

void copy_model_files(const formats::ModelDirectory& source, const fs::path& target) {
  for (const std::string& name : names_in(source.path())) {
    if (belongs_to_model(name)) copy(source, name, target);
  }
  const std::string folder(kTemplates);
  for (const std::string& name : names_in(source.path() / folder)) {
    std::error_code error;
    fs::create_directory(target / folder, error);
    if (error) throw system_error("create", (target / folder).string(), error.value());
    copy(source, folder + "/" + name, target);
  }
}

}  // namespace strata::models
