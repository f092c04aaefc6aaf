"""Names as drivers, papers and the Hugging Face hub write them: each means one thing or is refused."""

from __future__ import annotations

import warnings

import pytest

import pruninfersim as pis
from pruninfersim import hardware, models, pruning, stacks
from pruninfersim.errors import NameWarning, UnknownNameError
from pruninfersim.pruning import aliases

#: What `nvidia-smi -L`, torch.cuda.get_device_name() and JAX print for each GPU.
PRINTED = {
    "NVIDIA H100 80GB HBM3": "h100-sxm",
    "NVIDIA H100 PCIe": "h100-pcie",
    "NVIDIA H100 NVL": "h100-nvl",
    "NVIDIA H200": "h200-sxm",
    "NVIDIA H800": "h800-sxm",
    "NVIDIA H20": "h20",
    "NVIDIA GH200 480GB": "gh200-96gb",
    "NVIDIA GH200 144G HBM3e": "gh200-144gb",
    "NVIDIA B200": "b200-sxm",
    "NVIDIA B300 SXM6 AC": "b300-sxm",
    "NVIDIA GB200": "gb200",
    "NVIDIA GB300": "gb300",
    "NVIDIA GB10": "gb10",
    "NVIDIA A100-SXM4-80GB": "a100-sxm-80gb",
    "NVIDIA A100-SXM4-40GB": "a100-sxm-40gb",
    "NVIDIA A100 80GB PCIe": "a100-pcie-80gb",
    "NVIDIA A100-PCIE-40GB": "a100-pcie-40gb",
    "NVIDIA A800-SXM4-80GB": "a800-80gb",
    "NVIDIA A10": "a10",
    "NVIDIA A10G": "a10g",
    "NVIDIA A30": "a30",
    "NVIDIA A40": "a40",
    "NVIDIA L4": "l4",
    "NVIDIA L40": "l40",
    "NVIDIA L40S": "l40s",
    "Tesla T4": "t4",
    "Tesla V100-SXM2-16GB": "v100-sxm-16gb",
    "Tesla V100-SXM2-32GB": "v100-sxm-32gb",
    "NVIDIA GeForce RTX 3090": "rtx-3090",
    "NVIDIA GeForce RTX 4090": "rtx-4090",
    "NVIDIA GeForce RTX 5080": "rtx-5080",
    "NVIDIA GeForce RTX 5090": "rtx-5090",
    "NVIDIA RTX A6000": "rtx-a6000",
    "NVIDIA RTX 6000 Ada Generation": "rtx-6000-ada",
    "NVIDIA RTX PRO 6000 Blackwell Server Edition": "rtx-pro-6000-server",
    "NVIDIA RTX PRO 6000 Blackwell Workstation Edition": "rtx-pro-6000-workstation",
    "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition": "rtx-pro-6000-max-q",
    "NVIDIA RTX PRO 6000 Blackwell": "rtx-pro-6000",
    "Orin": "jetson-agx-orin",
    "AMD Instinct MI210": "mi210",
    "AMD Instinct MI250X": "mi250x",
    "AMD Instinct MI250X GCD": "mi250x-gcd",
    "AMD Instinct MI300X": "mi300x",
    "AMD Instinct MI325X": "mi325x",
    "AMD Instinct MI355X": "mi355x",
    "Intel(R) Arc(TM) Pro B60 Graphics": "arc-pro-b60",
    "Gaudi 2": "gaudi2",
    "Gaudi 3": "gaudi3",
    "TPU v5 lite": "tpu-v5e",
    "TPU v5p": "tpu-v5p",
    "TPU v6 lite": "tpu-v6e",
}


def test_every_shipped_profile_is_found_by_what_its_driver_prints() -> None:
    assert {printed: hardware.get(printed).name for printed in PRINTED} == PRINTED
    assert set(PRINTED.values()) == set(hardware.names())


