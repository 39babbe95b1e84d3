#!/usr/bin/env bash
# The real clients against the server: openai, lm-evaluation-harness, and schemathesis, which makes requests from the server's
# own description; in a virtual environment that is made once (0.7 GB). With `hf` the comparison with lm-eval's own backend for Hugging Face
# models instead, which needs torch: some GB.
#   clients.sh ENVIRONMENT [hf]        TESSERA and TESSERA_MODEL name the program and a float model
set -euo pipefail
cd "$(dirname "$0")"
environment=$1
wanted='openai==3.* lm_eval[api]>=0.4.13 pyarrow schemathesis==4.* jsonschema==4.*'
[ "${2:-}" = hf ] && wanted+=' lm_eval[hf]' && environment+=-hf
if [ "$(cat "$environment/wanted" 2>/dev/null)" != "$wanted" ]; then
  rm -rf "$environment"
  python3 -m venv "$environment"
  # shellcheck disable=SC2086
  "$environment/bin/pip" install --quiet --disable-pip-version-check --no-compile $wanted
  echo "$wanted" >"$environment/wanted"
fi
if [ "${2:-}" = hf ]; then
  "$environment/bin/python" test_lm_eval_hf.py
  exec "$environment/bin/python" test_eval.py hf
fi
"$environment/bin/python" test_openai.py
"$environment/bin/python" test_eval.py
# What a quantized model says does not depend on load.
"$TESSERA" -q quantize "$TESSERA_MODEL" --method rtn -o "$environment/model" --overwrite >/dev/null
export TESSERA_MODEL=$environment/model
"$environment/bin/python" test_lm_eval.py
"$environment/bin/python" test_schema.py
