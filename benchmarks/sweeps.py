"""Grids in memory and to disk, unrelated rows, and a loop of single comparisons beside them."""

from __future__ import annotations

from benchmarks import child, questions
from benchmarks.child import Order, Result
from benchmarks.table import Line, Part, duration, timed

#: Size at which the aims of a sweep are stated.
FULL = 1_000_000
#: Aims: time of a configuration of a grid, and of one that shares nothing with others [s].
EACH, EACH_ALONE = 1.4e-6, 4e-6
#: How much memory a hundred times the size may take, over ten times of it.
FLAT = 1.5


def sized(result: Result) -> str:
    return f"{result.rows:,}"


def each(result: Result) -> str:
    return duration(result.seconds / result.rows)


def judged(result: Result, good: bool, full: int = FULL) -> bool | None:
    """Return whether an aim is met, if the sweep is about as large as the aim supposes (lengths are whole numbers)."""
    return good if result.rows >= 0.95 * full else None


def memory(result: Result) -> str:
    return f"{result.peak / 1e9:.2f} GB"


def grid(points: int) -> tuple[Part, Result]:
    """Grids: in memory, ten times as many in memory, and these to Parquet."""
    small, large = (child.run(Order("grid", size)) for size in (points, 10 * points))
    disk = child.run(Order("grid", 10 * points, out=True))
    growth = 10 * (large.seconds / large.rows) / (small.seconds / small.rows)
    lines = (
        Line("grid", sized(small), duration(small.seconds), each(small), f"<= {duration(EACH)} each",
             judged(small, small.seconds <= EACH * small.rows)),
        Line("- peak memory", sized(small), memory(small), "", "< 1 GB", judged(small, small.peak < 1e9)),
        Line("grid, ten times as many", sized(large), duration(large.seconds), each(large)),
        Line("- times the time of a tenth", "", f"{growth:.1f}", "", "8 to 12", judged(small, 8 <= growth <= 12)),
        Line("- peak memory", sized(large), memory(large)),
        Line("the same to Parquet", sized(disk), duration(disk.seconds), each(disk)),
        Line("- peak memory", sized(disk), memory(disk)),
    )  # fmt: skip
    meaning = f"""
**grid**: {len(questions.MODELS)} models, {len(questions.GPUS)} GPUs, all {len(questions.METHODS)} methods,
{len(questions.SPARSITY)} sparsities, prefill and decode of {len(questions.DECODE_BATCHES)} batches each and as many
lengths as the size needs, stack `vendor`, in one process of one thread. A configuration is one of each: dense and
pruned side, the four speedups with interval, seconds and bytes. A grid ten times as large has ten times the lengths;
the ratio of the two times is corrected for their exact sizes. Its frame is most of its memory, and with `out=` it goes
to disk part by part, {disk.written / disk.rows:.0f} bytes a configuration. Peak memory is that of the whole process.
"""
    return Part(lines, meaning), small


def huge(points: int) -> Part:
    """A grid that no memory holds, to Parquet."""
    tenth, whole = (child.run(Order("grid", size, out=True)) for size in (points // 10, points))
    growth = whole.peak / tenth.peak
    lines = (
        Line("grid to Parquet", sized(whole), duration(whole.seconds), each(whole)),
        Line("- peak memory", sized(whole), memory(whole)),
        Line("- over that of a tenth", sized(tenth), f"{growth:.2f} times", "", f"<= {FLAT:g} times",
             judged(whole, growth <= FLAT, 90 * FULL)),
    )  # fmt: skip
    meaning = """
**a grid that no memory holds**: the grid above with more lengths, to Parquet, part by part; pieces of a grid have a
largest size, and with it the memory that they take.
"""
    return Part(lines, meaning)


def unrelated(points: int) -> Part:
    """Rows that share nothing."""
    result = child.run(Order("rows", points))
    met = judged(result, result.seconds <= EACH_ALONE * result.rows)
    aim = f"<= {duration(EACH_ALONE)} each"
    line = Line("unrelated configurations", sized(result), duration(result.seconds), each(result), aim, met)
    meaning = """
**unrelated configurations**: `rows=` with random model, GPU, method, sparsity, phase, batch and context. Hardly two
rows share the shape of an op, so that each is priced anew.
"""
    peak = Line("- peak memory", sized(result), memory(result))
    return Part((line, peak), meaning)


def scalar(count: int, beside: Result | None) -> Part:
    """A loop over single comparisons."""
    rows = questions.random_rows(count)
    questions.scalar_loop(rows)  # loads the calibrations
    seconds = timed(lambda: questions.scalar_loop(rows)) / count
    lines = [Line("loop over compare()", f"{count:,}", duration(seconds * count), duration(seconds))]
    if beside is not None:
        ratio = seconds / (beside.seconds / beside.rows)
        lines.append(Line("- the grid is faster by", "", f"{ratio:,.0f} times"))
    meaning = (
        "**loop over compare()**: random rows again, one `pis.compare` each, as a script without arrays would do it. "
        "One thread, as the grid above."
    )
    return Part(tuple(lines), meaning)
