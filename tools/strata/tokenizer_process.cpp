#include "tokenizer_process.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <utility>

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

constexpr std::array kTokenizers = {"tokenizer.json", "vocab.json", "vocab.txt", "tokenizer.model"};
constexpr std::array kBesideTokenizers = {
    "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "merges.txt",
    "chat_template.jinja",   "chat_template.json",      "config.json"};

Json request_of(const Example& example) {
  switch (example.kind) {
    case Example::Kind::kText: return {{"text", example.text}};
    case Example::Kind::kCompletion:
      return {{"prompt", example.prompt}, {"completion", example.text}};
    default: break;
  }
  Json messages = Json::array();
  for (const Message& message : example.messages) {
    messages.push_back({{"role", message.role}, {"content", message.content}});
  }
  return {{"messages", messages}};
}

}  // namespace

bool TokenizerProcess::is_in(const std::filesystem::path& model) {
  return std::ranges::any_of(kTokenizers, [&](const char* name) {
    return std::filesystem::is_regular_file(model / name);
  });
}

std::vector<std::filesystem::path> TokenizerProcess::files_of(const std::filesystem::path& model) {
  std::vector<std::filesystem::path> files;
  const auto add = [&](const char* name) {
    if (std::filesystem::is_regular_file(model / name)) files.push_back(model / name);
  };
  std::ranges::for_each(kTokenizers, add);
  std::ranges::for_each(kBesideTokenizers, add);
  return files;
}

TokenizerProcess::TokenizerProcess(const std::filesystem::path& model,
                                   const Interruption& interruption, std::string instead)
    : interruption_(interruption), python_(python_program()), instead_(std::move(instead)) {
  start(model);
  try {
    const Json first = parsed(receive());
    if (first.contains("error")) {
      throw ConfigError(first["error"].get<std::string>() + "; or " + instead_);
    }
    has_chat_template_ = first.value("chat_template", false);
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
                    "STRATA_PYTHON, or " +
                    instead_);
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

std::vector<std::vector<std::int64_t>> TokenizerProcess::encode_plain(
    std::span<const std::string> texts) {
  const std::vector<std::string> list(texts.begin(), texts.end());
  return parsed(ask(dumped({{"encode_plain", list}})))
      .at("ids")
      .get<std::vector<std::vector<std::int64_t>>>();
}

std::vector<TokenizerProcess::Document> TokenizerProcess::documents(
    std::span<const Example> examples, bool everything) {
  Json list = Json::array();
  for (const Example& example : examples) list.push_back(request_of(example));
  const Json answer = parsed(ask(dumped({{"documents", list}, {"everything", everything}})));
  if (answer.contains("refused")) {
    throw DataError(examples[answer.at("at").get<std::size_t>()].where + ": " +
                    answer.at("refused").get<std::string>());
  }
  std::vector<Document> made;
  for (const Json& document : answer.at("documents")) {
    document.at("ids").get_to(made.emplace_back().ids);
    document.at("bears").get_to(made.back().bearing);
  }
  return made;
}

std::vector<std::string> TokenizerProcess::texts(std::span<const std::vector<std::int64_t>> ids) {
  const std::vector<std::vector<std::int64_t>> list(ids.begin(), ids.end());
  return parsed(ask(dumped({{"decode", list}}))).at("texts").get<std::vector<std::string>>();
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
                        "in the variable STRATA_PYTHON, or " +
                        instead_);
    }
  }
}

}  // namespace strata::tool
