"""Hardware profiles: published figures, units, shadowing, and what a broken file says."""

from __future__ import annotations

import copy
import os
import pickle
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from pruninfersim import hardware
from pruninfersim.errors import FileFormatError, InvalidInputError, MissingValueError, UnknownNameError
from pruninfersim.hardware import HardwareProfile

PROFILE = """\
name = "my-gpu"
title = "My GPU"
vendor = "NVIDIA"
architecture = "Hopper"
memory_type = "HBM3"
reference = "made up for a test"
sm_count = { value = 132, unit = "1", source = "s" }
memory_size = { value = 80, unit = "GB", source = "s" }
memory_bandwidth = { value = 3.35, unit = "TB/s", source = "s" }
[peak]
bf16 = { value = 989.4, unit = "TFLOP/s", source = "s" }
"""


@pytest.fixture(autouse=True)
def _no_search_path(monkeypatch):
    monkeypatch.delenv(hardware.SEARCH_PATH_VARIABLE, raising=False)


def write(folder: Path, text: str = PROFILE, name: str = "my-gpu") -> Path:
    file = folder / f"{name}.toml"
    file.write_text(text, encoding="utf-8")
    return file


# Vendors' published figures: name, units, GB/s, GB, dense TFLOP/s (bf16, or fp16 on V100), TDP in W.
PUBLISHED = [
    ("v100-sxm-32gb", 80, 900, 32, 125, 300),
    ("a100-sxm-40gb", 108, 1555, 40, 312, 400),
    ("a100-sxm-80gb", 108, 2039, 80, 312, 400),
    ("a100-pcie-80gb", 108, 1935, 80, 312, 300),
    ("a800-80gb", 108, 2039, 80, 312, 400),
    ("h100-sxm", 132, 3350, 80, 989.4, 700),
    ("h100-pcie", 114, 2000, 80, 756.5, 350),
    ("h200-sxm", 132, 4800, 141, 989.4, 700),
    ("b200-sxm", 148, 8000, 180, 2250, 1000),
    ("l40s", 142, 864, 48, 362.05, 350),
    ("rtx-3090", 82, 936, 24, 71.2, 350),
    ("rtx-4090", 128, 1008, 24, 165.2, 450),
    ("rtx-5080", 84, 960, 16, 112.6, 360),
    ("rtx-5090", 170, 1792, 32, 209.5, 575),
    ("rtx-pro-6000-server", 188, 1597, 96, 467.8, 600),
    ("rtx-pro-6000-workstation", 188, 1792, 96, 503.8, 600),
    ("mi300x", 304, 5300, 192, 1307.4, 750),
]


@pytest.mark.parametrize(("name", "units", "bandwidth", "size", "peak", "power"), PUBLISHED)
def test_published_figures(name, units, bandwidth, size, peak, power):
    gpu = hardware.get(name)
    dtype = "bf16" if "bf16" in gpu.peak else "fp16"
    found = (gpu.sm_count, gpu.memory_bandwidth, gpu.memory_size, gpu.peak_flops(dtype), gpu.tdp)
    assert found == pytest.approx((units, bandwidth * 1e9, size * 1e9, peak * 1e12, power), rel=1e-12)


# Tensor-core FLOPs per clock and SM of dense bf16 (fp16 on Volta and Turing) with fp32 accumulation, from the
# architecture white papers. A peak is units x clock x this; the clock is the one that the vendor quotes the peak at.
PER_CLOCK = [
    ("v100-sxm-32gb", 1024, None),
    ("t4", 1024, None),
    ("a30", 2048, None),
    ("a40", 1024, None),
    ("a100-sxm-80gb", 2048, None),
    ("h100-sxm", 4096, 1830e6),
    ("h100-pcie", 4096, 1620e6),
    ("rtx-3090", 512, None),
    ("rtx-4090", 512, None),
    ("l40s", 1024, None),
    ("rtx-5080", 512, None),
    ("rtx-5090", 512, None),
    ("rtx-pro-6000-server", 1024, None),
    ("rtx-pro-6000-workstation", 1024, None),
    ("mi300x", 2048, None),
]


