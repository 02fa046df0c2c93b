"""Markdown tables of the results of bench/compare.py."""

import math

TOLERANCE = 1e-3  # largest scaled difference from onnxruntime that passes without a mark


def milliseconds(seconds):
    value = seconds * 1e3
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 100 else f"{value:.0f}"


def megabytes(size):
    return f"{size / 2**20:.0f}"


def geometric(values):
    return math.exp(sum(map(math.log, values)) / len(values)) if values else float("nan")


def line(document, case):
    """One line of progress for a case."""
    ours = case["engines"].get(document["ours"], {})
    text = f"{case['model']} t{case['threads']} b{case['batch']}:"
    if "failed" in case:
        return f"{text} {case['failed']}"
    text += f" ours {milliseconds(ours['latency_s'])} ms" if "latency_s" in ours else f" ours: {ours.get('failed')}"
    for label in document["peers"]:
        e = case["engines"].get(label, {})
        if "ratio" in e:
            text += (f" | {label} {milliseconds(e['latency_s'])} ms, x{e['ratio']:.3f} "
                     f"({e['ratio_p25']:.3f}-{e['ratio_p75']:.3f}) of {e['pairs']}{'' if e['clean'] else ' NOISY'}")
        else:
            text += f" | {label}: {e.get('failed', 'not timed')}"
        if e.get("error", 0) > TOLERANCE:
            text += " DIFFERS"
    if ours.get("error", 0) > TOLERANCE:
        text += f" OURS DIFFERS by {ours['error']:.1e}"
    return text + f" [{case['rounds']} rounds, others took {case['foreign_cores']:.2f} cores]"


def header(names):
    return ["| " + " | ".join(names) + " |", "|" + "|".join("---" if i == 0 else "--:" for i in range(len(names))) + "|"]


def settings(document):
    """The (threads, batch) pairs in the order measured."""
    found = []
    for case in document["cases"]:
        key = case["threads"], case["batch"]
        if case["engines"] and key not in found:
            found.append(key)
    return found


def cases(document, key):
    return [c for c in document["cases"] if (c["threads"], c["batch"]) == key and c["engines"]]


def best(e, ours):
    """The ratio of the fastest rounds of each."""
    return min(e["round_s"]) / min(ours["round_s"])


def peer_cell(e, ours):
    if "ratio" not in e:
        return "failed"
    mark = ("" if e.get("error", 0) <= TOLERANCE else " (!)") + ("" if e["clean"] else " (~)")
    return f"{milliseconds(e['latency_s'])} | {e['ratio']:.2f} ({e['ratio_p25']:.2f}-{e['ratio_p75']:.2f}){mark} | {best(e, ours):.2f}"


def latency(document):
    """Latencies and paired ratios, one table for each (threads, batch)."""
    out = []
    for threads, batch in settings(document):
        title = f"{threads} thread{'s' if threads > 1 else ''}" + (f", batch {batch}" if batch else "")
        names = ["model", "libsparoa ms"]
        for label in document["peers"]:
            names += [f"{label} ms", f"{label} / libsparoa", "best / best"]
        out += [f"**{title}**", ""] + header(names)
        ratios, bests = ({label: [] for label in document["peers"]} for _ in range(2))
        for case in cases(document, (threads, batch)):
            ours = case["engines"].get(document["ours"], {})
            mark = "" if ours.get("error", 0) <= TOLERANCE else " (!)"
            row = [case["model"], (milliseconds(ours["latency_s"]) if "latency_s" in ours else "failed") + mark]
            for label in document["peers"]:
                e = case["engines"].get(label, {})
                why = "failed" if label in case["engines"] else "not run"
                row.append(peer_cell(e, ours) if "ratio" in e else f"{why} | - | -")
                if "ratio" in e:
                    ratios[label].append(e["ratio"])
                    bests[label].append(best(e, ours))
            out.append("| " + " | ".join(row) + " |")
        mean = ["geometric mean", ""]
        for label in document["peers"]:
            found = len(ratios[label])
            mean += ["", f"**{geometric(ratios[label]):.2f}** of {found}" if found else "-",
                     f"{geometric(bests[label]):.2f}" if found else "-"]
        out += ["| " + " | ".join(mean) + " |", ""]
    return "\n".join(out)


