#include "heap.h"

#include <malloc.h>

namespace strata::tool {

void return_freed_blocks_from(std::size_t bytes) {
  mallopt(M_MMAP_THRESHOLD, static_cast<int>(bytes));
  mallopt(M_TRIM_THRESHOLD, static_cast<int>(bytes));
}

}  // namespace strata::tool
