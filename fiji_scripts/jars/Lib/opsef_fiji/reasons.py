"""Why a variant comes first, in the words and figures of the ranking."""

MEANING = {
    "rank": "place among the variants of its group",
    "score": "what the rank is by: agreement, with truth where there is some",
    "agreement": "how well the other families of variants agree with it (0 to 1)",
    "agreement_07": "the same, counting only close matches (IoU 0.7)",
    "plain_mean": "mean agreement with all variants, related ones too",
    "plain_mean_07": "the same for close matches",
    "object_px": "typical diameter of its objects in pixels",
    "seconds": "time it took",
}
PARTS = ("rank", "group", "score", "agreement", "agreement_07", "plain_mean", "plain_mean_07",
         "truth", "objects", "object_px", "seconds", "status", "family", "recipe", "engine",
         "model", "scale", "parameters")


def rows_of_variant(row):
    """Return (part, value, meaning) of what is known of one variant."""
    return [(key, row[key], MEANING.get(key, "")) for key in PARTS
            if row.get(key) not in (None, "")]


def rows_of_ranking(told, names=None):
    """Return (part, value, meaning) of what the ranking of a group says.

    told: of `source.ranking(run)`, {} where an older version ranked. names: {id: slug}.
    """
    names, found = names or {}, []

    def called(variant):
        return " ".join(part for part in (variant, names.get(variant)) if part)

    if told.get("first"):
        found.append(("first choice", called(told["first"]), ""))
    for key, meaning in (
            ("score", "of the first choice: agreement, together with the answers of persons"),
            ("agreement", "of the first choice with the other families of variants"),
            ("answers", "places and objects that a person has vouched for")):
        if told.get(key) is not None:
            found.append((key, told[key], meaning))
    if told.get("ties"):
        found.append(("ties with it", ", ".join(called(variant) for variant in told["ties"]),
                      "the order of these says nothing"))
    if told.get("plain_first"):
        found.append(("first by plain mean", called(told["plain_first"]),
                      "the mean agreement that anyone can recompute"))
    sure = told.get("confidence") or {}
    shares = sure.get("shares") or {}
    for variant in sorted(shares, key=lambda name: (-shares[name], name)):
        found.append(("share of first places", "%.0f %%  %s" % (
            100 * shares[variant], called(variant)),
            "when the %s %s are drawn anew" % (sure.get("count"), sure.get("by"))))
    return found + [("note", words, "") for words in told.get("words") or []]


def lines_of(rows):
    """Return the rows of a window with a table."""
    return [u"\t".join(u"%s" % (round(cell, 4) if isinstance(cell, float) else cell)
                       for cell in row) for row in rows]


def sentences_of(groups, names=None):
    """Return what rankings say, as sentences: the first choice, notes, then figures.

    Groups are named where there are several.
    """
    found, order = [], ["first choice", "note"]
    for group in sorted(groups):
        told = groups[group]
        if len(groups) > 1:
            found.append(u"Group %s:" % group)
        rows = rows_of_ranking(told, names)
        rows.sort(key=lambda row: order.index(row[0]) if row[0] in order else len(order))
        for part, value, meaning in rows:
            found.append(u"%s" % value if part == "note" else u"%s: %s%s" % (
                part, round(value, 4) if isinstance(value, float) else value,
                " (%s)" % meaning if meaning else ""))
    return found


def page_of(sentences):
    """Return sentences as the HTML that ImageJ's button Help shows."""
    safe = [words.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
            for words in sentences]
    return u"<html><h3>Why is this first?</h3>%s</html>" % u"".join(
        u"<p>%s</p>" % words for words in safe)


def wrapped(text, width=76):
    """Return text in lines that a dialog can hold.

    >>> wrapped("one two three", 8)
    'one two\\nthree'
    """
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] += (" " if lines[-1] else "") + word
    return "\n".join(lines)
