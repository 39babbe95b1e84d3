#!/usr/bin/env python3
"""Makes the tables of kernels/cuda/cost_model.cc from timings of `gemm_bench tune`:
fit_cost_model.py LAYOUT=FILE ... [--seconds 60] > tessera/kernels/cuda/tile_costs.inc
For each tile of the kernel on wgmma least squares on the logarithm of time, those near the best weighing most; for the
kernel for few tokens random search on the loss by the model's choice. Reports to standard error how much slower
than the best measured ones the model's choices are, also for layers that were left out of the fit."""
import argparse
import json
import sys
import time

import numpy as np

LAYOUTS = {"int4": (4096, 0), "g128": (4224, 1), "g64": (4352, 1), "g32": (4608, 1), "int8": (8192, 2)}  # bytes, kind
SMS, SPLITS = 132, [1, 2, 4, 8]
# The kernel on wgmma: a launch, and bytes of weights from device memory.
LAUNCH, BANDWIDTH = 2.0, 4.5e6
# The kernel for few tokens: where the search starts.
STREAM = {"launch": 2.125, "device_bandwidth": 4.611e+06, "l2_bandwidth": 1.401e+07, "rate": 3.621e+08, "end": 0.7318,
          "exchange": 0.7391, "four_warps": 0.9828, "expansion": 15.44}


def load(arguments):
    """One array a column of the timings."""
    rows = []
    for argument in arguments:
        layout, path = argument.split("=", 1)
        rows += [{**json.loads(line), "layout": layout} for line in open(path)]
    t = {name: np.array([row[name] for row in rows], float)
         for name in ("k", "n", "m", "outputs", "tokens", "split", "warps", "us")}
    t["bytes"] = np.array([LAYOUTS[row["layout"]][0] / 8192 for row in rows])
    t["kind"] = np.array([LAYOUTS[row["layout"]][1] for row in rows])
    _, t["problem"] = np.unique([f"{r['layout']} {r['k']} {r['n']} {r['m']}" for r in rows], return_inverse=True)
    t["streams"] = (t["outputs"] < 64) | (t["outputs"] == 64) & (t["tokens"] < 64)
    t["token_tiles"] = np.ceil(t["m"] / t["tokens"])
    t["tile_tokens"] = np.ceil(t["m"] / t["token_tiles"])
    t["tiles"] = t["token_tiles"] * np.ceil(t["n"] / t["outputs"])
    best = np.full(t["problem"].max() + 1, np.inf)
    np.minimum.at(best, t["problem"], t["us"])
    t["best"] = best[t["problem"]]
    return t


def part(t, where):
    return {name: column[where] for name, column in t.items()}


