// What becomes of stdout: a result that nobody receives is an error.
#pragma once

namespace tessera {

/// Call before any file is opened: none may come to stand where stdout was closed, and a closed pipe must not
/// end the process without a word.
void prepare_output();

/// Throws std::system_error when something printed to stdout was lost: a full disk, a closed pipe.
void flush_output();

}  // namespace tessera
