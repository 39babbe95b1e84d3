#!/usr/bin/env bash
# install_test.sh BUILD_DIR EXAMPLES CXX: installs what was built into an empty folder; the examples must build against that
# folder alone and find every output right.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cmake --install "$1" --prefix "$work/installed" >/dev/null
cmake -G Ninja -S "$2" -B "$work/build" -DCMAKE_PREFIX_PATH="$work/installed" -DCMAKE_CXX_COMPILER="$3" >/dev/null
cmake --build "$work/build"
"$work/build/multiply_layer"
