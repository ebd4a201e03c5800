#pragma once

#include "formats/regular_file.h"
#include "formats/token_layout.h"

namespace strata::formats {

/// Whether the file begins as NumPy's .npy does.
[[nodiscard]] bool is_npy(const RegularFile& file);

/// Where the tokens of a .npy file lie: a one-dimensional array of whole numbers, little endian,
/// format versions 1 to 3. Throws DataError, saying what the array is and how to save it, for any
/// other and for a file that does not hold exactly the array.
[[nodiscard]] TokenLayout npy_layout(const RegularFile& file);

}  // namespace strata::formats
