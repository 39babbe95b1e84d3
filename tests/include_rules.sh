#!/usr/bin/env bash
# The layers of docs/architecture.md: a folder of tessera/ may include itself and the folders listed for it.
set -euo pipefail
root=$1

declare -A may_use=(
  [base]=""
  [source]="base"
  [format]="base source"
  [arch]="base source format"
  [text]="base source"
  [convert]="base source format arch text"
  [chat]="base source text"
  [kernels]="base source format"
  [model]="base source format arch kernels"
  [engine]="base source format arch kernels model text"
  [bench]="base source format arch kernels model text engine"
  [quant]="base source format arch text"
  [eval]="base source format arch kernels model text engine"
  [tasks]="base source format arch kernels model text chat engine eval"
  [server]="base source format arch kernels model text chat engine eval"
  [program]="base source format arch kernels model text chat engine eval"
  [cli]="base source format arch kernels model text convert chat engine bench eval tasks server program"
  [quant_cli]="base source format arch kernels model text engine quant eval program"
)

# The parts of quant/, lowest first: each may include itself and those before it; tests, all of them.
quant_parts=(recipe block grid passes run)

status=0
for path in "$root"/tessera/*/; do
  folder=$(basename "$path")
  if [ -z "${may_use[$folder]+x}" ]; then
    echo "tessera/$folder is not in the table of layers"
    status=1
    continue
  fi
  allowed=" $folder ${may_use[$folder]} "
  while IFS=: read -r file line include; do
    used=$(sed -E 's|.*"tessera/([a-z_]+)/.*|\1|' <<<"$include")
    if [[ $allowed != *" $used "* ]]; then
      echo "$file:$line: tessera/$folder may not include tessera/$used"
      status=1
    fi
  done < <(grep -rnE --include='*.h' --include='*.cc' --include='*.cu' --include='*.cuh' '#include "tessera/[a-z_]+/' "$path" || true)
  if [ "$folder" != quant ] && grep -rnlE '#include <(torch|ATen|c10)/' "$path"; then
    echo "tessera/$folder includes libtorch; only quant may"
    status=1
  fi
done
for ((i = 0; i < ${#quant_parts[@]}; ++i)); do
  for ((j = i + 1; j < ${#quant_parts[@]}; ++j)); do
    if grep -rnE --include='*.h' --include='*.cc' --exclude='*_test.cc' "#include \"tessera/quant/${quant_parts[j]}/" \
      "$root/tessera/quant/${quant_parts[i]}"; then
      echo "tessera/quant/${quant_parts[i]} may not include tessera/quant/${quant_parts[j]}"
      status=1
    fi
  done
done
exit $status
