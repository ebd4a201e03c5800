#include "run_config.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <limits>
#include <set>
#include <string>

#include "plural.h"
#include "strata/base/error.h"
#include "strata/base/units.h"

namespace strata::tool {
namespace {

constexpr std::int64_t kDefaultSequenceMax = 1024;

bool uses_nvme(const formats::ZeroConfig& zero) {
  return zero.offload_param.device == formats::OffloadDevice::kNvme ||
         zero.offload_optimizer.device == formats::OffloadDevice::kNvme;
}

/// The obstacle to writing to the directory, and what to do; empty: none.
std::string fault_of(const std::filesystem::path& directory) {
  if (::access(directory.c_str(), W_OK | X_OK) == 0) return {};
  if (errno == EROFS) return "is mounted read-only; remount it, or name another with --nvme";
  return "cannot be written to (" + errno_name(errno) +
         "); change its permissions or name another with --nvme";
}

// --nvme=~/x reaches the program as it is written, and so does an nvme_path.
void check_is_no_shell_text(const std::string& directory) {
  if (!directory.starts_with('~') && !directory.starts_with('$')) return;
  throw ConfigError("nvme directory " + directory + ": " + directory.substr(0, 1) +
                    " is not expanded as a shell does; write the whole path");
}

// The engine makes the last folder of the path, and only that one.
void check_parent(const std::filesystem::path& directory, const std::string& where) {
  const std::filesystem::path absolute = std::filesystem::absolute(directory).lexically_normal();
  const std::filesystem::path parent =
      absolute.has_filename() ? absolute.parent_path() : absolute.parent_path().parent_path();
  if (!std::filesystem::is_directory(parent)) {
    throw ConfigError(where + "does not exist and cannot be made in " + parent.string() +
                      "; make it (mkdir -p) or name another with --nvme");
  }
  const std::string fault = fault_of(parent);
  if (!fault.empty()) {
    throw ConfigError(where + "does not exist and cannot be made in " + parent.string() +
                      ", which " + fault);
  }
}

void check_directory(const std::filesystem::path& directory) {
  check_is_no_shell_text(directory.string());
  const std::string where = "nvme directory " + directory.string() + ": ";
  std::error_code code;
  const auto status = std::filesystem::status(directory, code);
  if (status.type() == std::filesystem::file_type::not_found) {
    check_parent(directory, where);
    return;
  }
  if (status.type() != std::filesystem::file_type::directory) {
    throw ConfigError(where + "is not a directory; name one with --nvme");
  }
  const std::string fault = fault_of(directory);
  if (!fault.empty()) throw ConfigError(where + fault);
}

[[noreturn]] void refuse_budget(std::string_view part, const std::string& why) {
  throw ConfigError("--budget: \"" + std::string(part) + "\": " + why +
                    "; write it like host=4GiB,nvme=60GiB,device=20GiB");
}

std::optional<std::uint64_t>& budget_of(std::string_view tier, std::string_view part,
                                        formats::StrataConfig& config) {
  if (tier == "device") return config.device_budget_bytes;
  if (tier == "host") return config.host_budget_bytes;
  if (tier == "nvme") return config.nvme_budget_bytes;
  refuse_budget(part, "there is no such tier");
}

std::uint64_t size_of(std::string_view size, std::string_view part) {
  try {
    return parse_bytes(size);
  } catch (const ConfigError& error) {
    refuse_budget(part, error.what());
  }
}

}  // namespace

void apply_budget_option(std::string_view text, formats::StrataConfig& config) {
  std::set<std::string_view> seen;
  for (bool last = false; !last;) {
    const std::size_t comma = text.find(',');
    last = comma == std::string_view::npos;
    const std::string_view part = text.substr(0, comma);
    if (!last) text.remove_prefix(comma + 1);

    const std::size_t equals = part.find('=');
    if (equals == std::string_view::npos) refuse_budget(part, "no \"=\"");
    const std::string_view tier = part.substr(0, equals);
    std::optional<std::uint64_t>& budget = budget_of(tier, part, config);
    if (!seen.insert(tier).second) refuse_budget(part, "this tier is named twice");
    budget = size_of(part.substr(equals + 1), part);
  }
}

void apply_nvme_option(const std::vector<std::filesystem::path>& directories,
                       formats::StrataConfig& config) {
  if (!directories.empty()) {
    config.nvme_directories.assign(directories.begin(), directories.end());
  }
}

formats::DsConfig run_config(const FinetuneOptions& options, int ranks) {
  formats::DsConfig config = formats::DsConfig::from_file(*options.config);
  if (options.budget) apply_budget_option(*options.budget, config.strata);
  apply_nvme_option(options.nvme, config.strata);
  config.resolve_batch(ranks);
  return config;
}

void check_nvme_directories(const formats::DsConfig& config) {
  const std::vector<std::string> directories = config.nvme_directories();
  if (directories.empty() && uses_nvme(config.zero)) {
    throw ConfigError(config.name +
                      ": zero_optimization puts state on nvme and no directory is named for it; "
                      "give --nvme DIR, or an nvme_path in the config");
  }
  for (auto directory = directories.begin(); directory != directories.end(); ++directory) {
    check_directory(*directory);
    const auto same = [&](const std::string& other) {
      std::error_code code;
      return other == *directory || std::filesystem::equivalent(other, *directory, code);
    };
    if (std::any_of(directories.begin(), directory, same)) {
      throw ConfigError("nvme directory " + *directory +
                        ": is named twice; name it once, and others for other disks");
    }
  }
}

std::int64_t step_count(const FinetuneOptions& options, const formats::DsConfig& config,
                        std::uint64_t epoch_tokens, std::int64_t seq_len,
                        std::optional<std::uint64_t> epoch_rows) {
  if (options.steps) return *options.steps;
  if (!options.epochs && config.scheduler.total_num_steps > 0) {
    return config.scheduler.total_num_steps;
  }
  const auto batch = static_cast<std::uint64_t>(config.train_batch_size);
  if (!epoch_rows) {
    return static_cast<std::int64_t>(
        ceil_div(epoch_tokens, batch * static_cast<std::uint64_t>(seq_len)));
  }
  const auto epochs = static_cast<unsigned __int128>(options.epochs.value_or(1));
  const auto steps = (epochs * *epoch_rows + batch - 1) / batch;
  if (steps > std::numeric_limits<std::int64_t>::max()) {
    throw ConfigError("--epochs " + std::to_string(*options.epochs) +
                      " is more steps than can be counted; give fewer");
  }
  return static_cast<std::int64_t>(steps);
}

std::optional<std::uint64_t> last_epoch(const FinetuneOptions& options,
                                        const formats::DsConfig& config) {
  if (options.epochs) return static_cast<std::uint64_t>(*options.epochs);
  if (options.steps || config.scheduler.total_num_steps > 0) return std::nullopt;
  return 1;
}

std::int64_t sequence_length(const FinetuneOptions& options, std::int64_t context) {
  if (!options.seq_len) return std::min(context, kDefaultSequenceMax);
  if (*options.seq_len > context) {
    throw ConfigError("--seq-len " + std::to_string(*options.seq_len) +
                      " is more than the model's context of " + counted(context, "token") +
                      "; give at most that");
  }
  return *options.seq_len;
}

void check_micro_batch(const formats::DsConfig& config, std::int64_t seq_len,
                       std::uint64_t bytes_per_token, std::uint64_t memory_bytes) {
  using Wide = unsigned __int128;
  const std::int64_t rows = config.train_micro_batch_size_per_gpu;
  const Wide row_bytes = static_cast<Wide>(seq_len) * bytes_per_token;
  const auto rows_max = static_cast<std::int64_t>(memory_bytes / row_bytes);
  if (rows <= rows_max) return;
  throw ConfigError(config.name + ": a micro-batch of " + counted(rows, "sequence") + " of " +
                    counted(seq_len, "token") + " keeps more for backward than the " +
                    format_bytes(memory_bytes) +
                    " of memory in this machine; lower train_micro_batch_size_per_gpu to " +
                    std::to_string(std::max<std::int64_t>(rows_max, 1)) +
                    " or less and raise gradient_accumulation_steps instead");
}

std::uint64_t memory_bytes() {
  return static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES)) *
         static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

}  // namespace strata::tool