@pytest.mark.parametrize("name", hardware.names())
def test_case_spaces_and_vendors_do_not_matter(name: str) -> None:
    profile = hardware.get(name)
    spoken = name.replace("-", " ").upper()
    for written in (name.upper(), name.replace("-", "_"), spoken, f"{profile.vendor} {spoken}", f" {name} "):
        assert hardware.get(written) is profile


@pytest.mark.parametrize(
    ("name", "expected"),
    [("H200", "h200-sxm"), ("4090", "rtx-4090"), ("RTX4090", "rtx-4090"), ("h100sxm", "h100-sxm"), ("T4", "t4"),
     ("DGX Spark", "gb10"), ("H100-SXM5-80GB", "h100-sxm"), ("A6000", "rtx-a6000")],
)  # fmt: skip
def test_short_names_that_are_one_gpu(name: str, expected: str) -> None:
    assert hardware.get(name).name == expected


@pytest.mark.parametrize(
    ("name", "variants"),
    [("A100", ["a100-pcie-40gb", "a100-pcie-80gb", "a100-sxm-40gb", "a100-sxm-80gb"]),
     ("A100 80GB", ["a100-pcie-80gb", "a100-sxm-80gb"]), ("H100", ["h100-nvl", "h100-pcie", "h100-sxm"]),
     ("Tesla V100", ["v100-sxm-16gb", "v100-sxm-32gb"])],
)  # fmt: skip
def test_an_ambiguous_name_lists_its_variants(name: str, variants: list[str]) -> None:
    with pytest.raises(UnknownNameError) as caught:
        hardware.get(name)
    assert str(caught.value) == f"GPU {name!r} is one of several: {', '.join(variants)}. Say which."


