"""The picture of a run: acknowledged records in every 50 ms, faults, gaps, elections, as an SVG."""
import contextlib
import datetime
import os
import re
import time
from xml.sax.saxutils import escape

from karst_cluster import BUILD

BUCKET_MS = 50
GAP_MS = 100        # a shorter pause of a partition is not drawn
LANE_SECONDS = 60   # longer runs have several lanes
WIDTH, LEFT = 1240, 70
ROW, FAULT_ROWS, LABEL_ROWS = 13, 2, 5
LABELS, LOAD, GAP_ROW = LABEL_ROWS * ROW, 90, 7  # heights of a lane's parts

EVENTS = (  # in the brokers' logs
    (re.compile(r"controller active in term (\d+)"), "controller: {node}, term {0}", "#7b3fb5"),
    (re.compile(r"controller: fenced broker (\d+) .*; (\d+) partitions changed"),
     "{0} fenced, {1} moved", "#c77800"),
    (re.compile(r"controller: broker (\d+) leaves; (\d+) partitions changed"),
     "{0} leaves, {1} moved", "#c77800"),
    (re.compile(r"controller: broker (\d+) of epoch \d+ is active"), "{0} active", "#2d8a3e"),
)


class Timeline:
    def __init__(self, cluster, title):
        self.cluster, self.title = cluster, title
        self.began = time.monotonic()
        self.wall = time.time() - self.began  # added to monotonic seconds
        self.faults = []  # [from, to, what]
        self.gaps = []    # (from, to, partition), longest first
        self.records = 0
        self.longest = 0.0  # ms

    @contextlib.contextmanager
    def fault(self, what):
        """Lasts as long as the block."""
        entry = [time.monotonic(), None, what]
        self.faults.append(entry)
        try:
            yield
        finally:
            entry[1] = time.monotonic()

    def find_gaps(self, producers):
        times = {}
        for producer in producers:
            for _, partition, _, ns in producer.acknowledgements():
                times.setdefault(partition, []).append(ns)
        self.records = sum(map(len, times.values()))
        self.gaps, self.longest = [], 0.0
        for partition, stamps in times.items():
            stamps.sort()
            self.longest = max([self.longest] + [(b - a) / 1e6 for a, b in zip(stamps, stamps[1:])])
            self.gaps += [(a / 1e9, b / 1e9, partition) for a, b in zip(stamps, stamps[1:])
                          if b - a >= GAP_MS * 1e6]
        self.gaps.sort(key=lambda gap: gap[0] - gap[1])

    def figures(self):
        return {"records": self.records, "faults": len(self.faults),
                "longest gap ms": self.longest}

    def elections(self):
        found = []
        for node in range(1, self.cluster.brokers + 1):
            with contextlib.suppress(OSError):
                for line in self.cluster.log(node).splitlines():
                    for pattern, text, colour in EVENTS:
                        match = pattern.search(line)
                        if match:
                            at = datetime.datetime.fromisoformat(line[:23] + "+00:00").timestamp()
                            what = text.format(*match.groups(), node=node)
                            found.append((at - self.wall, what, colour))
        return sorted(found)

    # ---- drawing ----

    def draw(self, name, producers, verdict):
        folder = os.environ.get("CHAOS_OUT", os.path.join(BUILD, "chaos"))
        os.makedirs(folder, exist_ok=True)
        self.find_gaps(producers)
        buckets = {}
        for producer in producers:
            for _, _, _, ns in producer.acknowledgements():
                key = int((ns / 1e9 - self.began) * 1000 // BUCKET_MS)
                buckets[key] = buckets.get(key, 0) + 1
        path = os.path.join(folder, re.sub(r"\W+", "-", name).strip("-") + ".svg")
        with open(path, "w", encoding="utf-8") as file:
            file.write(self.svg(buckets, verdict))
        return path

    def svg(self, buckets, verdict):
        span = time.monotonic() - self.began
        lane = min(LANE_SECONDS, max(5, int(span) + 1))
        lanes = int(span // lane) + 1
        partitions = 1 + max((gap[2] for gap in self.gaps), default=-1)
        height = LABELS + LOAD + partitions * GAP_ROW + 46
        figures = self.figures()
        out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH + 40}" '
               f'height="{lanes * height + 60}" font-family="sans-serif" font-size="10">',
               '<rect width="100%" height="100%" fill="white"/>',
               f'<text x="10" y="20" font-size="15" font-weight="bold">{escape(self.title)}</text>',
               f'<text x="10" y="38" font-size="12">{figures["records"]} records acknowledged, '
               f'{figures["faults"]} faults, longest gap of a partition '
               f'{figures["longest gap ms"]:.0f} ms; {escape(verdict[:140])}</text>']
        # What waited comes in a burst, beside which nothing could be seen: it is cut off.
        usual = sorted(buckets.values()) or [1]
        top_count = min(usual[-1], 3 * usual[len(usual) // 2])
        elections = self.elections()
        for i in range(lanes):
            top = 50 + i * height
            out += self.lane(i * lane, lane, top, buckets, top_count, partitions, elections)
        return "\n".join(out + ["</svg>\n"])

    def lane(self, start, seconds, top, buckets, top_count, partitions, elections):
        scale = (WIDTH - LEFT - 20) / seconds
        base = top + LABELS + LOAD
        bottom = base + partitions * GAP_ROW

        def x(at):
            return LEFT + min(max(at - start, 0), seconds) * scale

        out = []
        for begin, end, what in self.faults:  # bands, behind all else
            begin, end = begin - self.began, (end or time.monotonic()) - self.began
            if end >= start and begin < start + seconds:
                wide = max(1.5, x(end) - x(begin))
                out.append(f'<rect x="{x(begin):.1f}" y="{top + LABELS}" width="{wide:.1f}" '
                           f'height="{bottom - top - LABELS}" fill="#d22" fill-opacity="0.15">'
                           f'<title>{escape(what)}</title></rect>')
        bar = BUCKET_MS / 1000 * scale
        for key in range(int(start * 1000 / BUCKET_MS), int((start + seconds) * 1000 / BUCKET_MS)):
            count = buckets.get(key, 0)
            if count:
                tall = max(1, min(1, count / top_count) * LOAD)
                colour = "#4878b0" if count <= top_count else "#1d3c66"
                out.append(f'<rect x="{x(key * BUCKET_MS / 1000):.1f}" y="{base - tall:.1f}" '
                           f'width="{bar:.2f}" height="{tall:.1f}" fill="{colour}"><title>{count}'
                           '</title></rect>')
        labelled = []
        for begin, end, partition in self.gaps:  # the longest first: it has its length below
            begin, end = begin - self.began, end - self.began
            if end >= start and begin < start + seconds:
                y = base + partition * GAP_ROW
                out.append(f'<rect x="{x(begin):.1f}" y="{y + 1}" width="{x(end) - x(begin):.1f}" '
                           f'height="{GAP_ROW - 2}" fill="#d22"/>')
                wide = 40 / scale
                if begin >= start and all(end + wide < a or begin > b + wide for a, b in labelled):
                    labelled.append((begin, end))
                    out.append(f'<text x="{x(end):.1f}" y="{bottom + 10}" text-anchor="end" '
                               f'fill="#a00">{(end - begin) * 1000:.0f} ms</text>')
        out += self.labels(start, seconds, top, bottom, x, elections)
        out += axis(start, seconds, x, base, bottom, top_count)
        if partitions:
            out.append(f'<text x="{LEFT - 4}" y="{base + 8}" text-anchor="end" fill="#a00">gaps'
                       '</text>')
        return out

    def labels(self, start, seconds, top, bottom, x, elections):
        """A line down from each label. Faults have the upper rows, elections the others, and those
        for which there is no room are lines only."""
        marks = [(begin - self.began, what, "#b00") for begin, _, what in self.faults]
        marks += [(at - self.began, what, colour) for at, what, colour in elections]
        out, used = [], [0.0] * LABEL_ROWS
        for at, what, colour in sorted(marks):
            if not start <= at < start + seconds:
                continue
            is_fault = colour == "#b00"
            rows = range(FAULT_ROWS) if is_fault else range(FAULT_ROWS, LABEL_ROWS)
            anchor, width = x(at) + 2, len(what) * 5.7 + 6
            room = [row for row in rows if used[row] <= anchor]
            row = room[0] if room else min(rows, key=lambda i: used[i])
            y = top + 11 + row * ROW
            out.append(f'<line x1="{x(at):.1f}" x2="{x(at):.1f}" y1="{y - 8}" y2="{bottom}" '
                       f'stroke="{colour}" stroke-width="0.7" stroke-opacity="0.6"/>')
            if not room and not is_fault:
                continue
            anchor = max(anchor, used[row])
            used[row] = anchor + width
            if anchor + width > WIDTH + 30:
                continue
            weight = "bold" if is_fault else "normal"
            out.append(f'<text x="{anchor:.1f}" y="{y}" fill="{colour}" font-weight="{weight}">'
                       f'{escape(what)}</text>')
        return out


def axis(start, seconds, x, base, bottom, top_count):
    out = [f'<line x1="{LEFT}" x2="{x(start + seconds):.1f}" y1="{base}" y2="{base}" '
           'stroke="#333"/>',
           f'<text x="{LEFT - 4}" y="{base - LOAD + 8}" text-anchor="end">{top_count}</text>',
           f'<text x="{LEFT - 4}" y="{base - LOAD + 20}" text-anchor="end" fill="#777">in 50 ms'
           '</text>',
           f'<text x="{LEFT - 4}" y="{base}" text-anchor="end">0</text>']
    step = 1 if seconds <= 20 else 5
    for second in range(0, int(seconds) + 1, step):
        at = x(start + second)
        out.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{bottom + 12}" y2="{bottom + 16}" '
                   f'stroke="#333"/><text x="{at:.1f}" y="{bottom + 26}" text-anchor="middle">'
                   f'{start + second} s</text>')
    return out
