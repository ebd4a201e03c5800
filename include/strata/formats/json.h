#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

/// \file
/// Read-only JSON that knows where every value stands, for messages such as
/// `ds_config.json:12: optimizer.params.lr: expected a number, found a string ("fast")`.

namespace strata::formats {

enum class JsonType { kNull, kBoolean, kInteger, kNumber, kString, kArray, kObject };

/// "a boolean", "an object", ...: for messages.
[[nodiscard]] std::string_view name_of(JsonType type);

/// The role of a text. It decides the type of its errors (DataError of kData, else ConfigError) and
/// its syntax: kHjsonConfig is Hjson (https://hjson.github.io), the syntax of DeepSpeed's config;
/// the others are strict JSON.
enum class JsonRole { kConfig, kData, kHjsonConfig };

/// Bounds that hold before memory is taken.
struct JsonLimits {
  std::size_t bytes_max = 1u << 20;
  std::size_t depth_max = 16;
  std::size_t values_max = 1u << 16;
};

namespace detail {
struct JsonDocument;
struct JsonNode;
}  // namespace detail

/// A value of a parsed text. Copies are cheap and keep the whole text's values alive; nothing can
/// be changed, so any thread may read.
///
/// Accessors throw ConfigError or DataError (by the text's role) with file, line, key path, the
/// expected and the found type.
class JsonValue {
 public:
  struct Member;

  /// Parses the whole of `text`. `name` (a file's name) begins every message. Refuses what is not
  /// strict JSON in UTF-8 (comments, trailing commas, NaN), duplicate keys, and texts beyond the
  /// limits.
  ///
  /// Hjson is wider than JSON; every JSON text means the same in it:
  ///   - comments begin with # or // and end with their line, or stand between /* and */;
  ///   - commas between values may be left out, and one may follow the last;
  ///   - the braces of the outermost object may be left out;
  ///   - keys without white space, comma, colon, brackets and braces need no quotes;
  ///   - text may stand in single quotes, or over several lines in triple ones: '''text''';
  ///   - text without quotes reaches to the end of its line, comma and comment included. A number,
  ///     true, false or null is no text when a comma, bracket, brace or comment follows it.
  /// A text without any value is refused, so that an empty file is not a config.
  [[nodiscard]] static JsonValue parse(std::string_view text, std::string name, JsonRole role,
                                       const JsonLimits& limits = {});

  [[nodiscard]] JsonType type() const;
  [[nodiscard]] bool is(JsonType expected) const { return type() == expected; }

  [[nodiscard]] bool as_bool() const;
  /// Any number.
  [[nodiscard]] double as_double() const;
  /// A whole number however written: 500000000, 5e8 and 5.0e8 alike (fractions are refused, and
  /// floating-point values beyond 2^53, which may have lost digits).
  [[nodiscard]] std::int64_t as_int64() const;
  /// A whole number written as digits, not negative.
  [[nodiscard]] std::uint64_t as_uint64() const;
  /// Valid as long as any value of this text lives.
  [[nodiscard]] const std::string& as_string() const;

  /// The values of an array, in order.
  [[nodiscard]] std::vector<JsonValue> elements() const;
  /// The members of an object, in the order of the text.
  [[nodiscard]] std::vector<Member> members() const;
  /// The member `key` of an object; nullopt when there is none. Looks at one member after the
  /// other.
  [[nodiscard]] std::optional<JsonValue> find(std::string_view key) const;
  /// The member `key`, like `find`; throws when there is none.
  [[nodiscard]] JsonValue at(std::string_view key) const;

  /// Line of the value (of its key, for a member), counted from 1.
  [[nodiscard]] std::size_t line() const;
  /// "optimizer.params.betas[1]"; empty for the whole text.
  [[nodiscard]] std::string path() const;
  /// Throws the text's error: "<name>:<line>: <path>: <why>".
  [[noreturn]] void fail(std::string_view why) const;

 private:
  JsonValue(std::shared_ptr<const detail::JsonDocument> document, const detail::JsonNode* node);
  void expect(JsonType expected) const;

  std::shared_ptr<const detail::JsonDocument> document_;
  const detail::JsonNode* node_;
};

struct JsonValue::Member {
  std::string_view key;  ///< valid as long as `value` lives
  JsonValue value;
};

}  // namespace strata::formats
