#!/usr/bin/env bash
# no_heavy_libraries.sh PROGRAM: fails when it loads, itself or through others, what only the quantizer may need.
set -euo pipefail
if ldd "$1" | grep -iE 'torch|libc10|protobuf|blas|lapack'; then
  echo "$1 must not need these libraries (docs/architecture.md, Dependencies)"
  exit 1
fi
