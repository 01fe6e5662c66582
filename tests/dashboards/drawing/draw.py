"""Draws the dashboards from the data that `record.py` recorded: layout, titles, units, thresholds and legends as in the JSON.

    scripts/tools/draw-dashboards.sh

Invariant: each picture names the script that drew it, and shows only numbers of the data.
"""

import datetime
import io
import json
import math
import re
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, MaxNLocator
from PIL import Image

from tests.dashboards.boards import boards

# Width of the page, and height of one unit of gridPos, in inches.
WIDTH, UNIT, DPI = 15, 0.28, 100
COLORS = {"green": "#3b9b45", "orange": "#e8871e", "red": "#d43d4d", "dark-red": "#8f1f2d", "transparent": "none"}
LINES = ["#3b9b45", "#e0a80d", "#3f7fd1", "#e8871e", "#d43d4d", "#8a5fc0", "#17a2a2", "#b0509b", "#7a6a53", "#6f7f8f"]
INK, PALE, PAPER = "#24292f", "#6b7280", "#f4f5f7"
# Number of lines of a legend that fit below a panel.
LEGENDS = 6
plt.rcParams.update({"font.family": "DejaVu Sans", "font.size": 7, "text.color": INK, "axes.edgecolor": "#d0d4da"})


def plain(value):
    """Formats a number with three digits and without an exponent."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def scaled(value, base, names):
    step = 0
    while abs(value) >= base and step < len(names) - 1:
        value, step = value / base, step + 1
    return plain(value) + names[step]


def duration(seconds):
    for size, name in [(86_400, "d"), (3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms"), (1e-6, "µs")]:
        if abs(seconds) >= size:
            return f"{plain(seconds / size)} {name}"
    return f"{seconds * 1e9:.3g} ns" if seconds else "0 s"


def shown(value, unit):
    """Formats a number in one of Grafana's units."""
    if value is None:
        return ""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return json.dumps(value) if isinstance(value, dict) else str(value)
    if math.isnan(value):
        return "–"
    suffix = {"cps": " c/s", "reqps": " req/s"}.get(unit, "")
    if unit in ("bytes", "Bps"):
        return scaled(value, 1024, [" B", " KiB", " MiB", " GiB"]) + ("/s" if unit == "Bps" else "")
    if unit in ("s", "dtdurations", "ns"):
        return duration(value / (1e9 if unit == "ns" else 1))
    if unit == "percentunit":
        return f"{plain(100 * value)} %"
    return scaled(value, 1000, ["", " K", " Mil"]) + suffix


def threshold(value, config):
    color = None
    for step in (config.get("thresholds") or {"steps": []})["steps"]:
        if step["value"] is None or (value is not None and value >= step["value"]):
            color = step["color"]
    return COLORS.get(color, color)


def properties(panel, name):
    """Returns the panel's properties of a series or column: the overrides that match its name, over the defaults."""
    found = dict(panel["fieldConfig"]["defaults"].get("custom", {}))
    result = {**panel["fieldConfig"]["defaults"], "custom": found}
    for override in panel["fieldConfig"]["overrides"]:
        matcher = override["matcher"]
        if matcher["options"] == name or matcher["id"] == "byRegexp" and re.fullmatch(matcher["options"], name):
            for each in override["properties"]:
                into, key = (found, each["id"][7:]) if each["id"].startswith("custom.") else (result, each["id"])
                into[key] = each["value"]
    return result


def mapped(value, config):
    """Returns text and color of a value, by the panel's mappings."""
    key = f"{value:g}" if isinstance(value, (int, float)) else str(value)
    for mapping in config.get("mappings", []):
        if mapping["type"] == "value" and key in mapping["options"]:
            option = mapping["options"][key]
            return option.get("text", key), COLORS.get(option.get("color"))
    return None, None


def numbers(series):
    return [value for _, value in series["points"] if not math.isnan(value)]


def stat(axes, panel, data):
    config = panel["fieldConfig"]["defaults"]
    values = [value for series in data for value in numbers(series)]
    last = values[-1] if values else None
    text, color = mapped(last, config) if values else ("No data", None)
    axes.set_facecolor(color or threshold(last, config) or "#ffffff")
    if len(values) > 1 and panel["options"].get("graphMode") == "area":
        low, high = min(values + [0]), max(values)
        if high > low:
            line = axes.inset_axes([0, 0, 1, 0.42])
            line.axis("off")
            line.fill_between(range(len(values)), values, low, color="#ffffff", alpha=0.3, linewidth=0)
            line.set_xlim(0, len(values) - 1)
            line.set_ylim(low, high * 1.05)
    axes.text(0.5, 0.55, text or shown(last, config.get("unit")), ha="center", va="center", fontsize=13, color="white",
              weight="bold", transform=axes.transAxes)
    axes.set_xticks([])
    axes.set_yticks([])


