"""GPUs by name: memory as the driver reports it, dense peak rates, and memory bandwidth.

The sheets below are where each figure should be checked before much depends on it. Those of H100, H200 and B200, and the bandwidth of
MI300X and MI355X, were compared with second-hand tables; the others were written down without a second look.

Vendors' tables often show rates with structured sparsity; those here are without. Memory is what `nvidia-smi` or amdgpu report with error
correction on, and differs by a few hundred MiB between board revisions.

    NVIDIA A100 80GB SXM      datasheet "NVIDIA A100 Tensor Core GPU" (2022): 312 TFLOPS BF16, no FP8, 2,039 GB/s
    NVIDIA H100 SXM           datasheet "NVIDIA H100 Tensor Core GPU": 1,979 and 3,958 TFLOPS with sparsity, 3.35 TB/s
    NVIDIA H200 SXM           datasheet "NVIDIA H200 Tensor Core GPU": the same rates, 4.8 TB/s
    NVIDIA B200 (HGX)         datasheet "NVIDIA HGX B200": 36 and 72 PFLOPS with sparsity for eight, 62 TB/s for eight
    NVIDIA L40S               datasheet "NVIDIA L40S": 362 and 733 TFLOPS, 864 GB/s
    AMD Instinct MI300X       data sheet: 1,307.4 and 2,614.9 TFLOPS, 5.3 TB/s
    AMD Instinct MI325X       data sheet: the same rates, 6.0 TB/s
    AMD Instinct MI355X       data sheet: 2,516.6 and 5,033.2 TFLOPS, 8.0 TB/s
"""

from __future__ import annotations

from dataclasses import dataclass

from rlu_attestation.profiles import BUILT_IN

T = 10**12


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuModel:
    """One GPU.

    Attributes:
        product: beginning of the product's name, as drivers give it.
        bf16, fp8: dense peak in operations a second; `fp8` is 0 where the GPU has none.
        bandwidth: of its memory, in bytes a second.
        batched_tokens: vLLM's default of `--max-num-batched-tokens` for a server on it (0.32, `EngineArgs`).
        per_node: how many share one fast interconnect.
    """

    product: str
    memory_mib: int
    bf16: int
    fp8: int
    bandwidth: int
    batched_tokens: int
    resource: str = "nvidia.com/gpu"
    vendor: str = "nvidia"
    per_node: int = 8

    @property
    def memory(self) -> int:
        """In bytes."""
        return self.memory_mib << 20

    def profile(self, count: int) -> str | None:
        """The certified hardware profile of so many of these, by its short name."""
        for name, profile in BUILT_IN.items():
            demand = profile.gpus
            if demand is not None and demand.count == count and name == f"{_short(self)}x{count}":
                return name
        return None


def _short(gpu: GpuModel) -> str:
    return next((name.removesuffix("x") for name, known in GPUS.items() if known is gpu), "")


def _amd(product: str, memory_mib: int, bf16: int, fp8: int, bandwidth: int) -> GpuModel:
    return GpuModel(
        product=product,
        memory_mib=memory_mib,
        bf16=bf16,
        fp8=fp8,
        bandwidth=bandwidth,
        batched_tokens=16384,
        resource="amd.com/gpu",
        vendor="amd",
    )


GPUS = {
    "a100": GpuModel(
        product="NVIDIA A100",
        memory_mib=81920,
        bf16=312 * T,
        fp8=0,
        bandwidth=2_039 * T // 1000,
        batched_tokens=2048,
    ),
    "h100": GpuModel(
        product="NVIDIA H100",
        memory_mib=81559,
        bf16=989 * T,
        fp8=1979 * T,
        bandwidth=3_350 * T // 1000,
        batched_tokens=8192,
    ),
    "h200": GpuModel(
        product="NVIDIA H200",
        memory_mib=143771,
        bf16=989 * T,
        fp8=1979 * T,
        bandwidth=4_800 * T // 1000,
        batched_tokens=8192,
    ),
    "b200": GpuModel(
        product="NVIDIA B200",
        memory_mib=183359,
        bf16=2250 * T,
        fp8=4500 * T,
        bandwidth=7_750 * T // 1000,
        batched_tokens=16384,
    ),
    "l40s": GpuModel(
        product="NVIDIA L40S",
        memory_mib=46068,
        bf16=362 * T,
        fp8=733 * T,
        bandwidth=864 * T // 1000,
        batched_tokens=2048,
    ),
    "mi300x": _amd("AMD Instinct MI300X", 196288, 1307 * T, 2614 * T, 5_300 * T // 1000),
    "mi325x": _amd("AMD Instinct MI325X", 261824, 1307 * T, 2614 * T, 6_000 * T // 1000),
    "mi355x": _amd("AMD Instinct MI355X", 294592, 2516 * T, 5033 * T, 8_000 * T // 1000),
}
"""By the name that `--gpu` takes."""
