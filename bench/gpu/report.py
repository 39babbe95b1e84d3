#!/usr/bin/env python3
"""Tables (and a plot) of gemm_bench's JSON lines, shares of the roofline and extremes: report.py FILE [--plot PNG] [--shapes | --borders]."""
import argparse
import collections
import json
import math
import statistics

# One H200: bytes a microsecond of a cold read, multiply-adds a microsecond of int8 (best burst seen).
READ_RATE, MAC_RATE = 4.65e6, 1700e6 / 2


def load(path):
    """{(model, k, n): {m: {kernel: row}}}"""
    table = collections.defaultdict(lambda: collections.defaultdict(dict))
    for line in open(path):
        row = json.loads(line)
        table[row["model"], row["k"], row["n"]][row["m"]][row["kernel"]] = row
    return table


def geomean(values):
    return math.exp(sum(map(math.log, values)) / len(values)) if values else float("nan")


def weight_bytes(kernel):
    kind = kernel.split()[0]
    return {"fp16": 2, "int8": 1, "cublaslt": 1, "int4": 0.5, "g128": 0.5 + 2 / 128, "g64": 0.5 + 2 / 64,
            "g32": 0.5 + 2 / 32}[kind]


def roofline(kernel, m, k, n):
    rate = MAC_RATE / (2 if kernel == "fp16" else 1)
    return max(n * k * weight_bytes(kernel) / READ_RATE, m * n * k / rate)


def kernels_of(table):
    found = {}
    for by_m in table.values():
        for by_kernel in by_m.values():
            found.update(dict.fromkeys(by_kernel))
    return list(found)


def ratios(table, models, m, kernel):
    return [by_m[m]["fp16"]["us"] / by_m[m][kernel]["us"] for (model, _, _), by_m in table.items()
            if model in models and m in by_m and kernel in by_m[m] and "fp16" in by_m[m]]


def print_geomeans(table, title, models):
    tokens = sorted({m for by_m in table.values() for m in by_m})
    print(f"\n{title}: geometric mean of time(cuBLAS FP16) / time")
    print("| kernel | " + " | ".join(map(str, tokens)) + " |\n|---|" + "---:|" * len(tokens))
    for kernel in kernels_of(table):
        print(f"| {kernel} | " + " | ".join(f"{geomean(ratios(table, models, m, kernel)):.2f}" for m in tokens) + " |")


def times(table, models, kernel):
    """{(shape, m): microseconds}"""
    return {(shape, m): by_kernel[kernel]["us"] for shape, by_m in table.items() if shape[0] in models
            for m, by_kernel in by_m.items() if kernel in by_kernel}


def print_shares(table, title, models):
    tokens = sorted({m for by_m in table.values() for m in by_m})
    print(f"\n{title}: geometric mean of the share of the roofline")
    for kernel in ("int4", "g128", "int8"):
        found = times(table, models, kernel)
        shares = {m: geomean([roofline(kernel, m, *shape[1:]) / us for (shape, at), us in found.items() if at == m])
                  for m in tokens}
        print(f"{kernel}: " + ", ".join(f"{m}: {share:.0%}" for m, share in shares.items()))


