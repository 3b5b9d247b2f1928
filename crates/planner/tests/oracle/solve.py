"""Solves planner instances to optimality with HiGHS and writes the golden table.

usage: python3 solve.py INSTANCES.jsonl GOLDEN.csv [SECONDS_EACH]

The model is the planner's own (docs/planner.md has it as formulas): start or wait variables for each job and pool, stop variables
for spot runs, miners as pieces of their concave hull. Where the planner rounds to whole watts the model allows a few watts more,
and whole miners at one setting a group are relaxed to pieces, so that its optimum is never below a plan's worth.
"""

import json
import sys
from collections import defaultdict

import highspy

ROUNDING = 4.0  # watts a pool or module may gain by rounding
NOW, AFTER = 0, 1


class Model:
    """Rows and columns for HiGHS, in kilowatts and dollars."""

    def __init__(self, seconds):
        self.highs = highspy.Highs()
        self.highs.setOptionValue("output_flag", False)
        self.highs.setOptionValue("threads", 1)
        self.highs.setOptionValue("time_limit", seconds)
        self.highs.setOptionValue("mip_rel_gap", 1e-6)
        self.highs.changeObjectiveSense(highspy.ObjSense.kMaximize)
        self.count = 0
        self.offset = 0.0

    def var(self, worth=0.0, upper=highspy.kHighsInf, lower=0.0, binary=False):
        self.highs.addCol(worth, lower, 1.0 if binary else upper, 0, [], [])
        if binary:
            self.highs.changeColIntegrality(self.count, highspy.HighsVarType.kInteger)
        self.count += 1
        return self.count - 1

    def at_most(self, terms, limit):
        merged = defaultdict(float)
        for var, factor in terms:
            merged[var] += factor
        columns, factors = list(merged), list(merged.values())
        if columns:
            self.highs.addRow(-highspy.kHighsInf, limit, len(columns), columns, factors)


def ceiling(module, load):
    """The planner's ceiling for a load behind the distribution loss, in watts."""
    loss = module["loss_permille"]
    metered = load + load * loss // 1000 + (1 if loss > 0 else 0)
    return metered + metered * 10 // 1000


def factor(module):
    return (1000 + module["loss_permille"]) * 1010 / 1e6


def solve(problem, seconds):
    m = Model(seconds)
    sites, modules, pools = problem["sites"], problem["modules"], problem["pools"]
    jobs, victims = problem["jobs"], problem["victims"]
    site_of = lambda pool: modules[pools[pool]["module"]]["site"]
    each = [factor(modules[p["module"]]) * p["per_gpu"] / 1e3 for p in pools]  # kW of ceiling a GPU

    starts, waits = defaultdict(list), defaultdict(list)  # pool -> [(var, job)]
    seats_of = defaultdict(list)
    freed = defaultdict(int)
    stops = defaultdict(list)
    for victim in victims:
        stop = m.var(-victim["cost"] / 1e6, binary=True)
        stops[victim["pool"]].append((stop, victim["gpus"]))
        freed[victim["pool"]] += victim["gpus"]
    for job in jobs:
        for p, pool in enumerate(pools):
            site = sites[site_of(p)]
            gpus = job["gpus"]
            if pool["gpu"] != job["gpu"] or not site["opens"] or gpus * each[p] * 1e3 > site["block"] + ROUNDING:
                continue
            if pool["free"][NOW] >= gpus and pool["free"][AFTER] >= gpus:
                var = m.var(job["value"] / 1e6, binary=True)
                starts[p].append((var, job))
                seats_of[job["id"]].append(var)
            if job["wait"] is not None and site["yields"] and pool["free"][AFTER] + freed[p] >= gpus:
                worth = job["wait"] / 1e6 - site["displaced"] / 1e6 * gpus * each[p] / 1e3
                var = m.var(worth, binary=True)
                waits[p].append((var, job))
                seats_of[job["id"]].append(var)
    for seats in seats_of.values():
        m.at_most([(var, 1) for var in seats], 1)
    for p, pool in enumerate(pools):
        gpus = lambda seats: [(var, job["gpus"]) for var, job in seats]
        m.at_most(gpus(starts[p]), pool["free"][NOW])
        freeing = [(stop, -gpus_) for stop, gpus_ in stops[p]]
        m.at_most(gpus(starts[p]) + gpus(waits[p]) + freeing, pool["free"][AFTER])
    for s, site in enumerate(sites):
        island(m, problem, s, each, starts, waits, stops)
    m.highs.run()
    info = m.highs.getInfo()
    return info.objective_function_value + m.offset, info.mip_dual_bound + m.offset


