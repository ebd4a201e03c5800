#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace strata::tool {

/// One turn of a chat. The role is "system", "developer", "user", "assistant" or "tool".
struct Message {
  std::string role, content;
};

/// An example to train on, one line of a file of JSON lines or an element of a JSON array.
struct Example {
  enum class Kind : std::uint8_t {
    kText,           ///< {"text"}
    kCompletion,     ///< {"prompt", "completion"}
    kMessages,       ///< {"messages": [{"role", "content"}, ...]}
    kConversations,  ///< ShareGPT's {"conversations": [{"from", "value"}, ...]}
    kInstruction,    ///< Alpaca's {"instruction", "input", "output"}
  };
  Kind kind = Kind::kText;
  std::string where;              ///< "chats.jsonl:12"
  std::string prompt;             ///< of a completion; of an instruction it, as Alpaca has it
  std::string text;               ///< the text, completion or output
  std::vector<Message> messages;  ///< of a chat, and of an instruction as one
};

/// "{\"prompt\", \"completion\"}", ...: for people.
[[nodiscard]] std::string_view name_of(Example::Kind kind);

/// A file of JSON lines, each an object that is an example, or of one JSON array of such objects,
/// which may lie across lines. Read one by one.
class ExampleFile {
 public:
  /// Whether a file holds such: its first line that is not blank is a JSON object, or its name ends
  /// in .jsonl or .ndjson, or an array begins whose first element is an object. False for what
  /// cannot be opened.
  [[nodiscard]] static bool is_one(const std::filesystem::path& path);

  /// Throws IoError when it cannot be opened.
  explicit ExampleFile(std::filesystem::path path);

  /// The next example; nullopt at the end. Blank lines are passed over. Throws DataError, naming
  /// file, line (where an element of an array begins), fault and remedy, for one that is no JSON
  /// object, has none of the kinds' keys, is of another kind than those before it, lacks a key, has
  /// a value of another type, text that is empty, a role that is none, messages without an answer,
  /// or a key that would change what is trained and is not followed ("tools", "rejected", ...);
  /// IoError.
  [[nodiscard]] std::optional<Example> next();

  /// Keys that were passed over.
  [[nodiscard]] const std::set<std::string>& unread_keys() const { return unread_keys_; }

 private:
  /// The text of the next line, or of the next element of an array; false at the end.
  bool read_line(std::string& text);
  bool read_element(std::string& text);

  std::filesystem::path path_;
  std::ifstream stream_;
  std::size_t line_ = 0;          ///< of the example read last
  std::size_t lines_inside_ = 0;  ///< lines' ends within it
  bool is_array_ = false, is_first_ = true;
  std::optional<Example::Kind> kind_;
  std::set<std::string> unread_keys_;
};

}  // namespace strata::tool