def slower(document, limit=1.0):
    """The cases in which a peer is faster, the worst first."""
    found = []
    for case in document["cases"]:
        for label in document["peers"]:
            e = case["engines"].get(label, {})
            if e.get("ratio", limit) < limit:
                found.append((e["ratio"], label, case))
    out = header(["model", "peer", "threads", "batch", "peer / libsparoa", "libsparoa takes longer by"])
    for ratio, label, case in sorted(found, key=lambda f: f[0]):
        e = case["engines"][label]
        certain = "" if e["ratio_p75"] < 1 else " (within the spread)"
        out.append(f"| {case['model']} | {label} | {case['threads']} | {case['batch'] or 'as given'} | {ratio:.2f} "
                   f"({e['ratio_p25']:.2f}-{e['ratio_p75']:.2f}) | {100 / ratio - 100:.0f} %{certain} |")
    return "\n".join(out) + "\n" if found else "None.\n"


def start_and_memory(document):
    """Start time (load, plan, first inference) and peak memory against each peer."""
    names = ["model", "threads", "batch", "libsparoa start ms", "libsparoa MiB"]
    for label in document["peers"]:
        names += [f"{label} start ms", "ratio", f"{label} MiB", "libsparoa / it"]
    out, share, starts = header(names), {p: [] for p in document["peers"]}, {p: [] for p in document["peers"]}
    for case in document["cases"]:
        ours = case["engines"].get(document["ours"], {})
        if "start_s" not in ours:
            continue
        row = [case["model"], str(case["threads"]), str(case["batch"] or "as given"),
               milliseconds(ours["start_s"]), megabytes(ours["memory_engine"])]
        for label in document["peers"]:
            e = case["engines"].get(label, {})
            if "start_s" not in e:
                row += ["-"] * 4
                continue
            starts[label].append(e["start_s"] / ours["start_s"])
            share[label].append(max(1, ours["memory_engine"]) / max(1, e["memory_engine"]))
            row += [milliseconds(e["start_s"]), f"{starts[label][-1]:.2f}", megabytes(e["memory_engine"]),
                    f"{share[label][-1]:.2f}"]
        out.append("| " + " | ".join(row) + " |")
    mean = ["geometric mean", "", "", "", ""]
    for label in document["peers"]:
        mean += ["", f"**{geometric(starts[label]):.2f}**", "", f"**{geometric(share[label]):.2f}**"]
    return "\n".join(out + ["| " + " | ".join(mean) + " |"]) + "\n"


def fresh_start(document):
    """Load, plan and first inference of a process that has loaded nothing before: one per case."""
    names = ["model", "threads", "batch", "libsparoa ms"]
    for label in document["peers"]:
        names += [f"{label} ms", "ratio"]
    out, starts = header(names), {p: [] for p in document["peers"]}
    for case in document["cases"]:
        first = {label: e["load_s"] + e["first_s"] for label, e in case["engines"].items() if "first_s" in e}
        if document["ours"] not in first:
            continue
        ours = first[document["ours"]]
        row = [case["model"], str(case["threads"]), str(case["batch"] or "as given"), milliseconds(ours)]
        for label in document["peers"]:
            if label not in first:
                row += ["-"] * 2
                continue
            starts[label].append(first[label] / ours)
            row += [milliseconds(first[label]), f"{starts[label][-1]:.2f}"]
        out.append("| " + " | ".join(row) + " |")
    mean = ["geometric mean", "", "", ""]
    for label in document["peers"]:
        mean += ["", f"**{geometric(starts[label]):.2f}**"]
    return "\n".join(out + ["| " + " | ".join(mean) + " |"]) + "\n"


def layer_classes(document):
    """Share of a model's time and of the peak by class of layer (bench/layer_classes.py)."""
    machine = document["machine"]
    out = [f"- {machine['processor']} (family {machine['family']}, model {machine['model']}), {document['date']}, commit "
           f"{document['commit']}: `{document['command']}`", ""]
    out += header(["model", "class", "operators", "us", "share of time", "GFLOP/s", "share of peak"])
    for model, found in document["models"].items():
        total = sum(c["us"] for c in found["classes"].values())
        for name, c in sorted(found["classes"].items(), key=lambda item: -item[1]["us"]):
            if c["us"] < total * 0.005:
                continue
            rate = c["mflop"] / c["us"] * 1e3
            share = f"{100 * rate / found['peak_gflops']:.0f} %"
            if c["mflop"] == 0 or name == "data movement":
                rate, share = 0, "-"
            out.append(f"| {model} | {name} | {c['nodes']} | {c['us']:.0f} | {100 * c['us'] / total:.1f} % | "
                       f"{f'{rate:.0f}' if rate else '-'} | {share} |")
    return "\n".join(out) + "\n"


