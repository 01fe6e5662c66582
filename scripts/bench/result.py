"""Figures of both sides of a measurement, and their comparison with a target.

Invariant: a ratio is formed within one round, whose sides were measured one after the other; the median of the ratios is judged.
"""

import dataclasses
import statistics


@dataclasses.dataclass
class Line:
    """One promise of a target, measured."""

    target: str
    what: str
    figure: str
    floor: str
    ratio: str
    promise: str
    met: bool
    trial: bool = False

    @property
    def verdict(self):
        return ("met" if self.met else "NOT MET") + (" (trial)" if self.trial else "")

    def __str__(self):
        floor = f"; floor: {self.floor}" if self.floor else ""
        ratio = f"; ratio {self.ratio}" if self.ratio else ""
        return f"{self.target}: {self.what}: {self.figure}{floor}{ratio}; target {self.promise}: {self.verdict}"


def number(value):
    """Three significant digits, or whole thousands."""
    if abs(value) >= 10_000:
        return f"{value / 1000:,.0f}k"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def spread(values, unit=""):
    """The median, and the least and greatest value."""
    middle = f"{number(statistics.median(values))}{unit}"
    if len(values) == 1:
        return middle
    return f"{middle} ({number(min(values))}–{number(max(values))})"


def is_met(value, promise):
    """True if the value keeps a promise such as `<= 0.35`."""
    sign, bound = promise.split()
    assert sign in ("<=", ">="), promise
    return value <= float(bound) if sign == "<=" else value >= float(bound)


def compare(target, what, ours, floors, promise, unit, floor_name):
    """The line of a promise about the ratio of two lists of figures, of which each pair is one round."""
    ratios = [our / floor for our, floor in zip(ours, floors, strict=True)]
    return Line(
        target,
        what,
        spread(ours, unit),
        f"{floor_name} {spread(floors, unit)}",
        spread(ratios),
        f"{promise}x",
        is_met(statistics.median(ratios), promise),
    )


def absolute(target, what, values, promise, unit, floor=""):
    """The line of a promise about the figures themselves."""
    return Line(target, what, spread(values, unit), floor, "", f"{promise}{unit}", is_met(statistics.median(values), promise))


def table(lines):
    """All lines as a Markdown table."""
    rows = ["| target | measured | figure | floor | ratio | target | |", "| --- | --- | --- | --- | --- | --- | --- |"]
    rows += [
        f"| {line.target} | {line.what} | {line.figure} | {line.floor} | {line.ratio} | {line.promise} | {line.verdict} |"
        for line in lines
    ]
    return "\n".join(rows)
