#!/usr/bin/env python3
"""Fits the constants of kernels/cuda/cost_model.cc to timings of `gemm_bench tune`:
fit_cost_model.py LAYOUT=FILE ... [--seconds 60]. Minimises the loss by the model's choice against the best measured
configuration, and the error of its estimates near it, by random search."""
import argparse
import json
import time

import numpy as np

BLOCK_BYTES = {"int4": 4096, "g128": 4224, "g64": 4352, "g32": 4608, "int8": 8192}
SMS = 132
# Where the search starts: the constants that the model has.
STREAM = {"launch": 2.472, "device_bandwidth": 4.68e+06, "l2_bandwidth": 1.21e+07, "rate": 5.144e+08, "end": 0.7697,
          "exchange": 0.5064, "four_warps": 0.03791, "expansion": 0.5393}
TILES = {"launch": 3.744, "device_bandwidth": 4.662e+06, "sm_bandwidth": 1.019e+05, "sm_rate": 9.413e+06, "stage":
         0.04033, "tile": 1.118, "exchange_rate": 6.507e+04, "send": 1.076, "exchange": 0.332, "unpacking": 0.001813,
         "expansion": 0.06085}
# Corrections by tile size.
FACTORS = {(32, 24): 0.9987, (32, 48): 1.021, (64, 16): 1.05, (64, 64): 0.9, (64, 128): 0.9, (128, 32): 0.9645, (128, 64): 1.076, (128, 96): 0.9337,
           (128, 128): 0.9559, (128, 144): 0.9413, (128, 256): 1.027, (192, 32): 0.933, (192, 48): 0.942, (192, 64):
           0.9573, (192, 96): 1.031, (192, 128): 1.019, (192, 144): 1.063, (192, 160): 1.01, (256, 80): 1.008, (256,
           128): 1.151, (256, 144): 1.121}


def load(arguments):
    """One array a column of the timings."""
    rows = []
    for argument in arguments:
        layout, path = argument.split("=", 1)
        rows += [{**json.loads(line), "layout": layout} for line in open(path)]
    t = {name: np.array([row[name] for row in rows], float)
         for name in ("k", "n", "m", "rows", "tokens", "split", "warps", "us")}
    t["bytes"] = np.array([BLOCK_BYTES[row["layout"]] / 8192 for row in rows])
    t["grouped"] = np.array([row["layout"].startswith("g") for row in rows])
    _, t["problem"] = np.unique([f"{r['layout']} {r['k']} {r['n']} {r['m']}" for r in rows], return_inverse=True)
    t["streams"] = (t["rows"] < 64) | (t["rows"] == 64) & (t["tokens"] < 64)
    t["token_tiles"] = np.ceil(t["m"] / t["tokens"])
    t["tile_tokens"] = np.ceil(t["m"] / t["token_tiles"])
    t["per_sm"] = stream_blocks_per_sm(t)
    return t


