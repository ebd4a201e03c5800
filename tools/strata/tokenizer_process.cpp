#include "tokenizer_process.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "strata/base/clock.h"
#include "strata/base/error.h"
#include "tokenizer_script.h"

extern char** environ;  // NOLINT(readability-redundant-declaration): no header of POSIX has it

namespace strata::tool {
namespace {

using Json = nlohmann::json;

constexpr auto kDeadline = std::chrono::minutes(5);
constexpr int kLookMilliseconds = 100;  // how often an interruption is looked for

std::string python_program() {
  const char* const named = std::getenv("STRATA_PYTHON");
  return named != nullptr && *named != '\0' ? named : "python3";
}

std::array<int, 2> make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
    throw system_error("make a pipe", "to the tokenizer", errno);
  }
  return ends;
}

void close(int& end) {
  if (end >= 0) ::close(end);
  end = -1;
}

Json parsed(const std::string& line) {
  Json answer = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (answer.is_object()) return answer;
  throw DataError("the tokenizer's process answered with what is no JSON: " + line.substr(0, 200));
}

std::string dumped(const Json& request) {
  try {
    return request.dump() + "\n";
  } catch (const Json::type_error&) {
    throw DataError("a text for the tokenizer is not UTF-8; convert it (iconv)");
  }
}

}  // namespace

TokenizerProcess::TokenizerProcess(const std::filesystem::path& model,
                                   const Interruption& interruption)
    : interruption_(interruption), python_(python_program()) {
  start(model);
  try {
    const Json first = parsed(receive());
    if (first.contains("error")) throw ConfigError(first["error"].get<std::string>());
  } catch (...) {
    stop();
    throw;
  }
}

TokenizerProcess::~TokenizerProcess() { stop(); }

void TokenizerProcess::start(const std::filesystem::path& model) {
  std::array<int, 2> requests = make_pipe(), answers{};
  try {
    answers = make_pipe();
  } catch (...) {
    for (int& end : requests) close(end);
    throw;
  }
  std::array<std::string, 5> words = {python_, "-B", "-c", kTokenizerScript, model.string()};
  std::array<char*, 6> arguments{};
  for (std::size_t i = 0; i < words.size(); ++i) arguments[i] = words[i].data();
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, requests[0], STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, answers[1], STDOUT_FILENO);
  const int code =
      ::posix_spawnp(&process_, python_.c_str(), &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  close(requests[0]);
  close(answers[1]);
  to_ = requests[1];
  from_ = answers[0];
  if (code == 0) return;
  process_ = -1;
  stop();
  throw ConfigError("the model's tokenizer needs Python, and \"" + python_ +
                    "\" cannot be started (" + errno_name(code) +
                    "); install python3 and transformers, name another Python in the variable "
                    "STRATA_PYTHON, or give token ids with --tokens");
}

void TokenizerProcess::stop() noexcept {
  close(to_);  // which would end it too, as it does when this program is killed
  close(from_);
  if (process_ > 0) {
    ::kill(process_, SIGKILL);  // it may be in the middle of an import
    ::waitpid(process_, nullptr, 0);
  }
  process_ = -1;
}

std::vector<std::vector<std::int64_t>> TokenizerProcess::encode(
    std::span<const std::string> texts) {
  return parsed(ask(dumped({{"encode", std::vector<std::string>(texts.begin(), texts.end())}})))
      .at("ids")
      .get<std::vector<std::vector<std::int64_t>>>();
}

std::string TokenizerProcess::continuation(std::span<const std::int64_t> before,
                                           std::span<const std::int64_t> tokens) {
  using Ids = std::vector<std::int64_t>;
  return parsed(ask(dumped({{"continue", Ids(before.begin(), before.end())},
                            {"with", Ids(tokens.begin(), tokens.end())}})))
      .at("text")
      .get<std::string>();
}

std::string TokenizerProcess::ask(const std::string& request) {
  send(request);
  std::string line = receive();
  if (const Json answer = parsed(line); answer.contains("error")) {
    throw DataError("the model's tokenizer: " + answer["error"].get<std::string>());
  }
  return line;
}

void TokenizerProcess::send(const std::string& line) {
  std::size_t sent = 0;
  while (sent < line.size()) {
    interruption_.check();
    const ssize_t count = ::write(to_, line.data() + sent, line.size() - sent);
    if (count > 0) {
      sent += static_cast<std::size_t>(count);
    } else if (errno != EINTR) {
      throw DataError("the tokenizer's process (" + python_ +
                      ") has ended; its own words are above");
    }
  }
}

std::string TokenizerProcess::receive() {
  const Time deadline = kSystemClock.now() + kDeadline;
  while (true) {
    if (const std::size_t end = received_.find('\n'); end != std::string::npos) {
      std::string line = received_.substr(0, end);
      received_.erase(0, end + 1);
      return line;
    }
    interruption_.check();
    if (kSystemClock.now() > deadline) {
      throw DeadlineExceeded(
          "the tokenizer's process (" + python_ + ") has not answered for five minutes", ETIMEDOUT);
    }
    pollfd ready{.fd = from_, .events = POLLIN, .revents = 0};
    if (::poll(&ready, 1, kLookMilliseconds) <= 0) continue;
    std::array<char, 1 << 16> piece{};
    const ssize_t count = ::read(from_, piece.data(), piece.size());
    if (count > 0) {
      received_.append(piece.data(), static_cast<std::size_t>(count));
    } else if (count == 0) {
      throw ConfigError("the tokenizer's process (" + python_ +
                        ") ended without an answer; its own words are above. Name another Python "
                        "in the variable STRATA_PYTHON, or give token ids with --tokens");
    }
  }
}

}  // namespace strata::tool
