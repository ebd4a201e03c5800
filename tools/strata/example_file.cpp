#include "example_file.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <span>
#include <utility>

#include "strata/base/error.h"

namespace strata::tool {
namespace {

using Json = nlohmann::json;
using Kind = Example::Kind;

constexpr std::string_view kBom = "\xef\xbb\xbf";
constexpr std::string_view kBlanks = " \t\r\n\v\f";

struct KindKeys {
  Kind kind;
  std::string_view name;
  std::array<std::string_view, 2> needed;  ///< the second one may be empty: there is one
  std::string_view optional;
};
// In the order in which they are looked for: Alpaca's own files have a "text" too.
constexpr std::array kKinds = {
    KindKeys{Kind::kMessages, R"({"messages": [{"role", "content"}]})", {"messages", ""}, ""},
    KindKeys{Kind::kConversations,
             R"({"conversations": [{"from", "value"}]})",
             {"conversations", ""},
             ""},
    KindKeys{Kind::kCompletion, R"({"prompt", "completion"})", {"prompt", "completion"}, ""},
    KindKeys{Kind::kInstruction,
             R"({"instruction", "input", "output"})",
             {"instruction", "output"},
             "input"},
    KindKeys{Kind::kText, R"({"text"})", {"text", ""}, ""},
};

constexpr std::array<std::string_view, 13> kNotFollowed = {
    "tools",  "functions", "tool_calls", "function_call", "system", "images", "audios",
    "videos", "chosen",    "rejected",   "label",         "weight", "history"};

constexpr std::array kShareGptRoles = {
    std::pair{"human", "user"},        std::pair{"user", "user"},
    std::pair{"gpt", "assistant"},     std::pair{"assistant", "assistant"},
    std::pair{"chatgpt", "assistant"}, std::pair{"model", "assistant"},
    std::pair{"system", "system"}};
constexpr std::array<std::string_view, 5> kRoles = {"system", "developer", "user", "assistant",
                                                    "tool"};

const KindKeys& keys_of(Kind kind) { return *std::ranges::find(kKinds, kind, &KindKeys::kind); }

std::string kinds_for_people() {
  std::string text;
  for (const KindKeys& keys : kKinds) text += (text.empty() ? "" : ", ") + std::string(keys.name);
  return text;
}

bool is_blank(std::string_view line) {
  return line.find_first_not_of(kBlanks) == std::string_view::npos;
}

/// One line, and what can be wrong with it.
class Line {
 public:
  Line(std::string where, const Json& object) : where_(std::move(where)), object_(object) {}

  [[noreturn]] void fail(const std::string& why) const { throw DataError(where_ + ": " + why); }

  [[nodiscard]] const KindKeys& kind() const {
    for (const KindKeys& keys : kKinds) {
      const bool has_all = std::ranges::all_of(
          keys.needed, [&](std::string_view key) { return key.empty() || object_.contains(key); });
      if (has_all) return keys;
    }
    std::string found;
    for (const auto& [key, value] : object_.items()) {
      found += (found.empty() ? "\"" : ", \"") + key + "\"";
    }
    fail("has " + (found.empty() ? "no keys" : "the keys " + found) +
         ", which are none of an example: " + kinds_for_people() + "; rename them");
  }

  void refuse_what_is_not_followed(const Json& object, const std::string& inside) const {
    for (const std::string_view key : kNotFollowed) {
      const auto found = object.find(key);
      if (found == object.end() || found->is_null() || (found->is_array() && found->empty())) {
        continue;
      }
      fail(inside + "has the key \"" + std::string(key) +
           "\", which would change what is trained and is not followed here; remove it" +
           (key == "system" ? ", and make it the first message, of the role \"system\"" : ""));
    }
  }

  [[nodiscard]] std::string text(const Json& object, std::string_view key,
                                 const std::string& inside = "") const {
    const Json& value = object.at(std::string(key));
    if (!value.is_string()) {
      fail(inside + "\"" + std::string(key) + "\" is " + value.type_name() +
           ", and must be a string" +
           (key == "prompt" || key == "completion"
                ? "; chats are {\"messages\": [{\"role\", \"content\"}]}"
                : "; convert it or remove the line"));
    }
    return value.get<std::string>();
  }

  [[nodiscard]] std::string filled(std::string_view key) const {
    std::string value = text(object_, key);
    if (is_blank(value)) {
      fail("\"" + std::string(key) + "\" is empty; remove the line, or fill it");
    }
    return value;
  }