@pytest.mark.parametrize(("name", "per_clock", "clock"), PER_CLOCK)
def test_peak_is_units_times_clock_times_rate(name, per_clock, clock):
    gpu = hardware.get(name)
    dtype = "bf16" if "bf16" in gpu.peak else "fp16"
    expected = gpu.sm_count * (clock or gpu.boost_clock) * per_clock
    assert gpu.peak_flops(dtype) == pytest.approx(expected, rel=0.02)


# Fastest dense GEMM in TFLOP/s: aiconfigurator-core 0.12.0 (first six) and SlideSparse, both Apache-2.0.
FASTEST = [
    ("a100-sxm-80gb", "bf16", 290.2),
    ("h100-sxm", "bf16", 828.0),
    ("h200-sxm", "bf16", 837.7),
    ("b200-sxm", "bf16", 1704.6),
    ("l40s", "bf16", 271.1),
    ("rtx-pro-6000-server", "bf16", 429.6),
    ("a100-pcie-80gb", "int8", 396.1),
    ("rtx-4090", "bf16", 167.5),
    ("rtx-4090", "fp16", 168.1),
    ("rtx-4090", "fp8", 327.3),
    ("rtx-4090", "int8", 590.2),
    ("gb10", "bf16", 97.8),
    ("gb10", "fp8", 200.0),
]


@pytest.mark.parametrize(("name", "dtype", "measured"), FASTEST)
def test_measured_gemms_stay_below_the_peak_but_not_far(name, dtype, measured):
    share = measured * 1e12 / hardware.get(name).peak_flops(dtype)
    assert 0.6 < share < 1.02


def test_a800_is_an_a100_with_slower_links():
    a100, a800 = hardware.get("a100-sxm-80gb"), hardware.get("a800-80gb")
    differing = {key for key in HardwareProfile.model_fields if getattr(a100, key) != getattr(a800, key)}
    assert differing == {"name", "title", "reference", "notes", "sources", "interconnect_bandwidth", "silicon"}
    assert a800.silicon == a100.name
    assert (a100.interconnect_bandwidth, a800.interconnect_bandwidth) == (600e9, 400e9)


def test_the_card_of_the_paper_is_taken_as_the_server_edition():
    paper, server = hardware.get("rtx-pro-6000"), hardware.get("rtx-pro-6000-server")
    assert (paper.memory_bandwidth, paper.peak, paper.l2_size) == (1597e9, server.peak, 128e6)
    assert "edition" in paper.notes.lower()


def test_every_figure_of_every_profile_has_a_source():
    assert len(hardware.names()) >= 30
    for name in hardware.names():
        gpu = hardware.get(name)
        assert {key for key, _, _ in gpu._figures()} == set(gpu.sources)
        assert all(text.strip() for text in (*gpu.sources.values(), gpu.reference))


def test_2of4_peaks_are_twice_the_dense_ones_except_where_a_note_says_so():
    odd = {
        (name, dtype)
        for name in hardware.names()
        for dtype, peak in hardware.get(name).peak_2of4.items()
        if peak != pytest.approx(2 * hardware.get(name).peak_flops(dtype), rel=0.01)
    }
    assert odd == {("b300-sxm", "fp4"), ("gb300", "fp4")}
    assert all("CONFLICT" in hardware.get(name).notes for name, _ in odd)


def test_a_missing_figure_raises_and_says_what_there_is():
    with pytest.raises(MissingValueError, match=r"v100-sxm-16gb has no peak for 'bf16'. It has: fp16, fp32"):
        hardware.get("v100-sxm-16gb").peak_flops("bf16")
    with pytest.raises(MissingValueError, match="2:4 sparse peak"):
        hardware.get("t4").ridge_point("fp16", sparse=True)


def test_ridge_point():
    assert hardware.get("h100-sxm").ridge_point("bf16") == pytest.approx(989.4e12 / 3.35e12)


# --- names and search path ----------------------------------------------------------------------------------------


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(UnknownNameError, match=r"unknown GPU 'h100-smx'. Did you mean 'h100-sxm'\?"):
        hardware.get("h100-smx")