def by_metric(rows):
    """Turns the rows of an SQL time series into series as Grafana does: one for each metric."""
    lines = {}
    for row in rows:
        value = next(row[key] for key in row if key not in ("time", "metric"))
        lines.setdefault(str(row["metric"]), []).append([row["time"], float("nan") if value is None else value])
    return [{"name": name, "points": points} for name, points in lines.items()]


def with_gaps(points, times):
    there = dict(points)
    return [there.get(at, float("nan")) for at in times]


def timeseries(axes, panel, data, start, end):
    if data and "points" not in data[0]:
        data = by_metric(data)
    data = [series for series in data if numbers(series)]
    times = sorted({at for series in data for at, _ in series["points"]})
    dates = [datetime.datetime.fromtimestamp(at) for at in times]
    right, below, handles, legend = None, [0.0] * len(times), [], panel["options"]["legend"]
    for number, series in enumerate(data):
        config = properties(panel, series["name"])
        custom = config["custom"]
        fixed = config.get("color", {}).get("fixedColor")
        color = COLORS.get(fixed, fixed) or LINES[number % len(LINES)]
        at = axes
        if custom.get("axisPlacement") == "right":
            right = right or axes.twinx()
            at = right
            at.yaxis.set_major_formatter(FuncFormatter(lambda value, _, unit=config["unit"]: shown(value, unit)))
        values = with_gaps(series["points"], times)
        style = "--" if custom.get("lineStyle") else "-"
        alpha = custom.get("fillOpacity", 0) / 100
        if custom.get("stacking"):
            values = [0 if math.isnan(value) else value for value in values]
            top = [a + b for a, b in zip(below, values)]
            at.fill_between(dates, below, top, color=color, alpha=alpha, linewidth=0)
            at.plot(dates, top, color=color, linewidth=0.9)
            below = top
        else:
            at.plot(dates, values, style, color=color, linewidth=1)
            if alpha:
                at.fill_between(dates, values, color=color, alpha=alpha, linewidth=0)
        kept = numbers(series)
        calculated = {"mean": sum(kept) / len(kept), "max": max(kept), "sum": sum(kept), "lastNotNull": kept[-1]}
        sums = "   ".join(f"{name} {shown(calculated[name], config.get('unit'))}" for name in legend["calcs"])
        handles.append((max(kept), plt.Line2D([], [], color=color, linewidth=2), f"{series['name']}   {sums}".strip()))
    config = panel["fieldConfig"]["defaults"]
    if config["custom"].get("thresholdsStyle"):
        top = axes.get_ylim()[1]
        for step in config["thresholds"]["steps"][1:]:
            if step["value"] < 3 * top:
                axes.axhline(step["value"], color=COLORS[step["color"]], linewidth=0.8, linestyle="--")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(value, config.get("unit"))))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.set_xlim(datetime.datetime.fromtimestamp(start), datetime.datetime.fromtimestamp(end))
    axes.xaxis.set_major_formatter(matplotlib.dates.DateFormatter("%H:%M"))
    axes.xaxis.set_major_locator(matplotlib.dates.MinuteLocator())
    for each in filter(None, [axes, right]):
        low, high = each.get_ylim()
        # A line along zero is drawn at the bottom.
        each.set_ylim(0 if low > -high / 5 or low == -high else low, 1 if low == -high else high)
        each.tick_params(length=0, labelsize=6.5, colors=PALE)
        for side in ("top", "right", "left"):
            each.spines[side].set_visible(False)
    axes.grid(color="#e6e8eb", linewidth=0.6)
    axes.set_axisbelow(True)
    if not data:
        axes.text(0.5, 0.5, "No data", ha="center", color=PALE, transform=axes.transAxes)
    # Sorts the largest series first, so that the caption never leaves one of them out.
    return [handle[1:] for handle in sorted(handles, key=lambda handle: -handle[0])], right


def table(axes, panel, rows, height):
    axes.axis("off")
    if not rows:
        axes.text(0.5, 0.5, "No data", ha="center", color=PALE, transform=axes.transAxes)
        return
    names = [name for name in rows[0] if not properties(panel, name)["custom"].get("hidden")]
    cells, colors = [], []
    for row in rows[: int(height * UNIT / 0.19) - 3]:
        line, paint = [], []
        for name in names:
            config = properties(panel, name)
            text, color = mapped(row[name], config)
            if color is None and config["custom"].get("cellOptions", {}).get("type") == "color-text":
                color = threshold(row[name], config) if isinstance(row[name], (int, float)) else None
            text = text or shown(row[name], config.get("unit"))
            if name in ("at", "start"):
                text = re.sub(r"(\.\d*)?[+Z].*", "", text).replace("T", " ")
            line.append(text)
            paint.append(color or INK)
        cells.append(line)
        colors.append(paint)
    heads = [properties(panel, name).get("displayName", name) for name in names]
    longest = [min(34, max(len(head), *(len(line[at]) for line in cells))) + 2 for at, head in enumerate(heads)]
    total, page = sum(longest), axes.get_position().width * WIDTH * 15.5
    left = 0
    for at, head in enumerate(heads):
        room = int(longest[at] / total * page) if total > page else longest[at]
        for line, text in enumerate([head, *(row[at] for row in cells)]):
            cut = text if len(text) <= room - 1 else text[: max(1, room - 2)] + "…"
            axes.text(left / max(total, page), 1 - (line + 0.5) * 0.19 / (axes.get_position().height * FIGURE), cut, fontsize=6.5,
                      va="center", color=PALE if line == 0 else colors[line - 1][at], weight="bold" if line == 0 else "normal",
                      transform=axes.transAxes)
        left += longest[at] if total <= page else longest[at] * 1.0