def stream_blocks_per_sm(t):
    """plan_stream()"""
    per_sm = np.clip(np.ceil(t["tiles"] * t["split"] / SMS), 1, 16 // t["warps"])
    stage = t["outputs"] * 128 * t["bytes"] + t["tokens"] * 128 + 8
    sums = (t["warps"] + 1) * t["outputs"] * t["tokens"] * 4 + t["tokens"] * 8 + 8
    for _ in range(4):
        shared = np.minimum(227 * 1024, 228 * 1024 / per_sm - 1024)
        per_sm -= (shared - sums < 2 * stage * t["warps"]) & (per_sm > 1)
    return per_sm


def longest(*times):
    """longest()"""
    return np.cbrt(sum(time ** 3 for time in times))


def estimate_stream(c, t):
    """estimate_stream()"""
    blocks, slots = t["tiles"] * t["split"], SMS * t["per_sm"]
    rounds = np.ceil(blocks / slots)
    uneven = (np.where(rounds > 1, rounds * slots, np.ceil(blocks / SMS) * SMS) / blocks) ** 0.75
    work = blocks * t["k"] / t["split"]
    device = t["n"] * t["k"] * t["bytes"] / c["device_bandwidth"]
    inbound = work * (t["outputs"] * t["bytes"] + t["tile_tokens"]) / c["l2_bandwidth"] * uneven
    products = work * t["outputs"] * (t["tokens"] + c["expansion"] * (t["kind"] == 1)) / c["rate"] * uneven
    alone = np.clip(2 - blocks / SMS, 0, 1)
    return (c["launch"] + longest(device, inbound, products) + rounds * c["end"] + c["exchange"] * (t["split"] > 1) +
            c["four_warps"] * (t["warps"] == 4) * alone)


def estimate_tile(logs, t):
    """estimate_tiles(), of one tile. `logs`: of a stage by kind of layout, of an end by split, of the exponents of
    sharing an SM and of filling the device."""
    per_sm = np.where((t["outputs"] == 128) & (t["tokens"] <= 64), 2, 1)
    sms = np.where(t["split"] <= 2, SMS, np.where(t["split"] == 4, 120, 112))
    rounds = np.ceil(t["tiles"] / np.floor(sms * per_sm / t["split"]))
    blocks_per_sm = t["tiles"] * t["split"] / sms
    sharing = np.clip(np.ceil(blocks_per_sm), 1, per_sm)
    fill = np.minimum(blocks_per_sm / (rounds * np.where(rounds > 1, per_sm, sharing)), 1)
    stage = np.exp(logs[t["kind"]]) * sharing ** np.exp(logs[7]) * fill ** np.exp(logs[8])
    end = np.exp(logs[3 + np.searchsorted(SPLITS, t["split"])])
    stream = t["n"] * t["k"] * t["bytes"] / BANDWIDTH
    return LAUNCH + longest(stream, rounds * (np.ceil(t["k"] / 128 / t["split"]) * stage + end))


def fit_tile(t):
    """Gauss-Newton with damping."""
    weights = np.clip(1.6 - t["us"] / t["best"], 0.03, 0.6)
    loss = lambda logs: (np.log(estimate_tile(logs, t)) - np.log(t["us"])) * weights
    area = t["outputs"][0] * t["tokens"][0] / 16384
    logs = np.log([0.3 * area, 0.4 * area, 0.4 * area, 1.5, 2.5, 3.5, 5, 1, 0.2])
    rest, damping = loss(logs), 1e-2
    for _ in range(80):
        slopes = np.array([(loss(logs + 1e-4 * unit) - rest) / 1e-4 for unit in np.eye(len(logs))]).T
        normal = slopes.T @ slopes
        step = np.linalg.solve(normal + damping * np.diag(np.diag(normal) + 1e-6), -slopes.T @ rest)
        trial = logs + np.clip(step, -0.5, 0.5)
        trial_rest = loss(trial)
        if trial_rest @ trial_rest < rest @ rest:
            logs, rest, damping = trial, trial_rest, damping / 3
        else:
            damping *= 4
    return logs


def fit_tiles(t):
    large = part(t, ~t["streams"])
    sizes = sorted({*zip(large["outputs"], large["tokens"])})
    return {(outputs, tokens): fit_tile(part(t, (t["outputs"] == outputs) & (t["tokens"] == tokens)))
            for outputs, tokens in sizes}


def estimate(stream, tiles, t):
    estimates = np.array(estimate_stream(stream, t))
    for size, logs in tiles.items():
        where = (t["outputs"] == size[0]) & (t["tokens"] == size[1])
        estimates[where] = estimate_tile(logs, part(t, where))
    return estimates


def regret(estimates, t):
    """How much slower the choices are than the best, as logarithms, one a problem."""
    order = np.lexsort((estimates, t["problem"]))
    chosen = order[np.r_[True, np.diff(t["problem"][order]) > 0]]
    return np.log(t["us"][chosen] / t["best"][chosen])


def fit_stream(t, tiles, seconds):
    """The constants with which the choices among all are the best, also when estimates are off by a little."""
    rng = np.random.default_rng(1)
    estimates = estimate(STREAM, tiles, t)
    noise = np.exp(rng.normal(0, 0.01, (3, len(estimates))))
    few = part(t, t["streams"])
    near = few["us"] < 1.3 * few["best"]

    def judge(values):
        estimates[t["streams"]] = fresh = estimate_stream(dict(zip(STREAM, values)), few)
        loss = np.concatenate([regret(estimates * factors, t) for factors in noise])
        return 3 * loss.mean() + np.sqrt((loss ** 2).mean()) + 0.4 * np.abs(np.log(fresh / few["us"]))[near].mean()

    values = np.array([*STREAM.values()])
    score, end = judge(values), time.monotonic() + seconds
    while time.monotonic() < end:
        changed = rng.random(len(values)) < 0.4
        trial = values * np.exp(rng.normal(0, rng.choice([0.02, 0.1, 0.3]), len(values)) * changed)
        trial_score = judge(trial)
        if trial_score < score:
            values, score = trial, trial_score
    return dict(zip(STREAM, values))


def report(what, loss):
    print(f"{what}: {np.expm1(loss.mean()):.1%} slower than the best on average, {np.expm1(loss.max()):.0%} at worst",
          file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("timings", nargs="+")
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    t = load(options.timings)
    t["per_sm"] = stream_blocks_per_sm(t)
    tiles = fit_tiles(t)
    stream = fit_stream(t, tiles, options.seconds)
    chosen = regret(estimate(stream, tiles, t), t)
    report("choices", chosen)
    kind_of = t["kind"][np.unique(t["problem"], return_index=True)[1]]
    for kind, name in enumerate(("one scale a row", "groups", "8 bits")):
        if (kind_of == kind).any():
            report(f"  {name}", chosen[kind_of == kind])
    layers = t["k"] * 1e6 + t["n"]
    left_out = []
    for layer in np.unique(layers):
        others, held = part(t, layers != layer), part(t, layers == layer)
        left_out.append(regret(estimate(stream, fit_tiles(others), held), held))
    report("choices for layers that the tiles were not fitted to", np.concatenate(left_out))

    print("// Made by bench/gpu/fit_cost_model.py.")
    print("constexpr StreamCosts kStreamCosts{")
    for name, value in stream.items():
        print(f"    .{name} = {value:.4g},")
    print("};")
    print(f"constexpr double kTileLaunch = {LAUNCH:.4g}, kTileBandwidth = {BANDWIDTH:.4g};")
    print("constexpr TileCosts kTileCosts[] = {")
    for (outputs, tokens), logs in tiles.items():
        timed = t["split"][(t["outputs"] == outputs) & (t["tokens"] == tokens)]
        timed = [True] * 3 + [split in timed for split in SPLITS] + [True] * 2
        v = [f"{value:.4g}" if known else "0" for value, known in zip(np.exp(logs), timed)]
        print(f"    {{{{{outputs:.0f}, {tokens:.0f}}}, {{{', '.join(v[:3])}}}, {{{', '.join(v[3:7])}}}, {v[7]}, {v[8]}}},")
    print("};")


if __name__ == "__main__":
    main()