def test_a_profile_is_returned_as_it_is():
    gpu = hardware.get("l4")
    assert hardware.get(gpu) is gpu


def test_own_profiles_shadow_built_in_ones(tmp_path, monkeypatch):
    listed, given = tmp_path / "listed", tmp_path / "given"
    for folder, vendor in ((listed, "environment"), (given, "argument")):
        folder.mkdir()
        write(folder, PROFILE.replace('"my-gpu"', '"l4"').replace('"NVIDIA"', f'"{vendor}"'), "l4")
    assert hardware.get("l4").vendor == "NVIDIA"
    monkeypatch.setenv(hardware.SEARCH_PATH_VARIABLE, os.pathsep.join(["", str(listed)]))
    assert hardware.get("l4").vendor == "environment"
    assert hardware.get("l4", given).vendor == "argument"
    assert hardware.names().count("l4") == 1
    assert hardware.get("t4", given).vendor == "NVIDIA"


def test_of_two_listed_directories_the_first_wins(tmp_path, monkeypatch):
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        write(folder, PROFILE.replace("My GPU", folder.name))
    monkeypatch.setenv(hardware.SEARCH_PATH_VARIABLE, os.pathsep.join(map(str, folders)))
    assert hardware.get("my-gpu").title == "one"


def test_a_directory_that_does_not_exist_is_named(tmp_path, monkeypatch):
    with pytest.raises(InvalidInputError, match="given by path, is not a directory"):
        hardware.get("l4", tmp_path / "nowhere")
    monkeypatch.setenv(hardware.SEARCH_PATH_VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(InvalidInputError, match=hardware.SEARCH_PATH_VARIABLE):
        hardware.names()


def test_a_changed_file_is_read_again_and_an_unchanged_one_is_not(tmp_path):
    file = write(tmp_path)
    first = hardware.load(file)
    assert hardware.get(str(file)) is first
    write(tmp_path, PROFILE.replace("3.35", "3.3500001"))
    assert hardware.load(file).memory_bandwidth == pytest.approx(3.3500001e12, rel=1e-12)


def test_the_name_in_a_file_must_be_the_files_name(tmp_path):
    write(tmp_path, name="other")
    with pytest.raises(FileFormatError, match=r"other\.toml: name: is 'my-gpu'"):
        hardware.get("other", tmp_path)


# --- files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "field", "expected"),
    [
        ('value = 80, unit = "GB"', 'value = 80e9, unit = "B"', "memory_size", 80e9),
        ('value = 80, unit = "GB"', 'value = 80, unit = "GiB"', "memory_size", 80 * 1024**3),
        ('value = 80, unit = "GB"', 'value = 81920, unit = "MiB"', "memory_size", 81920 * 1024**2),
        ('value = 3.35, unit = "TB/s"', 'value = 3350, unit = "GB/s"', "memory_bandwidth", 3.35e12),
        ('value = 3.35, unit = "TB/s"', 'value = 3.35e12, unit = "B/s"', "memory_bandwidth", 3.35e12),
        ("[peak]", 'boost_clock = { value = 1.98, unit = "GHz", source = "s" }\n[peak]', "boost_clock", 1.98e9),
        ("[peak]", 'base_clock = { value = 1590, unit = "MHz", source = "s" }\n[peak]', "base_clock", 1.59e9),
        ("[peak]", 'tdp = { value = 0.7, unit = "kW", source = "s" }\n[peak]', "tdp", 700.0),
        ("[peak]", 'l2_size = { value = 50, unit = "MB", source = "s" }\n[peak]', "l2_size", 50e6),
    ],
)
def test_units_become_si(tmp_path, old, new, field, expected):
    assert old in PROFILE
    assert getattr(hardware.load(write(tmp_path, PROFILE.replace(old, new))), field) == pytest.approx(expected)