def island(m, problem, s, each, starts, waits, stops):
    site, modules, pools = problem["sites"][s], problem["modules"], problem["pools"]
    first, end = site["modules"]
    here = [p for p, pool in enumerate(pools) if first <= pool["module"] < end]

    def added(module, at):
        """Ceiling that seats and stops add, in kW, of one module or of all."""
        terms = []
        for p in here:
            if module is not None and pools[p]["module"] != module:
                continue
            terms += [(var, each[p] * job["gpus"]) for var, job in starts[p]]
            if at == AFTER:
                terms += [(var, each[p] * job["gpus"]) for var, job in waits[p]]
                terms += [(stop, -each[p] * gpus) for stop, gpus in stops[p]]
        return terms

    slack = ROUNDING * (end - first + len(here)) / 1e3
    moments = [NOW] + ([AFTER] if any(waits[p] for p in here) else [])
    for at in moments:
        seated = [(var, job) for p in here for var, job in starts[p] + (waits[p] if at == AFTER else [])]
        if not seated:
            continue
        for module in range(first, end):
            room = modules[module]["limit"] - ceiling(modules[module], modules[module]["load"][at])
            terms = added(module, at)
            if any(factor_ > 0 for _, factor_ in terms):
                m.at_most(terms, max(room, 0) / 1e3 + slack)
        fixed = site["fixed"][at] / 1e3
        big = max(fixed, 0) + sum(abs(f) for _, f in added(None, at)) + 1.0
        for level in sorted({job["level"] for _, job in seated}):
            used = m.var(binary=True)
            for var, job in seated:
                if job["level"] == level:
                    m.at_most([(var, 1), (used, -1)], 0)
            limit = site["limits"][level] / 1e3
            over = max(big - limit, 0) + 1.0
            m.at_most(added(None, at) + [(used, over)], limit - fixed + over + slack)
        if site["losses"]:
            covered(m, problem, s, at, added, seated, fixed, big, slack)
    def beside(module):
        """Firm starts on the other modules of the island."""
        return [var for p in here if pools[p]["module"] != module for var, job in starts[p] if job["level"] == 0]

    mining(m, problem, s, added, beside)


def covered(m, problem, s, at, added, seated, fixed, big, slack):
    """Fast load that is drawn now must cover the loss of any set beside what stays, once anything starts."""
    site, modules = problem["sites"][s], problem["modules"]
    first, end = site["modules"]
    counted = []
    for module in range(first, end):
        config = modules[module]
        if config["fast"] <= 0:
            continue
        fast = m.var(upper=config["fast"] / 1e3)
        room = (config["limit"] - ceiling(config, config["load"][at])) / 1e3
        terms = [(var, f / factor(config)) for var, f in added(module, at)]
        m.at_most([(fast, 1.0)] + terms, room / factor(config) + slack)
        counted.append(fast)
    most = sum(modules[module]["fast"] for module in range(first, end)) / 1e3
    grain = site["grain"] / 1e3
    used = m.var(binary=True)
    for var, _ in seated:
        m.at_most([(var, 1), (used, -1)], 0)
    usable, counts = m.var(upper=max(most, 0.0)), m.var(binary=True)
    m.at_most([(usable, 1.0), (counts, grain)] + [(fast, -1.0) for fast in counted], 0.0 + slack)
    m.at_most([(usable, 1.0), (counts, -max(most, 1e-3))], 0.0)
    for loss in site["losses"]:
        rest, base = loss["rest"] / loss["rating"], loss["base"] / loss["rating"] / 1e3
        m.at_most(added(None, at) + [(usable, -rest), (used, big)], base - fixed + big + slack)