def print_extremes(table, title, models):
    """The least speedups, what 4-bit weights cost beside 8-bit ones, and what one token more than a tile costs."""
    def at(point):
        (_, k, n), m = point
        return f"{k} x {n}, M = {m}"

    def highest(values, bar):
        """The greatest value, and all others beyond the bar."""
        order = sorted(values, key=values.get, reverse=True)
        return ", ".join(f"{values[point]:.2f} ({at(point)})" for point in order
                         if point == order[0] or values[point] > bar)

    print(f"\n{title}: extremes")
    fp16, eight_bits = times(table, models, "fp16"), times(table, models, "int8")
    for kernel in kernels_of(table):
        found = times(table, models, kernel)
        if "overlapped" in kernel or kernel == "fp16" or not found:
            continue
        speedups = {point: fp16[point] / us for point, us in found.items()}
        slow = sorted(speedups, key=speedups.get)
        print(f"{kernel}: least speedup " + ", ".join(
            f"{speedups[point]:.2f} ({at(point)})" for point in slow if point == slow[0] or speedups[point] < 1))
        if kernel.startswith(("int4", "g")) and "outliers" not in kernel:
            beside = {point: us / eight_bits[point] for point, us in found.items()}
            print(f"  longest beside int8: {highest(beside, 1.05)}")
        for m in sorted({m for _, m in found}):
            steps = {(shape, m + 1): us / found[shape, m] for (shape, next_m), us in found.items()
                     if next_m == m + 1 and (shape, m) in found}
            if steps:
                print(f"  M = {m} to {m + 1}: median {statistics.median(steps.values()):.2f}, most {highest(steps, 1.1)}")


def print_borders(table):
    """What `gemm_bench borders` found: steps of one token, and whether another tile or split would make them smaller."""
    for kernel in kernels_of(table):
        steps = [(by_m[m + 1][kernel]["us"] / by_kernel[kernel]["us"], k, n, m, by_m[m + 1])
                 for (_, k, n), by_m in table.items() for m, by_kernel in by_m.items()
                 if kernel in by_kernel and kernel in by_m.get(m + 1, {})]
        if not steps:
            continue
        print(f"\n{kernel}: {len(steps)} borders, median step {statistics.median(step for step, *_ in steps):.3f}")
        for step, k, n, m, there in sorted(steps, key=lambda found: -found[0]):
            if kernel + " best" not in there:
                break
            ours, best = there[kernel], there[kernel + " best"]
            print(f"  {step:.2f} {k} x {n}, M = {m + 1}: {ours['outputs']} x {ours['tokens']} split {ours['split']} {ours['us']:.1f} us, "
                  f"best {best['outputs']} x {best['tokens']} split {best['split']} {best['us'] / ours['us']:.2f} of it")


def print_shapes(table):
    print("\nmicroseconds (share of the roofline, tile and split where ours)")
    for (model, k, n), by_m in table.items():
        for m, by_kernel in sorted(by_m.items()):
            cells = []
            for kernel, row in by_kernel.items():
                share = roofline(kernel, m, k, n) / row["us"]
                tile = f" {row['outputs']}x{row['tokens']}/{row['split']}" if row["outputs"] else ""
                cells.append(f"{kernel} {row['us']:.2f} ({share:.0%}{tile})")
            print(f"{model} K={k} N={n} M={m}: " + ", ".join(cells))


def plot(table, path):
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    tokens = sorted({m for by_m in table.values() for m in by_m})
    figure, axes = plt.subplots(figsize=(9, 5))
    for kernel in kernels_of(table):
        axes.plot(tokens, [geomean(ratios(table, ("7b", "13b"), m, kernel)) for m in tokens], marker="o", label=kernel)
    axes.set(xscale="log", xlabel="tokens M", ylabel="speedup over cuBLAS FP16",
             title="Linear layers of LLaMA 7B and 13B, one H200, geometric mean")
    axes.set_xscale("log", base=2)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120, bbox_inches="tight")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("--plot")
    parser.add_argument("--shapes", action="store_true")
    parser.add_argument("--borders", action="store_true", help="of the lines of gemm_bench borders")
    options = parser.parse_args()
    table = load(options.file)
    if options.borders:
        return print_borders(table)
    if options.shapes:
        print_shapes(table)
    for title, models in (("7B and 13B", ("7b", "13b")), ("70B", ("70b",)), ("Other layers", ("other",))):
        if not any(shape[0] in models for shape in table):
            continue
        print_geomeans(table, title, models)
        print_shares(table, title, models)
        print_extremes(table, title, models)
    if options.plot:
        plot(table, options.plot)


if __name__ == "__main__":
    main()