def test_integer_peaks_may_be_operations(tmp_path):
    extra = 'int8 = { value = 1979, unit = "TOP/s", source = "s" }\n'
    gpu = hardware.load(write(tmp_path, PROFILE + extra))
    assert gpu.peak == {"bf16": pytest.approx(989.4e12), "int8": pytest.approx(1.979e15)}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('unit = "TB/s"', 'unit = "TB"', r"memory_bandwidth\.unit: 'TB' is not allowed here\. Allowed: B/s, MB/s"),
        ('unit = "TFLOP/s"', 'unit = "TOP/s"', r"peak\.bf16\.unit: 'TOP/s' is not allowed here"),
        ('unit = "GB", ', "", r"memory_size: has no unit\. Write \{ value"),
        (', source = "s" }\n[peak]', " }\n[peak]", r"memory_bandwidth: has no source"),
        ('source = "s" }\n[peak]', 'source = " " }\n[peak]', r"memory_bandwidth\.source: must say where"),
        ("value = 80", "value = -80", r"memory_size\.value: must be a number above 0; got -80"),
        ("value = 80", "value = nan", r"memory_size\.value: must be a number above 0; got nan"),
        ("value = 80", "value = true", r"memory_size\.value: must be a number above 0; got True"),
        ("value = 132", "value = 132.5", r"sm_count: must be a whole number; got 132\.5"),
        ("bf16 =", "bf15 =", r"peak\.bf15: unknown dtype 'bf15'\. Did you mean 'bf16'\?"),
        ("memory_type", "memory_tipe", r"memory_tipe: unknown key 'memory_tipe'\. Did you mean 'memory_type'\?"),
        ('reference = "made up for a test"\n', "", r"reference: is missing\. Required: name"),
        ('title = "My GPU"', "title = 5", r"title: must be text; got 5"),
        ('{ value = 80, unit = "GB", source = "s" }', "80e9", r"memory_size: must be a table; got 80000000000\.0"),
        ('unit = "1"', 'unit = "1", value2 = 3', r"sm_count\.value2: unknown key"),
        ('name = "my-gpu"', 'name = ""', r"invalid HardwareProfile ''"),
        ('[peak]\nbf16 = { value = 989.4, unit = "TFLOP/s", source = "s" }\n', "", r"peak: is missing"),
    ],
)
def test_a_wrong_file_says_file_key_and_what_is_allowed(tmp_path, old, new, message):
    assert old in PROFILE
    with pytest.raises(FileFormatError, match=r"my-gpu\.toml: " + message):
        hardware.load(write(tmp_path, PROFILE.replace(old, new)))


@pytest.mark.parametrize("length", range(1, len(PROFILE) - 1, 7))
def test_a_truncated_file_is_a_format_error(tmp_path, length):
    with pytest.raises(FileFormatError, match=r"my-gpu\.toml"):
        hardware.load(write(tmp_path, PROFILE[:length]))


def test_a_file_that_is_not_there_and_one_that_is_not_text(tmp_path):
    with pytest.raises(FileFormatError, match=r"gone\.toml: cannot be read"):
        hardware.load(tmp_path / "gone.toml")
    with pytest.raises(FileFormatError, match="cannot be read"):
        hardware.load(tmp_path)
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FileFormatError, match="not UTF-8"):
        hardware.load(tmp_path / "bytes.toml")


# --- the object ---------------------------------------------------------------------------------------------------

CHANGEABLE = st.fixed_dictionaries(
    {},
    optional={
        "memory_bandwidth": st.floats(1e9, 1e14),
        "memory_size": st.floats(1e9, 1e13),
        "l2_size": st.none() | st.floats(1e6, 1e10),
        "sm_count": st.integers(1, 10_000),
        "tdp": st.none() | st.floats(1, 1e4),
        "peak": st.dictionaries(st.sampled_from(hardware.DTYPES), st.floats(1e12, 1e16)),
    },
)


@given(name=st.sampled_from(["l4", "h100-sxm", "mi300x", "tpu-v5e"]), changes=CHANGEABLE)
def test_clone_changes_what_it_is_told_and_nothing_else(name, changes):
    original = hardware.get(name)
    before = original.model_dump()
    clone = original.clone("mine", **changes)
    assert original.model_dump() == before
    assert clone.reference.startswith(f"modified from {name} (")
    assert clone.name == "mine"
    for key, value in changes.items():
        assert key in clone.reference
        expected = {**original.peak, **value} if key == "peak" else value
        assert getattr(clone, key) == expected
    assert clone.parent == name
    same = set(before) - set(changes) - {"name", "reference", "sources", "parent"}
    assert all(getattr(clone, key) == before[key] for key in same)
    untouched = {key for key in original.sources if key.split(".")[0] not in changes}
    assert all(clone.sources[key] == original.sources[key] for key in untouched)


