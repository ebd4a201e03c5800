#include "model_config_file.h"

#include <cerrno>
#include <fstream>

#include "strata/base/error.h"

namespace strata::tool {

namespace {
constexpr std::size_t kConfigBytesMax = 1u << 20;
}  // namespace

std::string read_model_config(const std::filesystem::path& path) {
  if (std::filesystem::is_directory(path)) {
    throw ConfigError("--model-config " + path.string() +
                      ": is a directory; name its config.json, or use --model");
  }
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  std::string text(kConfigBytesMax + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!in.is_open() || in.bad()) throw system_error("cannot read", path.string(), errno);
  text.resize(static_cast<std::size_t>(in.gcount()));
  if (text.size() > kConfigBytesMax) {
    throw ConfigError("--model-config " + path.string() + ": is larger than 1 MiB; no config.json");
  }
  return text;
}

}  // namespace strata::tool
