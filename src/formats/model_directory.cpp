#include "strata/formats/model_directory.h"

#include <algorithm>
#include <cerrno>
#include <set>
#include <system_error>
#include <utility>

#include "formats/file_location.h"
#include "formats/model_index.h"
#include "formats/quote.h"
#include "formats/regular_file.h"
#include "strata/base/error.h"
#include "strata/formats/read_floats.h"

namespace strata::formats {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kConfigName = "config.json";
constexpr std::string_view kSingleName = "model.safetensors";
constexpr std::string_view kIndexName = "model.safetensors.index.json";
constexpr std::uint64_t kConfigBytesMax = 16u << 20;

bool has(const fs::path& directory, std::string_view name) {
  std::error_code error;
  return fs::symlink_status(directory / name, error).type() != fs::file_type::not_found;
}

std::string read_text(const fs::path& directory, std::string_view name, std::uint64_t bytes_max) {
  return read_text_file(locate_file(directory, name), RegularFile::Links::kRefuse, bytes_max);
}

/// Checks that the tensors in `file` are those that the index places there.
void check_against_index(const SafetensorsFile& file,
                         const std::vector<JsonValue::Member>& expected) {
  const std::string name = file.path().filename().string();
  for (const auto& [tensor, place] : expected) {
    if (file.find(tensor) == nullptr) place.fail("the file " + quote(name) + " has no such tensor");
  }
  if (expected.size() == file.tensors().size()) return;
  std::set<std::string_view> known;
  for (const auto& member : expected) known.insert(member.key);
  for (const TensorInfo& tensor : file.tensors()) {
    if (known.contains(tensor.name)) continue;
    throw DataError(file.path().string() + ": holds tensor " + quote(tensor.name) + ", which " +
                    std::string(kIndexName) +
                    " does not place here; the files belong to different models");
  }
}

}  // namespace

ModelDirectory::ModelDirectory(fs::path path) : path_(std::move(path)) {
  std::error_code error;
  const auto status = fs::status(path_, error);
  if (status.type() == fs::file_type::not_found) {
    throw system_error("open the model directory", path_.string(), ENOENT,
                       "check the path and the current directory");
  }
  if (error) throw system_error("open the model directory", path_.string(), error.value());
  if (!fs::is_directory(status)) {
    throw DataError(path_.string() +
                    ": is not a directory; name the directory of the model, with "
                    "config.json and the safetensors files");
  }
  if (!has(path_, kConfigName)) {
    throw DataError(path_.string() + ": has no config.json; not a Hugging Face model directory");
  }
  config_text_ = read_text(path_, kConfigName, kConfigBytesMax);
  if (has(path_, kSingleName)) {
    open_single_file();
  } else if (has(path_, kIndexName)) {
    open_indexed_files();
  } else {
    throw DataError(path_.string() + ": has neither model.safetensors nor " +
                    std::string(kIndexName) +
                    "; other formats (pytorch_model.bin) are not read, save the model with "
                    "safe_serialization=True");
  }
}

void ModelDirectory::open_single_file() {
  files_.emplace_back(locate_file(path_, kSingleName));
  file_names_.emplace_back(kSingleName);
  for (const TensorInfo& tensor : files_[0].tensors()) {
    tensors_.emplace(tensor.name, Place{0, &tensor});
  }
}

void ModelDirectory::open_indexed_files() {
  const auto index = parse_model_index(read_text(path_, kIndexName, kIndexLimits.bytes_max),
                                       (path_ / kIndexName).string());
  for (const auto& [name, expected] : index) {
    if (!has(path_, name)) {
      expected.front().value.fail("the file " + quote(name) + " does not exist");
    }
    const SafetensorsFile& file = files_.emplace_back(locate_file(path_, name));
    file_names_.emplace_back(name);
    check_against_index(file, expected);
    for (const TensorInfo& tensor : file.tensors()) {
      tensors_.emplace(tensor.name, Place{files_.size() - 1, &tensor});
    }
  }
}

std::optional<fs::path> ModelDirectory::find_file(std::string_view name) const {
  try {
    fs::path file = locate_file(path_, name);
    if (fs::is_regular_file(file)) return file;
  } catch (const Error&) {  // not there, or a link that leaves
  }
  return std::nullopt;
}

std::vector<std::string> ModelDirectory::file_names() const { return file_names_; }

const ModelDirectory::Place& ModelDirectory::place_of(std::string_view name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) {
    throw DataError(path_.string() + ": has no tensor " + quote(name));
  }
  return found->second;
}

std::string ModelDirectory::file_name_of(std::string_view name) const {
  return file_names_[place_of(name).file];
}

std::vector<std::string> ModelDirectory::names() const {
  std::vector<std::string> names;
  names.reserve(tensors_.size());
  for (const auto& [name, place] : tensors_) names.push_back(name);
  return names;
}

const TensorInfo* ModelDirectory::find(std::string_view name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : found->second.tensor;
}

void ModelDirectory::read_f32(std::string_view name, std::uint64_t begin,
                              std::span<float> out) const {
  const Place& place = place_of(name);
  formats::read_f32(files_[place.file], *place.tensor, begin, out);
}

void ModelDirectory::read_bytes(std::string_view name, std::uint64_t offset,
                                std::span<std::byte> out) const {
  const Place& place = place_of(name);
  files_[place.file].read(*place.tensor, offset, out);
}

}  // namespace strata::formats
