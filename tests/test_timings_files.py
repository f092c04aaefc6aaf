"""Timings as people's programs write them: read as they are meant, or refused in one line with the likely cause."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import pruninfersim as pis
from pruninfersim.calibration.columns import numbers
from pruninfersim.errors import FileFormatError, InvalidInputError, UnknownNameError

HEADER = "gpu,dtype,m,n,k,latency_us\n"
ROWS = "h100-sxm,bf16,16,4096,4096,13.9\nh100-sxm,bf16,32,4096,4096,14.1\n"
#: All of these say the same two timings.
SAME = {
    "plain": HEADER + ROWS,
    "blank lines": HEADER + ROWS + "\n\n",
    "blank line in between": HEADER + "\n" + ROWS,
    "byte order mark": "\ufeff" + HEADER + ROWS,
    "lines of DOS": (HEADER + ROWS).replace("\n", "\r\n"),
    "comments": "# by hand\n" + HEADER + "# the first\n" + ROWS,
    "torch dtype": (HEADER + ROWS).replace("bf16", "torch.bfloat16"),
    "dtype in capitals": (HEADER + ROWS).replace("bf16", "BF16"),
    "joined with its header": HEADER + ROWS.replace("\n", "\n" + HEADER, 1),
    "name of nvidia-smi": (HEADER + ROWS).replace("h100-sxm", "NVIDIA H100 80GB HBM3"),
    "semicolons": (HEADER + ROWS).replace(",", ";"),
    "semicolons and decimal commas": (HEADER + ROWS).replace(",", ";").replace(".", ","),
    "tabs": (HEADER + ROWS).replace(",", "\t"),
    "thousands": (HEADER + ROWS).replace("4096,4096", '"4,096","4,096"'),
    "capital head": (HEADER + ROWS).replace("m,n,k", "M,N,K"),
    "all capitals": HEADER.upper() + ROWS,
    "spaces": (HEADER + ROWS).replace(",", ", "),
    "milliseconds": (HEADER + ROWS).replace("_us", "_ms").replace("13.9", "0.0139").replace("14.1", "0.0141"),
    "seconds": (HEADER + ROWS).replace("latency_us", "time (s)").replace("13.9", "13.9e-6").replace("14.1", "14.1e-6"),
    "nanoseconds": (HEADER + ROWS).replace("_us", " [ns]").replace("13.9", "13900").replace("14.1", "14100"),
}


@pytest.mark.parametrize("which", SAME)
def test_what_is_certain_is_read_as_it_is_meant(tmp_path, which):
    file = tmp_path / "mine.csv"
    file.write_bytes(SAME[which].encode())
    frame = pis.read_timings(file)
    assert frame["gpu"].tolist() == ["h100-sxm"] * 2
    assert frame["dtype"].tolist() == ["bf16"] * 2
    assert frame[["m", "n", "k"]].to_numpy().tolist() == [[16, 4096, 4096], [32, 4096, 4096]]
    assert frame["latency_us"].tolist() == pytest.approx([13.9, 14.1])


REFUSED = {
    "joined twice": (HEADER + ROWS + HEADER + ROWS, "line 5 repeats line 2, line 6 repeats line 3"),
    "half a token": (HEADER + ROWS.replace(",16,", ",1.5,"), "line 2: m is '1.5', not a whole number"),
    "thousand or one": (HEADER.replace(",", ";") + ROWS.replace(",", ";").replace("13.9", "1,234"), "'1,234'"),
    "two columns of times": (
        HEADER.replace("\n", ",latency_ms\n") + ROWS.replace("\n", ",1\n"), "'latency_us' and 'latency_ms' mean the"
    ),
    "unknown unit": ((HEADER + ROWS).replace("_us", "_weeks"), "no column latency_us"),
    "underscores": (HEADER + ROWS.replace("13.9", "1_3"), "'1_3', not a positive number"),
}  # fmt: skip


@pytest.mark.parametrize("which", REFUSED)
def test_what_could_mean_two_things_is_refused_in_one_line(tmp_path, which):
    text, cause = REFUSED[which]
    file = tmp_path / "mine.csv"
    file.write_text(text)
    with pytest.raises(FileFormatError) as caught:
        pis.read_timings(file)
    assert cause in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_thousand_is_told_from_a_decimal_comma_by_the_rest_of_the_column():
    assert numbers(["1,234.5", "1,234"], whole=False).tolist() == [1234.5, 1234.0]
    assert numbers(["1,5", "1,234"], whole=False).tolist() == [1.5, 1.234]
    assert np.isnan(numbers(["1,234", "12"], whole=False)[0])


# --- what is calibrated -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """Fifteen timings of an H100, as the vendor stack predicts them."""
    m, n = (axis.ravel() for axis in np.meshgrid([1, 16, 256, 2048, 8192], [4096, 8192, 14336]))
    seconds = pis.gemm_latency(m, n, 4096, hardware="h100-sxm")
    return pd.DataFrame(
        {"gpu": "NVIDIA H100 80GB HBM3", "dtype": "bf16", "m": m, "n": n, "k": 4096, "latency_us": 1e6 * seconds}
    )


def test_the_gpu_that_the_timings_name_decides(rows):
    assert pis.calibrate("gemm", rows, cache="cold").hardware == "h100-sxm"
    slow = rows.assign(gpu="a100-sxm-80gb", latency_us=3 * rows["latency_us"])
    assert pis.calibrate("gemm", slow, cache="cold").hardware == "a100-sxm-80gb"
    with pytest.raises(InvalidInputError, match="no timing is of h100-sxm; these are of a100-sxm-80gb"):
        pis.calibrate("gemm", slow, "h100-sxm", cache="cold")
    with pytest.raises(InvalidInputError, match="no timing is of h100-sxm; these are of rtx-4090"):
        pis.calibrate("gemm", rows.assign(gpu="RTX 4090"), "h100-sxm")


def test_two_gpus_are_never_pooled(rows):
    slow = rows.assign(gpu="a100-sxm-80gb", latency_us=3 * rows["latency_us"])
    both = pd.concat([rows, slow], ignore_index=True)
    with pytest.raises(InvalidInputError, match="of several GPUs, h100-sxm, a100-sxm-80gb"):
        pis.calibrate("gemm", both)
    fit = pis.calibrate("gemm", both, "h100-sxm", cache="cold")
    assert fit.n_rows == len(rows)
    assert fit.kernel == pis.calibrate("gemm", rows, cache="cold").kernel


def test_a_card_that_no_profile_has_needs_to_be_named(rows):
    own = rows.assign(gpu="my-card")
    with pytest.raises(UnknownNameError, match="unknown GPU 'my-card'"):
        pis.calibrate("gemm", own)
    assert pis.calibrate("gemm", own, "h100-sxm", cache="cold").hardware == "h100-sxm"
    with pytest.raises(UnknownNameError, match="GPU 'A100' is one of several"):
        pis.calibrate("gemm", rows.assign(gpu="A100"))


@pytest.mark.parametrize(
    ("factor", "cause"),
    [(1e-3, "milliseconds: name the column latency_ms"), (1e-6, "seconds: name the column latency_s"),
     (1e3, "nanoseconds: name the column latency_ns"), (1e8, "check the unit of latency_us")],
)  # fmt: skip
def test_another_unit_is_recognised_and_nothing_is_fitted(rows, factor, cause):
    wrong = rows.assign(latency_us=factor * rows["latency_us"])
    for ask in (
        lambda: pis.calibrate("gemm", wrong, cache="cold"),
        lambda: pis.validate(wrong, "h100-sxm", cache="cold"),
    ):
        with pytest.raises(InvalidInputError, match=cause):
            ask()


def test_copies_and_too_few_rows_are_refused(rows):
    with pytest.raises(InvalidInputError, match="15 rows repeat others, the time included"):
        pis.calibrate("gemm", pd.concat([rows, rows]))
    with pytest.raises(InvalidInputError, match="at least 8 rows; got 5"):
        pis.calibrate("gemm", rows[:5])
