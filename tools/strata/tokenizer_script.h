#pragma once

namespace strata::tool {

/// The text of tokenizer_process.py.
extern const char* const kTokenizerScript;

}  // namespace strata::tool