def waterfall(axes, panel, rows):
    labels = [f"{row[panel['options']['xField']]}" for row in rows]
    at = range(len(rows))
    axes.barh(at, [row["duration"] / 1e6 for row in rows], left=[row["offset"] / 1e6 for row in rows], color=LINES[0], alpha=0.8)
    axes.set_yticks(list(at), labels)
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(1e6 * value, "ns")))
    axes.tick_params(length=0, labelsize=7)
    axes.grid(axis="x", color="#e6e8eb", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def draw(name, board, data, path):
    global FIGURE
    flat = [panel for each in board["panels"] for panel in [each, *each.get("panels", [])]]
    bottom = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in flat)
    FIGURE = (bottom + 2.4) * UNIT
    figure = plt.figure(figsize=(WIDTH, FIGURE), dpi=DPI, facecolor=PAPER)

    def inches(left, top, width, height):
        return [left / WIDTH, 1 - (top + height) / FIGURE, width / WIDTH, height / FIGURE]

    caption = f"drawn by scripts/tools/draw-dashboards.sh, not by Grafana, of {(data['end'] - data['start']) / 60:.0f} minutes"
    figure.text(0.1 / WIDTH, 1 - 0.24 / FIGURE, board["title"], fontsize=12, weight="bold", va="center")
    figure.text(1 - 0.1 / WIDTH, 1 - 0.24 / FIGURE, caption, fontsize=8, color=PALE, ha="right", va="center")
    for panel in flat:
        at = panel["gridPos"]
        left, top = at["x"] * WIDTH / 24 + 0.05, at["y"] * UNIT + 0.5
        width, height = at["w"] * WIDTH / 24 - 0.1, at["h"] * UNIT - 0.08
        if panel["type"] == "row":
            figure.text(left / WIDTH, 1 - (top + height / 2) / FIGURE, "▾ " + panel["title"], fontsize=9, weight="bold", va="center")
            continue
        figure.add_artist(plt.Rectangle(inches(left, top, width, height)[:2], width / WIDTH, height / FIGURE, facecolor="white",
                                        edgecolor="#d8dce2", linewidth=0.7, zorder=-1))
        figure.text((left + 0.08) / WIDTH, 1 - (top + 0.13) / FIGURE, panel["title"], fontsize=8, weight="bold", va="center")
        shows = data["panels"][f"{name}: {panel['title']}"]
        if panel["type"] == "stat":
            stat(figure.add_axes(inches(left, top + 0.26, width, height - 0.26)), panel, shows)
        elif panel["type"] == "table":
            table(figure.add_axes(inches(left + 0.08, top + 0.28, width - 0.16, height - 0.3)), panel, shows, at["h"])
        elif panel["type"] == "barchart":
            waterfall(figure.add_axes(inches(left + 1.6, top + 0.35, width - 1.8, height - 0.65)), panel, shows)
        else:
            series = shows if not shows or "points" in shows[0] else by_metric(shows)
            lines = min(LEGENDS, math.ceil(len([each for each in series if numbers(each)]) / (1 if panel["options"]["legend"]["calcs"] else 2)))
            space = 0.14 * lines + 0.02
            place = inches(left + 0.55, top + 0.32, width - 0.7, height - 0.55 - space)
            axes = figure.add_axes(place)
            handles, right = timeseries(axes, panel, shows, data["start"], data["end"])
            if right:
                for each in (axes, right):
                    each.set_position([place[0], place[1], place[2] - 0.45 / WIDTH, place[3]])
            columns = 1 if panel["options"]["legend"]["calcs"] else 2
            if len(handles) > LEGENDS * columns:
                handles, more = handles[: LEGENDS * columns - 1], len(handles) - LEGENDS * columns + 1
                handles.append((plt.Line2D([], [], color="none"), f"and {more} more"))
            if handles:
                box = inches(left + 0.1, top + height - space - 0.03, width - 0.2, space)
                figure.legend(*zip(*handles), loc="upper left", bbox_to_anchor=box, ncols=columns, frameon=False, fontsize=6.5,
                              handlelength=1.2, borderpad=0, labelspacing=0.25, columnspacing=1.2, borderaxespad=0)
    raw = io.BytesIO()
    figure.savefig(raw, facecolor=PAPER)
    plt.close(figure)
    Image.open(raw).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


def main():
    with open(sys.argv[1]) as file:
        data = json.load(file)
    for name, board in boards().items():
        draw(name, board, data, f"{sys.argv[2]}/dashboard-{name}.png")


main()
