#!/usr/bin/env python3
"""Writes wgmma_shapes.cuh, the wgmma wrappers for the given numbers of tokens, those with an f for halves: inline
assembly must spell out every operand. generate_wgmma.py 32 48 ... 256 128f 256f > wgmma_shapes.cuh"""
import sys
import textwrap


def listing(items, indent):
    return textwrap.fill(", ".join(items), 108, initial_indent=indent, subsequent_indent=indent)


def wrapper(tokens, halves):
    """The product of `tokens` tokens, of 8-bit integers or of halves."""
    count = tokens // 2
    kind = "float" if halves else "int"
    instruction = "k16.f32.f16.f16" if halves else "k32.s32.s8.s8"
    sums = listing([f"%{i}" for i in range(count)], "").splitlines()
    sums = [line + (" " if line is not sums[-1] else "") for line in sums]
    operands = [f"%{i}" for i in range(count, count + 4)]
    constraint = "+f" if halves else "+r"
    outputs = listing([f'"{constraint}"(d[{i}])' for i in range(count)], "      ").strip()
    return f"""template <>
__device__ __forceinline__ void wgmma<{tokens}>({kind} (&d)[{count}], const uint32_t (&a)[4], uint64_t b) {{
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n{tokens}{instruction} {{"
""" + "\n".join(f'      "{line}"' for line in sums) + f"""
      "}}, {{{", ".join(operands)}}}, %{count + 4}, 1{", 1, 1, 0" if halves else ""};"
      : {outputs}
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b) : "memory");
}}
"""


print("""// Made by generate_wgmma.py: wgmma for every number of tokens that tiles have.
#pragma once

#include <cstdint>

namespace tessera::cuda {

/// D += A B, asynchronously.
template <int kTokens>
__device__ void wgmma(int (&d)[kTokens / 2], const uint32_t (&a)[4], uint64_t b);
/// The same of halves.
template <int kTokens>
__device__ void wgmma(float (&d)[kTokens / 2], const uint32_t (&a)[4], uint64_t b);

// clang-format off
""")
for number in sys.argv[1:]:
    print(wrapper(int(number.rstrip("f")), number.endswith("f")))
print("""// clang-format on

}  // namespace tessera::cuda""")
