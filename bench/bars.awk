# Grouped bars as SVG. Input: panel <tab> group <tab> series <tab> value; output: one picture with a row of bars for
# each panel. -v title=... -v unit=... -v top=N (values above are cut off and written), -v log10=1 (logarithmic, from `low`).
BEGIN { FS = "\t"; count = split("#9aa5b1 #5b7c99 #c9a66b #e0c48c #8fb39a #4f8f6b #7a6fa8 #b07aa1 #d1603d #333333", colour, " ") }
function note(list, size, key, seen,   k) { k = list SUBSEP key; if (!(k in known)) { known[k] = 1; size[0]++; size[size[0]] = key } }
{ note("p", panels, $1); note("g", groups, $2); note("s", all, $3); value[$1, $2, $3] = $4; if (!top_given && $4 > most) most = $4 }
function height(v) {
    if (log10) return v <= low ? 0 : H * log(v / low) / log(limit / low)
    return H * (v > limit ? limit : v) / limit
}
function text(x, y, anchor, size, s) { printf "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" font-size=\"%d\">%s</text>\n", x, y, anchor, size, s }
END {
    limit = top > 0 ? top : most * 1.05; if (limit <= 0) limit = 1
    H = 110; bar = 9; gap = 16; left = 60; row = H + 62
    group_width = all[0] * bar + gap; W = left + groups[0] * group_width + 20; if (W < 640) W = 640
    total = 56 + panels[0] * row + 24
    printf "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" fill=\"#222\">\n", W, total
    printf "<rect width=\"%d\" height=\"%d\" fill=\"white\"/>\n", W, total
    text(10, 20, "start", 14, title)
    for (s = 1; s <= all[0]; s++) {
        x = 10 + (s - 1) * (W - 20) / all[0]
        printf "<rect x=\"%.1f\" y=\"30\" width=\"10\" height=\"10\" fill=\"%s\"/>\n", x, colour[(s - 1) % count + 1]
        text(x + 13, 39, "start", 10, all[s])
    }
    for (p = 1; p <= panels[0]; p++) {
        base = 56 + (p - 1) * row + H + 18
        text(10, base - H - 6, "start", 11, panels[p])
        for (k = 0; k <= 4; k++) {
            v = log10 ? low * exp(log(limit / low) * k / 4) : limit * k / 4
            y = base - H * k / 4
            printf "<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#ddd\"/>\n", left, W - 10, y, y
            text(left - 4, y + 3, "end", 9, sprintf("%.3g", v) (k == 4 ? " " unit : ""))
        }
        for (g = 1; g <= groups[0]; g++) {
            x = left + (g - 1) * group_width + gap / 2
            text(x + all[0] * bar / 2, base + 14, "middle", 10, groups[g])
            for (s = 1; s <= all[0]; s++) {
                if (!((panels[p], groups[g], all[s]) in value)) continue
                v = value[panels[p], groups[g], all[s]]; h = height(v)
                printf "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"%s\"><title>%s, %s: %.4g %s</title></rect>\n", \
                    x + (s - 1) * bar, base - h, bar - 1, h, colour[(s - 1) % count + 1], groups[g], all[s], v, unit
                if (!log10 && v > limit) text(x + (s - 0.5) * bar, base - H - 2, "middle", 7, sprintf("%.3g", v))
            }
        }
    }
    print "</svg>"
}
