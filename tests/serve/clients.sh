#!/usr/bin/env bash
# The real clients against the server: openai and lm-evaluation-harness, in a virtual environment that is made once.
#   clients.sh ENVIRONMENT
set -euo pipefail
cd "$(dirname "$0")"
environment=$1
wanted='openai==3.* lm_eval[api]>=0.4.13'
if [ "$(cat "$environment/wanted" 2>/dev/null)" != "$wanted" ]; then
  rm -rf "$environment"
  python3 -m venv "$environment"
  # shellcheck disable=SC2086
  "$environment/bin/pip" install --quiet --disable-pip-version-check --no-compile $wanted
  echo "$wanted" >"$environment/wanted"
fi
"$environment/bin/python" test_openai.py
"$environment/bin/python" test_lm_eval.py
