# SPDX-License-Identifier: Apache-2.0
"""For which GPUs the kernels are compiled: torch's TORCH_CUDA_ARCH_LIST, the GPUs here, or all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

Capability = tuple[int, int]

LEAST = 70  # older warps have no threads of their own, and the kernels' barriers count on them
# Built where no GPU is visible and nothing is asked for: one of each family that people have.
COMMON = (75, 80, 86, 89, 90, 100, 120)
EMBEDDED = (72, 87, 101, 110)  # their code is not promised to run on the cards of their family
FAMILIES = {  # as torch names them; "A+Tegra" before "A"
    "volta+tegra": "7.2",
    "volta": "7.0+PTX",
    "turing": "7.5+PTX",
    "ampere+tegra": "8.7",
    "ampere": "8.0;8.6+PTX",
    "ada": "8.9+PTX",
    "hopper": "9.0+PTX",
    "blackwell+tegra": "11.0",
    "blackwell": "10.0;10.3;12.0;12.1+PTX",
    "kepler+tesla": "3.7",
    "kepler": "3.5",
    "maxwell+tegra": "5.3",
    "maxwell": "5.0;5.2",
    "pascal": "6.0;6.1",
}


@dataclass(frozen=True, order=True)
class Arch:
    """One compute capability: machine code for it (`sass`), portable code from it on (`ptx`)."""

    number: int  # 10 * major + minor
    suffix: str = ""  # a, f: features of this very chip, or of its family
    sass: bool = True
    ptx: bool = False

    @property
    def targets(self) -> tuple[str, ...]:
        """For example ("sm_90", "compute_90")."""
        name = f"{self.number}{self.suffix}"
        return (f"sm_{name}",) * self.sass + (f"compute_{name}",) * self.ptx


class ArchError(ValueError):
    """TORCH_CUDA_ARCH_LIST is not in torch's syntax, or leaves nothing to build."""


def parse_archs(text: str) -> tuple[Arch, ...]:
    """torch's syntax: "8.0;8.6+PTX", "8.0 9.0a", "Hopper"; "native" names none.

    Raises ArchError.
    """
    archs: list[Arch] = []
    if text.strip().lower() == "native":
        return ()
    for word in re.split(r"[;,\s]+", text.strip()):
        expanded = FAMILIES.get(word.lower(), word)
        for item in expanded.split(";"):
            found = re.fullmatch(r"(\d{1,2})\.(\d)([af]?)(\+PTX)?", item)
            if found is None:
                raise ArchError(
                    f"TORCH_CUDA_ARCH_LIST: {item!r} is not like 8.6, 9.0+PTX or Hopper"
                )
            number = 10 * int(found[1]) + int(found[2])
            archs.append(Arch(number, found[3], ptx=found[4] is not None))
    return tuple(dict.fromkeys(archs))


def arch_for(capability: Capability, known: Sequence[int]) -> Arch | None:
    """The best code that a compiler which knows `known` can make for one GPU; None if there is
    none that it would run.
    """
    number = 10 * capability[0] + capability[1]
    if number in known and number >= LEAST:
        return Arch(number)
    usable = [n for n in known if LEAST <= n < number and n not in EMBEDDED]
    if not usable:
        return None
    best = max(usable)
    # Machine code runs on later chips of its family only; portable code on every later one.
    return Arch(best) if best // 10 == capability[0] else Arch(best, sass=False, ptx=True)


def choose_archs(
    wish: str, capabilities: Sequence[Capability], known: Sequence[int]
) -> tuple[tuple[Arch, ...], tuple[str, ...]]:
    """What to build, and what was asked for but cannot be built.

    `wish`: TORCH_CUDA_ARCH_LIST; `capabilities`: of the visible GPUs; `known`: what nvcc compiles
    for, as 10 * major + minor. Raises ArchError.
    """
    asked = parse_archs(wish) if wish.strip() else ()
    if asked:
        kept = tuple(arch for arch in asked if arch.number in known and arch.number >= LEAST)
        left_out = tuple(f"{arch.number / 10}{arch.suffix}" for arch in asked if arch not in kept)
        if not kept:
            raise ArchError(
                f"TORCH_CUDA_ARCH_LIST={wish!r} names nothing that this nvcc and the kernels "
                f"support ({', '.join(str(n / 10) for n in known if n >= LEAST)})"
            )
        return kept, left_out
    found = [arch_for(capability, known) for capability in capabilities]
    chosen = sorted({arch for arch in found if arch is not None})
    if not capabilities:
        chosen = [Arch(number) for number in COMMON if number in known]
    if not chosen:
        cards = " and ".join(f"{major}.{minor}" for major, minor in capabilities) or "any card"
        raise ArchError(f"nvcc and the kernels support no GPU of compute capability {cards}")
    newest = chosen[-1]
    chosen[-1] = Arch(newest.number, newest.suffix, newest.sass, ptx=True)
    return tuple(chosen), ()


def target_names(archs: Sequence[Arch]) -> list[str]:
    """["sm_80", "sm_90", "compute_90"]."""
    return list(dict.fromkeys(target for arch in archs for target in arch.targets))


def gencode_flags(targets: Sequence[str]) -> list[str]:
    """nvcc's flags for these targets."""
    return [f"-gencode=arch=compute_{t.split('_')[1]},code={t}" for t in targets]
