#include "strata/models/checkpoint.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <set>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "models/checkpoint_names.h"
#include "models/tensor_names.h"
#include "strata/base/error.h"
#include "strata/base/shape_text.h"
#include "strata/models/model_layout.h"
#include "strata/zero3/ranged_initializer.h"

namespace strata::models {

namespace {

constexpr std::uint64_t kPieceElements = 1u << 20;  // of what is compared
constexpr std::uint64_t kReadElements = 1u << 18;   // of what is read into a model

/// The faults of a checkpoint, for one message: some of every kind, and how many there are.
class ProblemList {
 public:
  enum Kind { kMissing, kUnfit, kUnexpected, kKinds };

  void add(Kind kind, std::string problem) { problems_[kind].push_back(std::move(problem)); }

  void throw_if_any(const formats::ModelDirectory& directory,
                    std::string_view family_prefix) const {
    std::size_t count = 0;
    for (const auto& problems : problems_) count += problems.size();
    if (count == 0) return;
    std::string message = directory.path().string() +
                          ": the tensors do not make the model of its config.json (" +
                          std::to_string(count) + " of them):";
    for (const auto kind : {kMissing, kUnfit, kUnexpected}) append(message, kind);
    throw DataError(message + prefix_of_all(directory.names(), family_prefix));
  }

 private:
  static constexpr std::size_t kShownMax = 5;
  static constexpr std::array<const char*, kKinds> kWords = {"missing", "does not fit",
                                                             "unexpected"};

  void append(std::string& message, Kind kind) const {
    const std::vector<std::string>& problems = problems_[kind];
    for (std::size_t i = 0; i < problems.size() && i < kShownMax; ++i) {
      message += std::string("\n  ") + kWords[kind] + ": " + problems[i];
    }
    if (problems.size() > kShownMax) {
      message += std::string("\n  ") + kWords[kind] + ": " +
                 std::to_string(problems.size() - kShownMax) + " more";
    }
  }

  /// A line about the components that all names begin with, which no parameter here does.
  static std::string prefix_of_all(const std::vector<std::string>& names,
                                   std::string_view family_prefix) {
    if (names.size() < 2) return {};
    const std::string &first = names.front(), &last = names.back();  // sorted
    const auto end = std::mismatch(first.begin(), first.end(), last.begin(), last.end()).first;
    const std::string common(first.begin(), end);
    const std::string prefix = common.substr(0, common.rfind('.') + 1);
    if (prefix.empty() || prefix.starts_with(family_prefix)) return {};
    return "\n  all names in the files begin with \"" + prefix + "\"";
  }