  [[nodiscard]] std::vector<Message> messages(const KindKeys& keys) const {
    const bool is_sharegpt = keys.kind == Kind::kConversations;
    const std::string name(keys.needed[0]), role_key = is_sharegpt ? "from" : "role",
                                            text_key = is_sharegpt ? "value" : "content";
    const Json& list = object_.at(name);
    if (!list.is_array() || list.empty()) {
      fail("\"" + name + "\" must be a list of messages, and has at least one; remove the line");
    }
    std::vector<Message> made;
    for (const Json& message : list) {
      const std::string inside = name + "[" + std::to_string(made.size()) + "] ";
      if (!message.is_object() || !message.contains(role_key) || !message.contains(text_key)) {
        fail(inside + "must be an object with \"" + role_key + "\" and \"" + text_key +
             "\"; add them or remove the line");
      }
      refuse_what_is_not_followed(message, inside);
      const std::string role = text(message, role_key, inside);
      made.push_back({is_sharegpt ? sharegpt_role(role, inside) : checked_role(role, inside),
                      text(message, text_key, inside)});
    }
    if (std::ranges::none_of(made, [](const Message& m) { return m.role == "assistant"; })) {
      fail("\"" + name + "\" has no answer (of the role \"" + (is_sharegpt ? "gpt" : "assistant") +
           "\"); remove the line");
    }
    return made;
  }

 private:
  [[nodiscard]] std::string checked_role(const std::string& role, const std::string& inside) const {
    if (std::ranges::find(kRoles, role) != kRoles.end()) return role;
    fail(inside + "has the role \"" + role +
         "\"; roles are system, developer, user, assistant and tool");
  }
  [[nodiscard]] std::string sharegpt_role(const std::string& role,
                                          const std::string& inside) const {
    for (const auto& [name, meant] : kShareGptRoles) {
      if (role == name) return meant;
    }
    fail(inside + "is \"from\" \"" + role +
         "\"; it is from human (or user), gpt (or assistant, "
         "chatgpt, model) or system");
  }

