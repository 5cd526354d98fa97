# SPDX-License-Identifier: Apache-2.0
"""The build step of setuptools that makes the library and its record."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path
from types import ModuleType

from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

from . import toolkit
from .archs import ArchError
from .compiling import CompileError, Job, compile_all, count_jobs, run_tool
from .decision import SETUP, Decision, WishError, decide, dotted
from .plan import cuda_jobs, host_jobs, link_command
from .torch_outside import import_torch

NAME = "diff_surfel_rasterization"
ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "csrc"
LOG = "cuda_build.log"


def say(message: str) -> None:
    """A line of the build's own; pip shows it with -v."""
    sys.stdout.write(f"{NAME}: {message}\n")
    sys.stdout.flush()


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


class BuildPackage(build_py):
    """Starts from nothing: what an earlier build left, a removed module or a library for another
    torch, must not get into a wheel."""

    package_folder = Path(NAME)  # below build_lib

    def run(self) -> None:
        if not self.editable_mode:
            shutil.rmtree(Path(self.build_lib) / self.package_folder, ignore_errors=True)
        super().run()


class BuildNative(build_ext):
    """Compiles and links by hand: every file has its own flags, and no pybind is involved."""

    package_folder = BuildPackage.package_folder
    again = SETUP  # what builds the library once more

    def run(self) -> None:
        torch = import_torch(NAME)
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
            "sources": sources,
            "cuda": dotted(decision.nvcc.version) if decision.nvcc else None,
            "archs": list(decision.targets),
            "reason": decision.reason,
            "remedy": decision.remedy.replace(SETUP, self.again),
        }
        folder = ROOT / NAME if self.inplace else Path(self.build_lib) / self.package_folder
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
        say(f"compiling {len(host) + len(cuda)} files, {workers} at a time")
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
        folder = Path(self.build_lib) / self.package_folder
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