def stream_blocks_per_sm(t):
    """plan_stream()"""
    blocks = np.ceil(t["n"] / t["rows"]) * t["split"] * t["token_tiles"]
    per_sm = np.clip(np.ceil(blocks / SMS), 1, 16 // t["warps"])
    stage = t["rows"] * 128 * t["bytes"] + t["tokens"] * 128 + 8
    sums = (t["warps"] + 1) * t["rows"] * t["tokens"] * 4 + t["tokens"] * 8 + 8
    for _ in range(4):
        shared = np.minimum(227 * 1024, 228 * 1024 / per_sm - 1024)
        per_sm -= (shared - sums < 2 * stage * t["warps"]) & (per_sm > 1)
    return per_sm


def estimate_stream(c, t):
    blocks = np.ceil(t["n"] / t["rows"]) * t["split"] * t["token_tiles"]
    slots = SMS * t["per_sm"]
    rounds = np.ceil(blocks / slots)
    heaviest = np.where(rounds > 1, rounds * slots, np.ceil(blocks / SMS) * SMS)
    uneven = (heaviest / blocks) ** 0.75
    work = blocks * t["k"] / t["split"]
    device = t["n"] * t["k"] * t["bytes"] / c["device_bandwidth"]
    inbound = work * (t["rows"] * t["bytes"] + t["tile_tokens"]) / c["l2_bandwidth"] * uneven
    products = work * t["rows"] * t["tokens"] / c["rate"] * (1 + c["expansion"] * t["grouped"]) * uneven
    return (c["launch"] + np.cbrt(device ** 3 + inbound ** 3 + products ** 3) + rounds * c["end"] +
            c["exchange"] * (t["split"] > 1) + c["four_warps"] * (t["warps"] == 4))


def estimate_tiles(c, t):
    per_sm = np.where((t["rows"] == 128) & (t["tokens"] <= 64), 2, 1)
    tiles = t["token_tiles"] * np.ceil(t["n"] / t["rows"])
    sms = np.where(t["split"] <= 2, SMS, np.where(t["split"] == 4, 120, 112))
    rounds = np.ceil(tiles / np.floor(sms * per_sm / t["split"]))
    sharing = np.clip(tiles * t["split"] / SMS, 1, per_sm)
    inbound = 128 * (t["rows"] * t["bytes"] + t["tile_tokens"])
    products = 128 * t["rows"] * t["tokens"]
    unpacking = np.where(t["bytes"] < 1, c["unpacking"] + c["expansion"] * t["grouped"], 0) * t["rows"] / 128
    stage = (np.maximum(inbound / c["sm_bandwidth"], products / c["sm_rate"]) + unpacking) * sharing + c["stage"]
    exchange = 4 * t["rows"] * t["tokens"] / c["exchange_rate"]
    finish = c["tile"] + exchange / t["split"] + np.where(
        t["split"] > 1, c["send"] * (t["split"] - 1) / t["split"] * exchange + c["exchange"], 0)
    stream = t["n"] * t["k"] * t["bytes"] / c["device_bandwidth"]
    return c["launch"] + np.hypot(stream, rounds * (np.ceil(t["k"] / 128) / t["split"] * stage + finish))


def judge(values, t, best):
    """(loss to minimise, mean log regret, worst log regret)"""
    stream, tiles, factors = np.split(values, [len(STREAM), len(STREAM) + len(TILES)])
    estimates = np.where(t["streams"], estimate_stream(dict(zip(STREAM, stream)), t),
                         estimate_tiles(dict(zip(TILES, tiles)), t))
    for (rows, tokens), factor in zip(FACTORS, factors):
        estimates[(t["rows"] == rows) & (t["tokens"] == tokens)] *= factor
    order = np.lexsort((estimates, t["problem"]))
    chosen = t["us"][order][np.r_[True, np.diff(t["problem"][order]) > 0]]
    regret = np.log(chosen / best)
    near = t["us"] < 1.3 * best[t["problem"]]
    error = np.abs(np.log(estimates / t["us"]))[near].mean()
    return 3 * regret.mean() + np.sqrt((regret ** 2).mean()) + 0.4 * error, regret.mean(), regret.max()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("timings", nargs="+")
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    t = load(options.timings)
    best = np.full(t["problem"].max() + 1, np.inf)
    np.minimum.at(best, t["problem"], t["us"])
    rng = np.random.default_rng(1)
    values = np.array([*STREAM.values(), *TILES.values(), *FACTORS.values()], float)
    score = judge(values, t, best)
    end = time.monotonic() + options.seconds
    while time.monotonic() < end:
        changed = rng.random(len(values)) < rng.choice([0.1, 0.3])
        trial = values * np.exp(rng.normal(0, rng.choice([0.03, 0.12, 0.3]), len(values)) * changed)
        trial_score = judge(trial, t, best)
        if trial_score < score:
            values, score = trial, trial_score
    for name, value in zip([*STREAM, *TILES, *FACTORS], values):
        print(f"{name} = {value:.4g}")
    print(f"choices are {np.expm1(score[1]):.1%} slower than the best on average, {np.expm1(score[2]):.0%} at worst")


if __name__ == "__main__":
    main()