def test_a_changed_figure_does_not_keep_its_old_source():
    clone = hardware.get("l4").clone("mine", memory_bandwidth=1e12, peak={"fp8": 1e15})
    assert clone.sources["memory_bandwidth"] == clone.sources["peak.fp8"] == "changed from l4"
    assert clone.sources["peak.bf16"] == hardware.get("l4").sources["peak.bf16"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"memory_bandwith": 1e12}, r"unknown HardwareProfile field 'memory_bandwith'\. Did you mean 'memory_bandw"),
        ({"memory_bandwidth": -1.0}, r"memory_bandwidth: input should be greater than 0; got -1\.0"),
        ({"memory_bandwidth": float("nan")}, r"memory_bandwidth: "),
        ({"peak": {"bf17": 1e12}}, r"peak: unknown dtype 'bf17'"),
        ({"peak": {"bf16": 0.0}}, r"peak: bf16 must be above 0"),
    ],
)
def test_a_wrong_change_is_one_clear_line(changes, message):
    with pytest.raises(InvalidInputError, match=message) as caught:
        hardware.get("l4").clone("mine", **changes)
    assert "\n" not in str(caught.value)


def test_a_cached_profile_cannot_be_corrupted():
    gpu = hardware.get("l4")
    with pytest.raises(TypeError, match="read-only"):
        gpu.peak["bf16"] = 1.0
    with pytest.raises(TypeError, match="read-only"):
        gpu.sources.update({"tdp": "me"})
    with pytest.raises(ValueError, match="frozen"):
        gpu.memory_bandwidth = 1.0


def test_a_profile_can_be_pickled_copied_and_used_as_a_key():
    gpu = hardware.get("l4")
    assert pickle.loads(pickle.dumps(gpu)) == copy.deepcopy(gpu) == gpu
    assert {gpu: 1}[gpu.model_copy()] == 1


def test_printing_shows_the_sources():
    gpu = hardware.get("h100-sxm")
    assert gpu.reference in repr(gpu)
    assert gpu.sources["memory_bandwidth"] in str(gpu)
    assert gpu.notes in str(gpu)


def test_table_has_a_row_per_profile():
    table = hardware.table()
    assert list(table.index) == hardware.names()
    assert table.loc["h100-sxm", "memory_bandwidth"] == 3.35e12
    assert table.loc["v100-sxm-16gb", ["peak.bf16"]].isna().all()
    assert table["peak.bf16"].dtype == table["l2_size"].dtype == "float64"


def test_importing_hardware_does_not_import_pandas():
    code = "import sys, pruninfersim.hardware as h; h.get('l4'); print('pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_page_of_the_documentation_is_up_to_date():
    page = runpy.run_path(str(ROOT / "docs" / "make_hardware_page.py"))["page"]()
    assert (ROOT / "docs" / "hardware.md").read_text(encoding="utf-8") == page, "run docs/make_hardware_page.py"


def test_the_declared_tensor_rate_is_that_of_the_figures():
    """512 bf16 FLOP per SM and clock, or more than 768; where a profile has both figures."""
    for name in hardware.names():
        gpu = hardware.get(name)
        if gpu.vendor == "NVIDIA" and gpu.boost_clock and "bf16" in gpu.peak:
            per_clock = gpu.peak["bf16"] / (gpu.sm_count * gpu.boost_clock)
            assert gpu.tensor_rate == ("half" if per_clock < 768 else "full"), name


def test_the_clock_is_the_boost_clock_or_what_the_vector_peak_says():
    for name in hardware.names():
        gpu = hardware.get(name)
        assert 1e9 < gpu.clock < 3e9, name
    bare = hardware.get("h800-sxm").model_copy(update={"peak": {"bf16": 1e15}})
    assert bare.clock == 1.7e9