def peak_share(document):
    """Share of the measured peak of multiply-adds that a whole inference reaches."""
    out = header(["model", "threads", "batch", "GFLOP", "GFLOP/s", "share of peak"])
    for case in document["cases"]:
        ours = case["engines"].get(document["ours"], {})
        peak = document["peaks"].get(str(case["threads"]))
        flops = ours.get("info", {}).get("flops", 0)
        if "latency_s" in ours and peak and flops:
            rate = flops / ours["latency_s"] * 1e-9
            out.append(f"| {case['model']} | {case['threads']} | {case['batch'] or 'as given'} | {flops * 1e-9:.2f} | "
                       f"{rate:.0f} | {100 * rate / peak['gflops_all']:.0f} % |")
    return "\n".join(out) + "\n"


def idle(document):
    """Largest share of a core that each engine's process took after its work."""
    out = header(["engine", "median idle share of a core", "largest"])
    for label in [document["ours"]] + document["peers"]:
        shares = sorted(c["engines"][label]["idle_share"] for c in document["cases"]
                        if c["engines"].get(label, {}).get("idle_share") is not None)
        if shares:
            out.append(f"| {label} | {100 * shares[len(shares) // 2]:.2f} % | {100 * shares[-1]:.2f} % |")
    return "\n".join(out) + "\n"


def failures(document):
    """What each engine could not do, or did with another result."""
    out = []
    for case in document["cases"]:
        where = f"{case['model']}, {case['threads']} threads, batch {case['batch'] or 'as given'}"
        if "failed" in case:
            out.append(f"- {where}: {case['failed']}")
        for label, e in case["engines"].items():
            if "failed" in e:
                out.append(f"- {label}, {where}: {e['failed']}")
            elif e.get("error", 0) > TOLERANCE:
                out.append(f"- {label}, {where}: result differs from onnxruntime's by {e['error']:.1e} (scaled)")
    return "\n".join(out) + "\n" if out else "None.\n"


def versions(document):
    found = {}
    for case in document["cases"]:
        for label, e in case["engines"].items():
            if "version" in e and label not in found:
                found[label] = f"{e['version']}" + (f" ({e['notes']})" if e["notes"] else "")
    return "".join(f"- {label} {text}\n" for label, text in found.items())


def sweep(lines):
    """What bench_sparse printed: dense by sparse time, a line by layer, a column by share of zeros; bold where it is taken."""
    notes = [f"- {text[2:]}" for text in lines if text.startswith("# ")]
    layers, zeros = {}, []
    for text in lines:
        fields = text.split("\t")
        if len(fields) != 9 or fields[0] == "layer":
            continue
        name, m, n, k, share, dense, _, ratio, taken = fields
        if share not in zeros:
            zeros.append(share)
        row = layers.setdefault((name, f"{m}x{k}x{n}"), {"us": dense})
        row[share] = f"**{float(ratio):.2f}**" if taken == "sparse" else f"{float(ratio):.2f}"
    table = ["| layer | rows x depth x columns | dense us | " + " | ".join(f"{float(z):.0f} %" for z in zeros) + " |",
             "|---|---|---|" + "---|" * len(zeros)]
    for (name, size), row in layers.items():
        table.append(f"| {name} | {size} | {float(row['us']):.1f} | " + " | ".join(row.get(z, "") for z in zeros) + " |")
    return "\n".join(notes + [""] + table)


def alone(lines):
    """What operators.py printed: the mean ratio of each group, and every operator that is slower here than there."""
    rows = [text.split("\t") for text in lines if text.count("\t") == 7][1:]
    groups = {}
    for row in rows:
        groups.setdefault(row[0], []).append((float(row[4]), row))
    table = [f"- {text[2:]}" for text in lines if text.startswith("# ")]
    table += ["", "| group | operators | onnxruntime / libsparoa, geometric mean | lowest | slower here |", "|---|--:|--:|---|--:|"]
    for name, found in groups.items():
        low, row = min(found)
        table.append(f"| {name} | {len(found)} | {geometric([r for r, _ in found]):.2f} | {row[1]} {low:.2f} | "
                     f"{sum(r < 0.95 for r, _ in found)} |")
    table += ["", "Below 0.95:", "", "| operator | libsparoa ms | onnxruntime ms | onnxruntime / libsparoa |", "|---|--:|--:|--:|"]
    slower = sorted((ratio, row) for found in groups.values() for ratio, row in found if ratio < 0.95)
    table += [f"| {row[1]} | {float(row[2]):.3f} | {float(row[3]):.3f} | {ratio:.2f} ({float(row[5]):.2f}-{float(row[6]):.2f}) |"
              for ratio, row in slower]
    return "\n".join(table)
