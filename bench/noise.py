"""Rounds of a comparison, and which of them other processes disturbed."""

import numpy as np

LOWEST = 10  # percentile of an engine's waiting that counts as its own: waking its threads
ALLOWED = 0.01  # waiting beyond that, as a share of the time of an inference
MOST = 0.05  # no group that waited more is undisturbed, whatever the engine's own waiting
ENOUGH = 5  # undisturbed pairs without which all rounds are used and the result is marked


def spread(values):
    return [float(v) for v in np.percentile(values, [25, 50, 75])]


class Rounds:
    """Every round has, for every engine, times and waiting shares of groups of inferences."""

    def __init__(self, labels, threads):
        self.labels, self.rounds, self.alone = labels, [], threads == 1

    def __len__(self):
        return len(self.rounds)

    def add(self, one):
        if self.alone:
            # One thread's processor time is what it would take undisturbed; several wait for each other.
            for e in one.values():
                e["times"] = [t if w <= MOST else a for t, a, w in zip(e["times"], e["alone"], e["waits"])]
        self.rounds.append(one)

    def limit(self, label):
        waits = [w for r in self.rounds for w in r[label]["waits"]]
        return min(float(np.percentile(waits, LOWEST)) + ALLOWED, MOST)

    def values(self, label):
        """For each round the median time of its undisturbed groups, or of all; and whether it can
        be used as undisturbed."""
        limit, found = self.limit(label), []
        for r in self.rounds:
            pairs = list(zip(r[label]["times"], r[label]["waits"]))
            clean = [t for t, w in pairs if w <= limit]
            found.append((float(np.median(clean or r[label]["times"])), self.alone or bool(clean)))
        return found

    def undisturbed(self):
        """Number of rounds that are undisturbed for every engine."""
        if not self.rounds:
            return 0
        return sum(map(all, zip(*[[c for _, c in self.values(label)] for label in self.labels])))

    def latency(self, label):
        values = self.values(label)
        clean = [t for t, c in values if c]
        used = clean if len(clean) >= ENOUGH else [t for t, _ in values]
        p25, p50, p75 = spread(used)
        return {"latency_s": p50, "latency_p25_s": p25, "latency_p75_s": p75, "best_s": min(used),
                "undisturbed": len(clean), "round_s": [t for t, _ in values],
                "round_clean": [int(c) for _, c in values]}

    def paired(self, label, ours):
        """Ratio label / ours of each round: its median and quartiles."""
        both = [(a / b, ca and cb) for (a, ca), (b, cb) in zip(self.values(label), self.values(ours))]
        clean = [ratio for ratio, c in both if c]
        used = clean if len(clean) >= ENOUGH else [ratio for ratio, _ in both]
        p25, p50, p75 = spread(used)
        return {"ratio": p50, "ratio_p25": p25, "ratio_p75": p75, "pairs": len(used),
                "clean": self.alone or used is clean}
