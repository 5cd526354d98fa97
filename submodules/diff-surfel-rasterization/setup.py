# SPDX-License-Identifier: Apache-2.0
"""Builds the rasterizer: kernels without torch per instruction set and per GPU, and their bindings.

Environment: IQGS_CUDA=auto|0|1, TORCH_CUDA_ARCH_LIST, CUDA_HOME, CXX, CUDAHOSTCXX, MAX_JOBS
(default: by cores and memory, 2 GB a process). Without a C++ compiler the Python package is
installed alone and its torch reference serves. What is decided, and why, is in build_support/.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import shlex
import shutil
import sys
from pathlib import Path
from types import ModuleType

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

NAME = "diff_surfel_rasterization"
ROOT = Path(__file__).resolve().parent
SOURCES = ROOT / "csrc"
LOG = "cuda_build.log"

sys.path.insert(0, str(ROOT))  # build_support is not installed

from build_support import toolkit  # noqa: E402
from build_support.archs import ArchError  # noqa: E402
from build_support.compiling import (  # noqa: E402
    CompileError,
    Job,
    compile_all,
    count_jobs,
    run_tool,
)
from build_support.decision import SETUP, Decision, WishError, decide, dotted  # noqa: E402
from build_support.plan import cuda_jobs, host_jobs, link_command, torch_flags  # noqa: E402

sys.path.remove(str(ROOT))  # the tests load this file too, beside an installed package

__all__ = ["torch_flags"]  # the tests build against torch with the same flags


def say(message: str) -> None:
    print(f"{NAME}: {message}", flush=True)


def import_torch() -> ModuleType:
    try:
        import torch
    except ImportError:
        raise SystemExit(
            f"{NAME}: building needs torch in this very environment. Run:\n"
            "  pip install torch setuptools wheel\n"
            f"  pip install --no-build-isolation {shlex.quote(str(ROOT))}"
        ) from None
    return torch


def impossible(decision: Decision) -> SystemExit:
    return SystemExit(
        f"{NAME}: IQGS_CUDA=1 is not possible: {decision.reason}; {decision.remedy}, "
        "or use IQGS_CUDA=auto"
    )


def decide_here(torch: ModuleType, compiler: list[str] | None) -> tuple[Decision, bool]:
    """What is built here, and whether CUDA is demanded; stops where that is impossible."""
    facts = toolkit.gather_facts(torch, compiler)
    try:
        decision = decide(facts)
    except (WishError, ArchError) as error:
        raise SystemExit(f"{NAME}: {error}") from None
    demanded = facts.wish == "1"
    if demanded and not decision.cuda:
        raise impossible(decision)
    return decision, demanded


def build_helpers() -> ModuleType:
    """The package's own module of names and hashes, loaded without importing the package."""
    path = ROOT / NAME / "library.py"
    spec = importlib.util.spec_from_file_location("library", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{NAME}: {path} is missing")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class BuildNative(build_ext):
    """Compiles and links by hand: every file has its own flags, and no pybind is involved."""

    def run(self) -> None:
        torch = import_torch()
        compiler = toolkit.find_compiler()
        decision, demanded = decide_here(torch, compiler)
        if compiler is None or sys.platform == "win32":
            say("no C++ compiler found: only the slow torch reference is installed")
            return
        helpers = build_helpers()
        sources = helpers.source_hash(SOURCES)  # before they are read: a later edit makes it stale
        library, decision = self.build_library(torch, compiler, decision, demanded)
        say(decision.line)
        info = {
            "torch": torch.__version__,
            "torch_cuda": torch.version.cuda,
            "python": helpers.python_tag(),
            "sources": sources,
            "cuda": dotted(decision.nvcc.version) if decision.nvcc else None,
            "archs": list(decision.targets),
            "reason": decision.reason,
            "remedy": decision.remedy,
        }
        base = ROOT if self.inplace else Path(self.build_lib)
        folder = base / NAME
        folder.mkdir(parents=True, exist_ok=True)
        self.replace(library, folder / helpers.LIBRARY)
        record = library.with_name(helpers.INFO_FILE)
        record.write_text(json.dumps(info, indent=1) + "\n", encoding="utf-8")
        self.replace(record, folder / helpers.INFO_FILE)

    def build_library(
        self, torch: ModuleType, compiler: list[str], decision: Decision, demanded: bool
    ) -> tuple[Path, Decision]:
        """The library, and what is in it after all."""
        work = Path(self.build_temp).resolve()
        work.mkdir(parents=True, exist_ok=True)
        workers = count_jobs()
        cuda: list[Job] = []
        if decision.cuda:
            cuda = cuda_jobs(SOURCES, work, decision, workers)
            cuda += host_jobs(SOURCES, work, torch, compiler, cuda=True)
        host = host_jobs(SOURCES, work, torch, compiler, cuda=False)
        failed = compile_all([*host, *cuda], workers)  # the slowest first
        errors = [failed[job] for job in host if job in failed]
        if errors:
            raise SystemExit(f"{NAME}: {errors[0].report}")
        if any(job in failed for job in cuda):
            log = self.write_log(work / LOG, [failed[job] for job in cuda if job in failed])
            decision = without_cuda(decision, log)
            cuda = []
            if demanded:
                raise impossible(decision)
        objects = [job.target for job in (*cuda, *host)]
        output = work / build_helpers().LIBRARY
        try:
            run_tool(link_command(compiler, objects, torch, decision, output))
        except CompileError as error:
            raise SystemExit(f"{NAME}: {error.report}") from None
        return output, decision

    @staticmethod
    def write_log(path: Path, errors: list[CompileError]) -> Path:
        text = "\n\n".join(f"{error}\n{error.output}" for error in errors)
        path.write_text(text, encoding="utf-8")
        return path

    @staticmethod
    def replace(source: Path, target: Path) -> None:
        """Copy so that a process that imports the package meets the old file or the new one."""
        beside = target.with_name(f"{target.name}.{os.getpid()}.tmp")
        shutil.copyfile(source, beside)
        os.replace(beside, target)

    def get_outputs(self) -> list[str]:
        helpers = build_helpers()
        folder = Path(self.build_lib) / NAME
        names = (helpers.LIBRARY, helpers.INFO_FILE)
        return [str(folder / name) for name in names if (folder / name).exists()]

    def get_output_mapping(self) -> dict[str, str]:
        return {}


def without_cuda(decision: Decision, log: Path) -> Decision:
    """The decision after the CUDA sources did not compile."""
    return dataclasses.replace(
        decision,
        cuda=False,
        reason=f"the CUDA sources did not compile, see {log}",
        remedy=f"another compiler (CUDA_HOME, CUDAHOSTCXX) may take them; then {SETUP}",
        nvcc=None,
        host=None,
        targets=(),
    )


if __name__ == "__main__":
    setup(
        name=NAME,
        version="0.1.0",
        description="Differentiable rasterizer of flat Gaussians with any number of channels",
        license="Apache-2.0",
        python_requires=">=3.10",
        packages=[NAME, f"{NAME}.compat", f"{NAME}.native", f"{NAME}.reference"],
        # Names no source: BuildNative finds them. Makes the wheel one of this platform.
        ext_modules=[Extension(f"{NAME}._native", sources=[])],
        cmdclass={"build_ext": BuildNative},
        zip_safe=False,
    )
