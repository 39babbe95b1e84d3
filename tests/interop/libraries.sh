#!/usr/bin/env bash
# Checkpoints that tessera convert writes, read by the libraries of the other tools, in a virtual environment that is
# made once (CPU build of PyTorch included: 3 GB).
#   TESSERA=PROGRAM libraries.sh ENVIRONMENT
set -euo pipefail
cd "$(dirname "$0")"
environment=$1
wanted='torch==2.15.0 transformers==5.24.0 compressed-tensors==0.20.1 gptqmodel==7.7.0 gguf==0.19.0'
if [ "$(cat "$environment/wanted" 2>/dev/null)" != "$wanted" ]; then
  rm -rf "$environment"
  python3 -m venv "$environment"
  # shellcheck disable=SC2086
  "$environment/bin/pip" install --quiet --disable-pip-version-check --no-compile $wanted
  echo "$wanted" >"$environment/wanted"
fi
"$environment/bin/python" read_exports.py "$TESSERA" ../golden/foreign