  std::string where_;
  const Json& object_;
};

/// The prompt that models trained on Alpaca's instructions know
/// (github.com/tatsu-lab/stanford_alpaca).
std::string alpaca_prompt(const std::string& instruction, const std::string& input) {
  const std::string end = "### Instruction:\n" + instruction +
                          (input.empty() ? "" : "\n\n### Input:\n" + input) + "\n\n### Response:\n";
  return (input.empty()
              ? "Below is an instruction that describes a task. "
              : "Below is an instruction that describes a task, paired with an input that "
                "provides further context. ") +
         std::string("Write a response that appropriately completes the request.\n\n") + end;
}

Example example_of(const std::string& where, const Json& object, std::set<std::string>& unread) {
  const Line line(where, object);
  const KindKeys& keys = line.kind();
  line.refuse_what_is_not_followed(object, "");
  for (const auto& [key, value] : object.items()) {
    if (key != keys.needed[0] && key != keys.needed[1] && key != keys.optional) unread.insert(key);
  }
  Example example{.kind = keys.kind, .where = where, .prompt = {}, .text = {}, .messages = {}};
  switch (keys.kind) {
    case Kind::kText: example.text = line.filled("text"); break;
    case Kind::kCompletion:
      example.prompt = line.text(object, "prompt");
      example.text = line.filled("completion");
      break;
    case Kind::kMessages:
    case Kind::kConversations: example.messages = line.messages(keys); break;
    case Kind::kInstruction: {
      const std::string instruction = line.filled("instruction");
      const bool has_input = object.contains("input") && !object.at("input").is_null();
      const std::string given = has_input ? line.text(object, "input") : "";
      const std::string input = is_blank(given) ? "" : given;
      example.prompt = alpaca_prompt(instruction, input);
      example.text = line.filled("output");
      example.messages = {{"user", instruction + (input.empty() ? "" : "\n\n" + input)},
                          {"assistant", example.text}};
      break;
    }
  }
  return example;
}

std::string without_bom(std::string line) {
  if (line.starts_with(kBom)) line.erase(0, kBom.size());
  return line;
}

constexpr int kEnd = std::char_traits<char>::eof();

/// Leaves the stream behind a mark of the order of bytes at its beginning.
void skip_bom(std::ifstream& stream) {
  std::array<char, kBom.size()> head = {};
  stream.read(head.data(), head.size());
  if (stream.gcount() == kBom.size() && std::string_view(head.data(), head.size()) == kBom) return;
  stream.clear();
  stream.seekg(0);
}

/// Takes blanks, of which it counts the lines' ends. The character behind them, or kEnd.
int skip_blanks(std::ifstream& stream, std::size_t& lines) {
  int c = stream.peek();
  while (c != kEnd && kBlanks.find(static_cast<char>(c)) != std::string_view::npos) {
    if (stream.get() == '\n') ++lines;
    c = stream.peek();
  }
  return c;
}

/// Whether an array of objects begins here.
bool begins_array(std::ifstream& stream) {
  std::size_t lines = 0;
  if (skip_blanks(stream, lines) != '[') return false;
  stream.get();
  if (skip_blanks(stream, lines) != '{') return false;
  stream.get();
  return skip_blanks(stream, lines) == '"';
}

}  // namespace

std::string_view name_of(Example::Kind kind) { return keys_of(kind).name; }

bool ExampleFile::is_one(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  skip_bom(stream);
  if (begins_array(stream)) return true;
  stream.clear();
  stream.seekg(0);
  constexpr std::size_t kLookedMax = 1 << 24;
  std::string line;
  for (bool first = true; stream.good(); first = false) {
    const int head = stream.peek();
    if (head == std::char_traits<char>::eof()) break;
    line.clear();
    // A file of numbers may have no line's end for gigabytes.
    for (int c = stream.get(); c != '\n' && c != std::char_traits<char>::eof(); c = stream.get()) {
      if (line.size() == kLookedMax || c == '\0') return false;
      line += static_cast<char>(c);
    }
    if (first) line = without_bom(line);
    if (!is_blank(line)) break;
  }
  const std::string extension = path.extension().string();
  if (is_blank(line)) return false;
  if (extension == ".jsonl" || extension == ".ndjson") return true;
  if (line[line.find_first_not_of(kBlanks)] != '{') return false;
  return Json::parse(line, nullptr, /*allow_exceptions=*/false).is_object();
}

ExampleFile::ExampleFile(std::filesystem::path path)
    : path_(std::move(path)), stream_(path_, std::ios::binary) {
  if (!stream_) throw system_error("open", path_.string(), errno);
  skip_bom(stream_);
  is_array_ = begins_array(stream_);
  stream_.clear();
  stream_.seekg(0);
  skip_bom(stream_);
  if (!is_array_) return;
  line_ = 1;
  skip_blanks(stream_, line_);
  stream_.get();
}

bool ExampleFile::read_line(std::string& text) {
  while (std::getline(stream_, text)) {
    ++line_;
    if (!is_blank(text)) return true;
  }
  return false;
}

bool ExampleFile::read_element(std::string& text) {
  const auto fail = [&](const std::string& why) {
    throw DataError(path_.string() + ":" + std::to_string(line_) + ": " + why +
                    "; a file of one JSON array must be objects with commas between them "
                    "(jq -c .[] makes lines of them)");
  };
  line_ += std::exchange(lines_inside_, 0);
  int c = skip_blanks(stream_, line_);
  if (c == ']') {
    stream_.get();
    if (skip_blanks(stream_, line_) != kEnd) fail("there is more behind the array");
    return false;
  }
  if (!is_first_) {
    if (c != ',') fail(c == kEnd ? "the array does not end" : "a comma is missing");
    stream_.get();
    c = skip_blanks(stream_, line_);
  }
  is_first_ = false;
  if (c != '{') fail(c == kEnd ? "the array does not end" : "an object is missing");
  text.clear();
  bool is_string = false, is_escaped = false;
  for (std::size_t depth = 0; (c = stream_.get()) != kEnd;) {
    text += static_cast<char>(c);
    if (c == '\n') ++lines_inside_;
    if (is_string) {
      if (c == '"' && !is_escaped) is_string = false;
      is_escaped = c == '\\' && !is_escaped;
    } else if (c == '"') {
      is_string = true;
    } else if (c == '{') {
      ++depth;
    } else if (c == '}' && --depth == 0) {
      return true;
    }
  }
  fail("the object that begins here does not end");
  return false;
}

std::optional<Example> ExampleFile::next() {
  std::string text;
  if (is_array_ ? !read_element(text) : !read_line(text)) {
    if (stream_.bad()) throw system_error("read", path_.string(), EIO);
    return std::nullopt;
  }
  const std::string where = path_.string() + ":" + std::to_string(line_);
  Json object;
  try {
    object = Json::parse(text);
  } catch (const Json::parse_error& error) {
    throw DataError(
        where + ": is no JSON at byte " + std::to_string(error.byte) +
        "; every line must be a JSON object on its own (jq -c . makes such lines), or an "
        "element of one array");
  }
  if (!object.is_object()) {
    throw DataError(where + ": is " + object.type_name() +
                    ", and every example must be a JSON object: " + kinds_for_people());
  }
  Example example = example_of(where, object, unread_keys_);
  if (kind_ && *kind_ != example.kind) {
    throw DataError(where + ": is " + std::string(name_of(example.kind)) +
                    ", and those before it are " + std::string(name_of(*kind_)) +
                    "; a file has examples of one kind, so put them into files of their own");
  }
  kind_ = example.kind;
  return example;
}

}  // namespace strata::tool
