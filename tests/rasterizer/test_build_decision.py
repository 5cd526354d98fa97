# SPDX-License-Identifier: Apache-2.0
"""Which backends are built, for every situation a machine can be in; no compiler is run."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from diff_surfel_rasterization.library import runs_on
from tests.rasterizer.build_tools import archs, decision

NVCC_13 = decision.Nvcc(
    "/usr/local/cuda/bin/nvcc",
    (13, 0),
    (75, 80, 86, 87, 89, 90, 100, 103, 110, 120, 121),
    Path("/l"),
)
NVCC_12 = decision.Nvcc(
    "/opt/cuda-12/bin/nvcc", (12, 4), (50, 60, 70, 75, 80, 86, 87, 89, 90), Path("/l")
)
GCC_12 = decision.Host("/usr/bin/g++", "gcc", (12, 2, 0))
GCC_15 = decision.Host("/usr/bin/g++", "gcc", (15, 1, 0))
GCC_13 = decision.Host("/usr/bin/g++-13", "gcc", (13, 3, 0))
BOUNDS = {
    "gcc": {"12.4": ((6, 0, 0), (14, 0)), "13.0": ((6, 0, 0), (16, 0))},
    "clang": {"12.4": ((7, 0), (17, 0))},
}
GOOD = decision.Facts(
    "auto", "2.14.1+cu130", "13.0", (NVCC_13,), (GCC_12,), BOUNDS, capabilities=((9, 0),)
)
TORCH_12 = replace(GOOD, torch="2.6.0+cu124", torch_cuda="12.4", nvccs=(NVCC_12,))


def decide(facts: decision.Facts = GOOD, **changes) -> decision.Decision:
    return decision.decide(replace(facts, **changes))


def test_all_that_is_needed_is_there():
    found = decide()
    assert found.cuda and found.nvcc == NVCC_13 and found.host == GCC_12
    assert found.targets == ("sm_90", "compute_90")
    assert found.line == (
        "CPU and CUDA 13.0 for sm_90 compute_90 "
        "(torch 2.14.1+cu130, /usr/local/cuda/bin/nvcc 13.0, gcc 12.2.0)"
    )


CPU_ONLY = {
    "switched off": (GOOD, {"wish": "0"}, "IQGS_CUDA=0", "IQGS_CUDA=auto"),
    "torch without CUDA": (
        GOOD,
        {"torch": "2.13.0+cpu", "torch_cuda": None},
        "torch 2.13.0.cpu has no CUDA",
        "pip install torch",
    ),
    "no compiler": (GOOD, {"has_compiler": False}, "no C.. compiler", "apt install g"),
    "no nvcc": (
        GOOD,
        {"nvccs": ()},
        "has CUDA 13.0, but no nvcc",
        "pip install nvidia-cuda-nvcc==13.0",
    ),
    "no nvcc, CUDA 12": (
        TORCH_12,
        {"nvccs": ()},
        "no nvcc",
        "install the CUDA toolkit 12.4, or name",
    ),
    "another major": (
        TORCH_12,
        {"nvccs": (NVCC_13,)},
        "has CUDA 12.4, but /usr/local/cuda/bin/nvcc is 13.0",
        "CUDA_HOME",
    ),
    "no static runtime": (
        GOOD,
        {"nvccs": (replace(NVCC_13, library_folder=None),)},
        "no libcudart_static.a",
        "development files",
    ),
    "gcc too new, no other": (
        TORCH_12,
        {"hosts": (GCC_15,)},
        "nvcc 12.4 does not take .* /usr/bin/g\\+\\+ 15.1.0 .*below 14.0",
        "apt install g\\+\\+-13, or name one with CUDAHOSTCXX",
    ),
    "no GPU code possible": (
        GOOD,
        {"capabilities": ((6, 1),)},
        "compute capability 6.1",
        "TORCH_CUDA_ARCH_LIST",
    ),
    "only old architectures wished for": (
        GOOD,
        {"arch_list": "5.2 6.0"},
        "names nothing that this nvcc and the kernels support",
        "TORCH_CUDA_ARCH_LIST",
    ),
}


@pytest.mark.parametrize("name", CPU_ONLY)
def test_what_is_missing_is_named_with_what_to_do(name):
    facts, changes, reason, remedy = CPU_ONLY[name]
    found = decide(facts, **changes)
    assert not found.cuda and found.nvcc is None and found.targets == ()
    assert re.search(reason, found.reason), found.reason
    assert re.search(remedy, found.remedy), found.remedy
    assert "bash scripts/setup.sh" in found.remedy
    assert found.line == f"CPU only ({found.reason})" and "\n" not in found.line + found.remedy


def test_the_minor_version_may_differ():
    assert decide(nvccs=(replace(NVCC_13, version=(13, 2)),)).cuda
    assert decide(torch_cuda="13.1").cuda


def test_of_several_toolkits_the_fitting_one_is_taken():
    assert decide(TORCH_12, nvccs=(NVCC_13, NVCC_12)).nvcc == NVCC_12
    assert decide(nvccs=(NVCC_12, NVCC_13)).nvcc == NVCC_13


def test_an_older_host_compiler_is_taken_where_the_first_is_too_new():
    assert decide(TORCH_12, hosts=(GCC_15, GCC_13, GCC_12)).host == GCC_13


def test_clang_has_bounds_of_its_own():
    clang = decision.Host("/usr/bin/clang++", "clang", (18, 1))
    assert decide(TORCH_12, hosts=(clang, GCC_12)).host == GCC_12
    assert decide(TORCH_12, hosts=(replace(clang, version=(16, 0)), GCC_12)).host.kind == "clang"


def test_without_torchs_table_the_toolkits_own_header_counts():
    nvcc = replace(NVCC_13, version=(13, 9), newest_gcc=14)
    assert not decide(nvccs=(nvcc,), hosts=(GCC_15,)).cuda
    assert decide(nvccs=(nvcc,), hosts=(GCC_15, GCC_13)).host == GCC_13
    assert decide(nvccs=(replace(nvcc, newest_gcc=None),), hosts=(GCC_15,)).cuda


@pytest.mark.parametrize("wish", ["", "yes", "AUTO", "2"])
def test_other_wishes_are_refused(wish):
    with pytest.raises(decision.WishError, match="IQGS_CUDA must be auto, 0 or 1, got"):
        decide(wish=wish)


@pytest.mark.parametrize("text", ["8,x", "sm_80", "8", "8.6+ptx", "Hoper", "100"])
def test_a_slip_in_the_list_of_architectures_is_an_error(text):
    with pytest.raises(archs.ArchError, match="TORCH_CUDA_ARCH_LIST: .* is not like 8.6"):
        decide(arch_list=text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("9.0", ["sm_90"]),
        ("8.0;8.6+PTX", ["sm_80", "sm_86", "compute_86"]),
        ("8.0 9.0a", ["sm_80", "sm_90a"]),
        ("7.5, 8.0", ["sm_75", "sm_80"]),
        ("Ampere;Hopper", ["sm_80", "sm_86", "compute_86", "sm_90", "compute_90"]),
        ("8.0;8.0", ["sm_80"]),
    ],
)
def test_the_list_of_architectures_is_torchs(text, expected):
    chosen, left_out = archs.choose_archs(text, ((9, 0),), NVCC_13.archs)
    assert archs.target_names(chosen) == expected and left_out == ()


def test_what_nvcc_does_not_know_is_left_out_and_said():
    found = decide(arch_list="5.2;6.0;8.0;9.0+PTX")
    assert found.targets == ("sm_80", "sm_90", "compute_90")
    assert "not for 5.2, 6.0" in found.line


def test_no_gpu_and_no_list_builds_for_all_common_cards():
    everything = [f"sm_{n}" for n in (75, 80, 86, 89, 90, 100, 120)]
    assert list(decide(capabilities=()).targets) == [*everything, "compute_120"]
    old = decide(TORCH_12, capabilities=())
    assert list(old.targets) == ["sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "compute_90"]
    assert decide(capabilities=(), arch_list="native").targets == decide(capabilities=()).targets


@pytest.mark.parametrize("facts", [GOOD, TORCH_12])
@pytest.mark.parametrize(
    "capabilities",
    [((7, 5),), ((8, 9),), ((8, 6), (9, 0)), ((12, 0),), ((10, 3),), ((12, 1), (8, 0))],
)
def test_what_is_built_for_the_cards_here_runs_on_them(facts, capabilities):
    found = decide(facts, capabilities=capabilities)
    assert found.cuda
    for capability in capabilities:
        assert runs_on(found.targets, capability)
    assert runs_on(found.targets, (19, 0))  # portable code for what comes later


def test_a_card_that_is_too_old_does_not_keep_the_others_from_being_served():
    assert decide(capabilities=((6, 1), (8, 0))).targets == ("sm_80", "compute_80")


def test_flags_for_nvcc():
    assert archs.gencode_flags(["sm_80", "compute_90"]) == [
        "-gencode=arch=compute_80,code=sm_80",
        "-gencode=arch=compute_90,code=compute_90",
    ]


@pytest.mark.parametrize(
    ("targets", "capability", "runs"),
    [
        (["sm_80"], (8, 0), True),
        (["sm_80"], (8, 6), True),
        (["sm_86"], (8, 0), False),
        (["sm_80"], (9, 0), False),
        (["sm_80", "compute_80"], (9, 0), True),
        (["compute_90"], (8, 6), False),
        (["sm_90a"], (9, 0), True),
        (["compute_90a"], (10, 0), False),
        (["compute_100f"], (10, 3), True),
        (["compute_100f"], (12, 0), False),
        (["sm_120"], (12, 1), True),
        ([], (8, 0), False),
    ],
)
def test_which_gpus_a_build_serves(targets, capability, runs):
    assert runs_on(targets, capability) is runs