@pytest.mark.parametrize(
    ("name", "near"),
    [("NVIDIA GeForce RTX 4090 Laptop GPU", "rtx-4090"), ("NVIDIA GeForce RTX 5090 D", "rtx-5090"),
     ("NVIDIA H200 NVL", "h200-sxm"), ("NVIDIA A800 80GB PCIe", "a800-80gb"), ("h100-smx", "h100-sxm"),
     ("AMD H100", "h100-"), ("MI300", "mi300x"), ("B100", ""), ("toaster", ""), ("NVIDIA", ""), ("", "")],
)  # fmt: skip
def test_another_product_is_refused_with_what_is_near(name: str, near: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        hardware.get(name)
    message = str(caught.value)
    assert (f"Did you mean '{near}" in message) if near else ("Did you mean" not in message)
    assert "`pruninfersim hardware` lists all" in message
    assert len(message) < 200  # the long list only where it is asked for


def test_profiles_of_ones_own_are_found_the_same_way(tmp_path) -> None:
    mine = hardware.get("l40s").clone("lab-x9")
    text = (hardware.profiles_directory() / "l40s.toml").read_text().replace('"l40s"', '"lab-x9"', 1)
    (tmp_path / "lab-x9.toml").write_text(text)
    (tmp_path / "broken.toml").write_text("name =")
    assert hardware.get("LAB X9", tmp_path).name == mine.name


# --- models -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", models.names())
def test_every_model_is_found_by_its_identifier_on_the_hub(name: str) -> None:
    model = models.get(name)
    hub = model.reference.split(";")[0].removeprefix("Hugging Face ")
    for written in (hub, hub.rpartition("/")[2], hub.upper(), name.replace("-", " "), f"{hub}-Instruct"):
        assert models.get(written) is model


@pytest.mark.parametrize(
    ("name", "expected"),
    [("meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b"), ("meta-llama/Meta-Llama-3.1-8B-Instruct", "llama-3.1-8b"),
     ("meta-llama/Llama-2-7b-chat-hf", "llama-2-7b"), ("google/gemma-2-9b-it", "gemma-2-9b"),
     ("mistralai/Mistral-7B-Instruct-v0.3", "mistral-7b-v0.3"), ("llama3.1:8b", "llama-3.1-8b")],
)  # fmt: skip
def test_tuned_models_have_the_shapes_of_their_base(name: str, expected: str) -> None:
    assert models.get(name).name == expected


@pytest.mark.parametrize(
    "name", ["microsoft/Phi-3-mini-128k-instruct", "Llama-3.1-8B-AWQ", "llama-3.1-9b", "gpt-9", "8b", "", "/"]
)
def test_other_models_are_refused_in_one_short_line(name: str) -> None:
    with pytest.raises(UnknownNameError, match="unknown model") as caught:
        models.get(name)
    assert len(str(caught.value)) < 200


def test_a_family_of_models_lists_its_sizes() -> None:
    with pytest.raises(UnknownNameError, match=r"one of several: llama-3\.1-8b, llama-3\.1-70b, llama-3\.1-405b\. Say"):
        models.get("llama-3.1")


# --- methods ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "alias"), [(f, alias) for f, names in aliases.FAMILIES.items() for alias in names])
def test_methods_of_papers_are_their_family_and_it_is_said_once(family: str, alias: str) -> None:
    aliases._say.cache_clear()
    for written, notes in ((alias, 1), (f"{alias.lower()} ", 0)):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            assert pruning.get(written, 0.5).name == family
            assert [issubclass(each.category, NameWarning) for each in said] == [True] * notes
            assert all(family in str(each.message) for each in said)


@pytest.mark.parametrize("name", pruning.names())
def test_other_spellings_of_a_family_are_no_alias(name: str) -> None:
    for written in (name.upper(), name.replace("-", " "), name.replace("-", "_"), pruning.METHODS[name].__name__):
        assert pruning.get(written, 0.5).name == name


def test_a_misspelt_paper_is_suggested() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'SliceGPT'"):
        pruning.get("SliceGTP", 0.25)
    with pytest.raises(UnknownNameError, match=r"unknown method 'quantisation'\. Known"):
        pruning.get("quantisation", 0.25)


#: As the projects write their names, and torch its precisions.
ENGINES = {"vLLM": "vllm", "SGLang": "sglang", "TensorRT-LLM": "tensorrt-llm", "TRT-LLM": "tensorrt-llm",
           "torch.compile": "torch-compile", "vLLM 0.5": "vllm-0.5", "Transformers": "transformers"}  # fmt: skip
PRECISIONS = {"torch.bfloat16": "bf16", "bfloat16": "bf16", "torch.float16": "fp16", "half": "fp16", "BF16": "bf16",
              "float8_e4m3fn": "fp8", "FP8": "fp8"}  # fmt: skip


@pytest.mark.parametrize(("written", "name"), ENGINES.items())
def test_an_engine_as_its_project_writes_it(written, name):
    gpu = hardware.get("h100-sxm")
    assert stacks.get(written, gpu).stack == name
    assert stacks.engine(written) is stacks.ENGINES[name]
    asked = {"model": "llama-3.1-8b", "hardware": gpu}
    assert repr(pis.capacity(**asked, stack=written)) == repr(pis.capacity(**asked, stack=name))


@pytest.mark.parametrize(("written", "name"), PRECISIONS.items())
def test_a_precision_as_torch_writes_it(written, name):
    ask = {"model": "llama-3.1-8b", "hardware": "h100-sxm", "method": "static-width", "phase": "decode"}
    said, meant = (pis.speedup(**ask, sparsity=0.5, dtype=dtype) for dtype in (written, name))
    assert (said.question, said.estimated) == (meant.question, meant.estimated)
    assert pis.sweep(**ask, dtype=written).equals(pis.sweep(**ask, dtype=name))
    assert pis.gemm_latency(16, 4096, 4096, hardware="h100-sxm", dtype=written) == pis.gemm_latency(
        16, 4096, 4096, hardware="h100-sxm", dtype=name
    )


def test_a_precision_of_less_than_a_name_is_answered_with_the_longer_ones():
    with pytest.raises(UnknownNameError, match=r"unknown dtype 'int4'\. Did you mean 'int4_wo'\?"):
        pis.Setup("llama-3.1-8b", "h100-sxm", dtype="int4")
