#include "strata/models/gpt2_checkpoint.h"

#include <map>
#include <set>
#include <span>
#include <string_view>
#include <utility>

#include "models/unit_names.h"
#include "strata/base/error.h"

namespace strata::models {

namespace {

constexpr std::string_view kPrefix = "transformer.";
constexpr std::size_t kProblemsShownMax = 12;

/// What is wrong with a checkpoint, for one message.
class ProblemList {
 public:
  void add(std::string problem) { problems_.push_back(std::move(problem)); }

  void throw_if_any(const formats::ModelDirectory& directory) const {
    if (problems_.empty()) return;
    std::string message = directory.path().string() +
                          ": the tensors do not make the model of its config.json (" +
                          std::to_string(problems_.size()) + " of them):";
    for (std::size_t i = 0; i < problems_.size() && i < kProblemsShownMax; ++i) {
      message += "\n  " + problems_[i];
    }
    if (problems_.size() > kProblemsShownMax) message += "\n  ...";
    throw DataError(message);
  }

 private:
  std::vector<std::string> problems_;
};

/// The name that `parameter` has in the directory's files: with the prefix, or, in files saved from
/// a bare GPT2Model, without it. Empty: there is none.
std::string name_in_files(const formats::ModelDirectory& directory, const std::string& parameter) {
  if (directory.find(parameter) != nullptr) return parameter;
  if (parameter.starts_with(kPrefix)) {
    std::string bare = parameter.substr(kPrefix.size());
    if (directory.find(bare) != nullptr) return bare;
  }
  return {};
}

/// Tensors that files carry and the model does not need: causal masks, which old versions of
/// transformers stored as buffers, and the copy of a tied head.
bool is_redundant(std::string_view name, const Gpt2Config& config) {
  return name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias") ||
         (config.tie_word_embeddings && name == "lm_head.weight");
}

bool is_readable(formats::DType dtype) {
  return dtype == formats::DType::kF32 || dtype == formats::DType::kF16 ||
         dtype == formats::DType::kBF16;
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string text;
  for (const std::int64_t extent : shape) {
    text += (text.empty() ? "" : ", ") + std::to_string(extent);
  }
  return "[" + text + "]";
}

/// Full name of every parameter -> name in the files.
std::map<std::string, std::string> match(const Gpt2Config& config,
                                         const formats::ModelDirectory& directory) {
  std::map<std::string, std::string> sources;
  std::set<std::string> used;
  ProblemList problems;
  for (const zero3::UnitLayout& unit : unit_layouts(config)) {
    for (const zero3::ParameterLayout& parameter : unit.parameters) {
      const std::string full_name = unit.full_name(parameter);
      const std::string source = name_in_files(directory, checkpoint_name(full_name));
      if (source.empty()) {
        problems.add("missing: " + checkpoint_name(full_name) + " " + shape_text(parameter.shape));
        continue;
      }
      const formats::TensorInfo& tensor = *directory.find(source);
      if (tensor.shape != parameter.shape || !is_readable(tensor.dtype)) {
        problems.add("does not fit: " + source + " is " + tensor.description() +
                     "; needed: F32, F16 or BF16 " + shape_text(parameter.shape));
      }
      used.insert(source);
      sources.emplace(full_name, source);
    }
  }
  for (const std::string& name : directory.names()) {
    if (!used.contains(name) && !is_redundant(name, config)) problems.add("unexpected: " + name);
  }
  problems.throw_if_any(directory);
  return sources;
}

}  // namespace

ParameterInitializer checkpoint_initializer(const Gpt2Config& config,
                                            const formats::ModelDirectory& directory) {
  return [sources = match(config, directory), &directory](const std::string& name,
                                                          torch::Tensor& value) {
    const auto source = sources.find(name);
    if (source == sources.end()) {
      throw UsageError("the model has a parameter '" + name +
                       "' that the config given to checkpoint_initializer does not have");
    }
    directory.read_f32(
        source->second, /*begin=*/0,
        std::span(value.mutable_data_ptr<float>(), static_cast<std::size_t>(value.numel())));
  };
}

}  // namespace strata::models
