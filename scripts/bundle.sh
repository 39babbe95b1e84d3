#!/usr/bin/env bash
# Packs the program `tessera` with the shared libraries that it needs, so that it runs on a machine that has glibc of this age
# or later, a driver for its GPU where one is to be used, and nothing else.
#   scripts/bundle.sh BUILD_DIR OUT.tar.xz
# The CUDA runtime is linked in. Float models on a GPU also need libcublas, which is not packed.
set -euo pipefail
build=$1 out=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/tessera
mkdir -p "$root/bin" "$root/lib"
strip -o "$root/bin/tessera" "$build/bin/tessera"
cp "$build/lib/libtessera_sentencepiece.so" "$root/lib/"

# All that ldd finds, but for the C library, whose parts must be those of the machine's loader.
ldd "$root/bin/tessera" "$root/lib/"*.so | awk '$2 == "=>" && $3 ~ /^\// {print $3}' | sort -u |
  grep -vE '/(libc|libm|libdl|librt|libpthread|libresolv)\.so' |
  while read -r library; do cp -L "$library" "$root/lib/"; done
strip "$root"/lib/*.so*
for library in "$root"/lib/*; do patchelf --set-rpath '$ORIGIN' "$library"; done
patchelf --set-rpath '$ORIGIN/../lib' "$root/bin/tessera"

# What it says of itself must not come from this machine's libraries.
foreign=$(env -i ldd "$root/bin/tessera" "$root"/lib/* | awk '$2 == "=>" {print $3}' | sort -u |
  grep -vE "^$root/|/(libc|libm|libdl|librt|libpthread|libresolv)\.so" || true)
[ -z "$foreign" ] || { echo "the bundle would load $foreign" >&2; exit 1; }
env -i "$root/bin/tessera" --version

mkdir -p "$(dirname "$out")"
tar -C "$work" -cJf "$out" tessera
echo "$out: $(stat -c %s "$out" | numfmt --to=si)B, unpacked $(du -sb "$root" | cut -f1 | numfmt --to=si)B"
