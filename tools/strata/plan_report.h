#pragma once

#include <iosfwd>
#include <vector>

#include "plan_study.h"

namespace strata::tool {

/// Writes the answer for people: tables.
void write_answer(std::ostream& out, const PlanQuestion& question, const PlanAnswer& answer,
                  const std::vector<WhatIf>& what_ifs);

/// Writes the same as one JSON object.
void write_answer_json(std::ostream& out, const PlanQuestion& question, const PlanAnswer& answer,
                       const std::vector<WhatIf>& what_ifs);

}  // namespace strata::tool