def mining(m, problem, s, added, beside):
    """Miners fill what is left, best first; gas is paid for everything. A firm start takes the modules beside it what the sets could
    not reject."""
    site, modules = problem["sites"][s], problem["modules"]
    first, end = site["modules"]
    drawn = added(None, NOW)
    fuel = site["fuel"] / 1e9  # dollars a kW
    m.offset -= fuel * site["drawn"] / 1e3
    charge = m.var(-fuel, lower=-highspy.kHighsInf)
    m.at_most(drawn + [(charge, -1.0)], 0.0)
    m.at_most([(var, -f) for var, f in drawn] + [(charge, 1.0)], 0.0)
    pieces = defaultdict(list)
    for segment in site["segments"]:
        watts = segment["watts"] / 1e3
        pieces[segment["module"]].append(m.var(segment["profit"] / 1e6 / watts, upper=watts))
    for module in range(first, end):
        config, firm = modules[module], beside(module)
        if config.get("beside") is None or not firm:
            continue
        held = m.var(binary=True)
        for var in firm:
            m.at_most([(var, 1), (held, -1)], 0)
        left = (config["limit"] - ceiling(config, config["load"][NOW])) / 1e3
        most = (config["limit"] - config["beside"]) / 1e3
        terms = [(piece, 1.0) for piece in pieces.get(module, [])] + added(module, NOW)
        m.at_most(terms + [(held, most)], max(left, 0.0) + 0.01)
    everything = [piece for group in pieces.values() for piece in group]
    if not everything:
        return
    room = (site["mining_limit"] - site["drawn"]) / 1e3
    most = sum(f for _, f in drawn)
    if room >= most:
        m.at_most([(piece, 1.0) for piece in everything] + drawn, room + 0.01)
    else:
        # Where AI alone draws more than miners may fill up to, nothing mines.
        full, over = m.var(binary=True), m.var(upper=max(most - room, 0.0) + 1.0)
        m.at_most([(piece, 1.0) for piece in everything] + drawn + [(over, -1.0)], room + 0.01)
        m.at_most([(over, 1.0), (full, -(max(most - room, 0.0) + 1.0))], 0.0)
        m.at_most([(piece, 1.0) for piece in everything] + [(full, max(room, 1.0))], max(room, 1.0))
    for module, group in pieces.items():
        left = (modules[module]["limit"] - ceiling(modules[module], modules[module]["load"][NOW])) / 1e3
        m.at_most([(piece, 1.0) for piece in group] + added(module, NOW), max(left, 0.0) + 0.01)


def main():
    source, target = sys.argv[1], sys.argv[2]
    seconds = float(sys.argv[3]) if len(sys.argv) > 3 else 30.0
    sums = defaultdict(lambda: [0.0] * 5)
    with open(source) as lines, open(target, "w") as out:
        out.write("class,seed,digest,best,bound\n")
        for line in lines:
            row = json.loads(line)
            best, bound = solve(row["problem"], seconds)
            best, bound = round(best * 1e6), round(max(best, bound) * 1e6)
            out.write(f"{row['class']},{row['seed']},{row['digest']},{best},{bound}\n")
            out.flush()
            total = sums[row["class"]]
            for nth, value in enumerate([bound - row["plan"], bound + row["kept"], row["plan"] - row["base"],
                                         bound - row["base"], row["dual"] - bound]):
                total[nth] += value
            if row["plan"] > bound + 2000 or row["dual"] < best:
                print("MISMATCH", row["class"], row["seed"], row["plan"], row["dual"], best, bound)
    for name, (lost, whole, gained, gainable, dual) in sums.items():
        print(f"{name}: gap {lost / whole:.4%}, gain {gained / gainable:.3%}, dual above {dual / whole:.4%}")


if __name__ == "__main__":
    main()
