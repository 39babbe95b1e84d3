// The files of tasks/, compiled in.
#pragma once

#include <span>
#include <string_view>

namespace tessera {

/// The text of each.
std::span<const std::string_view> built_in_task_texts();

}  // namespace tessera