  std::array<std::vector<std::string>, kKinds> problems_;
};

bool is_readable(formats::DType dtype) {
  return dtype == formats::DType::kF32 || dtype == formats::DType::kF16 ||
         dtype == formats::DType::kBF16;
}

/// Whether two tensors of one shape hold the same numbers, bit by bit as fp32.
bool are_equal(const formats::ModelDirectory& directory, const std::string& a, const std::string& b,
               const BeforeEachPiece& before_each_piece) {
  const std::uint64_t elements = directory.find(a)->elements();
  std::vector<float> of_a(std::min(kPieceElements, elements)), of_b(of_a.size());
  for (std::uint64_t begin = 0; begin < elements; begin += of_a.size()) {
    if (before_each_piece) before_each_piece();
    const auto count = std::min<std::uint64_t>(of_a.size(), elements - begin);
    directory.read_f32(a, begin, std::span(of_a).first(count));
    directory.read_f32(b, begin, std::span(of_b).first(count));
    if (std::memcmp(of_a.data(), of_b.data(), count * sizeof(float)) != 0) return false;
  }
  return true;
}

/// Whether the files hold a head of its own: one that is not the token embedding.
bool has_own_head(const formats::ModelDirectory& directory, const TensorNames& family,
                  const CheckpointNames& names, const BeforeEachPiece& before_each_piece) {
  const std::string head = names.in_files(family.head),
                    embedding = names.in_files(family.embedding);
  if (head.empty() || embedding.empty()) return false;
  const formats::TensorInfo &of_head = *directory.find(head),
                            &of_table = *directory.find(embedding);
  if (of_head.shape != of_table.shape) return true;
  if (!is_readable(of_head.dtype) || !is_readable(of_table.dtype)) return true;
  return !are_equal(directory, head, embedding, before_each_piece);
}

/// The tensor that a parameter is read from. A tied head may be stored in place of the
/// embedding.
std::string source_of(const std::string& parameter, const ModelConfig& config,
                      const TensorNames& family, const CheckpointNames& names) {
  std::string source = names.in_files(parameter);
  if (source.empty() && parameter == family.embedding && config.ties_embeddings()) {
    source = names.in_files(family.head);
  }
  return source;
}

/// Maps the full name of every parameter to its name in the files.
std::map<std::string, std::string> match(const ModelConfig& config,
                                         const formats::ModelDirectory& directory,
                                         const BeforeEachPiece& before_each_piece) {
  const TensorNames family = tensor_names(config);
  const CheckpointNames names(directory, family);
  std::map<std::string, std::string> sources;
  std::set<std::string> used;
  ProblemList problems;
  for (const zero3::UnitLayout& unit : unit_layouts(config)) {
    for (const zero3::ParameterLayout& parameter : unit.parameters) {
      const std::string full_name = unit.full_name(parameter);
      const std::string name = family.of_parameter(full_name);
      const std::string source = source_of(name, config, family, names);
      if (source.empty()) {
        problems.add(ProblemList::kMissing, name + " " + shape_text(parameter.shape));
        continue;
      }
      const formats::TensorInfo& tensor = *directory.find(source);
      if (tensor.shape != parameter.shape || !is_readable(tensor.dtype)) {
        problems.add(ProblemList::kUnfit, source + " is " + tensor.description() +
                                              "; needed: F32, F16 or BF16 " +
                                              shape_text(parameter.shape));
      }
      used.insert(source);
      sources.emplace(full_name, source);
    }
  }
  for (const auto& [name, stored] : names.all()) {
    if (used.contains(stored) || family.is_buffer(name, *directory.find(stored))) continue;
    if (name != family.head || !config.ties_embeddings()) {
      problems.add(ProblemList::kUnexpected, stored);
    } else if (has_own_head(directory, family, names, before_each_piece)) {
      problems.add(ProblemList::kUnexpected,
                   stored + ", which differs from the embedding that the config ties it to");
    }
  }
  problems.throw_if_any(directory, family.prefix);
  return sources;
}

}  // namespace

ModelConfig checkpoint_config(const formats::ModelDirectory& directory,
                              const BeforeEachPiece& before_each_piece) {
  if (directory.find_file("adapter_config.json")) {
    throw DataError(directory.path().string() +
                    ": has an adapter_config.json, whose adapter changes the model and is not read "
                    "with it; merge it into the weights (strata export --merge), or keep it in a "
                    "directory of its own (finetune --adapter goes on with it)");
  }
  const ModelConfig config =
      ModelConfig::from_json(directory.config_text(), directory.config_path().string());
  if (!config.ties_embeddings()) return config;
  const TensorNames family = tensor_names(config);
  const bool is_own =
      has_own_head(directory, family, CheckpointNames(directory, family), before_each_piece);
  return is_own ? config.with_own_head() : config;
}

ParameterInitializer checkpoint_initializer(const ModelConfig& config,
                                            const formats::ModelDirectory& directory,
                                            const BeforeEachPiece& before_each_piece) {
  const auto read = [sources = match(config, directory, before_each_piece), &directory,
                     before_each_piece](const std::string& name, std::uint64_t begin,
                                        std::span<float> values) {
    const auto source = sources.find(name);
    if (source == sources.end()) {
      throw UsageError("the model has a parameter '" + name +
                       "' that the config given to checkpoint_initializer does not have");
    }
    if (before_each_piece) before_each_piece();
    directory.read_f32(source->second, begin, values);
  };
  return RangedInitializer(kReadElements, read);
}

}  // namespace strata::models
