#pragma once

#include <string>
#include <vector>

namespace strata::aio {

/// What a kernel lets this process have of io_uring.
struct IoUringSupport {
  int refusal = 0;  ///< errno of making a ring; 0: one was made
  /// Requests and features that the io_uring backend works with and this kernel lacks, by the names
  /// of its header: "IORING_OP_READ_FIXED". Empty where no ring was made.
  std::vector<std::string> missing = {};
};

/// Makes a ring, asks it for its requests and takes it down. The backend itself asks for nothing by
/// version or list: it moves bytes when it is chosen (IoQueue). This is for who wants to know why
/// it was not.
[[nodiscard]] IoUringSupport io_uring_support();

}  // namespace strata::aio
