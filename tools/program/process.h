#pragma once

namespace strata::tool {

/// The first thing in `main`. Opens /dev/null in the place of standard streams that are closed,
/// lest a file that is opened later takes it and gets what is written to the stream. Lets a write
/// beyond the limit of a file's size (RLIMIT_FSIZE) fail with EFBIG instead of ending the process.
void prepare_process();

}  // namespace strata::tool
