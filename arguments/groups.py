# SPDX-License-Identifier: Apache-2.0
"""The settings of a run that do not belong to a method, with their defaults.

A method's own settings stand in its file of `iqgs/methods/`. A value out of range is a `UserError`
that names the flag.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from arguments.options import option, require, require_at_least


@dataclass(frozen=True)
class ModelParams:
    """Where the scene is and how it is read."""

    source_path: str = option(
        "", "scene folder (COLMAP, nerfstudio, Blender)", short="s", harmless=True
    )
    model_path: str = option(
        "", "run folder; empty: output/<10 random characters>", short="m", harmless=True
    )
    images: str = option("images", "sub-folder of the photographs", short="i")
    sparse: str = option("", "COLMAP model to read, a folder in sparse/; empty: the largest")
    pair_by_order: bool = option(
        False, "photographs under other names belong to the model's images in the same order"
    )
    object_path: str = option("object_mask", "sub-folder of the masks to train on", short="o")
    resolution: int = option(-1, "1, 2, 4, 8 divide; -1: up to 1600 wide; other: width", short="r")
    mask_orientation: str = option(
        "auto",
        "what masks of photographs with an EXIF orientation show, where nothing else tells",
        choices=("auto", "stored", "upright"),
    )
    white_background: bool = option(False, "white instead of black behind everything", short="w")
    sh_degree: int = option(3, "highest degree of the spherical harmonics, 0 to 3")
    eval: bool = option(False, "hold views out: every 8th, or those that the scene's split names")
    train_split: bool = option(False, "train on the views named in images_train/ (LERF-Mask)")
    n_views: int = option(100, "with --eval: training views to keep; 100: all, 50: half")
    random_init: bool = option(False, "start from random points instead of the point cloud")
    random_points: int = option(100_000, "how many, where there are no others to start from")
    max_points: int = option(0, "keep so many points of a larger cloud, at random; 0: all")
    no_masks: bool = option(False, "the scene has no masks: reconstruct only")
    skip_missing: bool = option(False, "go on without photographs that are missing on disk")
    zero_label: str = option(
        "background", "what id 0 means in the masks", choices=("background", "ignore")
    )
    ignore_label: int = option(
        -1, "pixels of this value in the masks are no target (in colours: gray, or 0xRRGGBB)"
    )
    background_seeds: int = option(
        0, "random starting points outside the cameras' ring; -1: decide by the point cloud"
    )
    data_cache: bool = option(True, "keep pixels in memory after their first use", harmless=True)
    data_device: str = option("auto", "views are held in memory", inert=True)

    def __post_init__(self) -> None:
        require(0 <= self.sh_degree <= 3, "sh_degree", self.sh_degree, "between 0 and 3")
        require(
            self.resolution == -1 or self.resolution > 0,
            "resolution",
            self.resolution,
            "-1 or positive",
        )
        require(self.n_views >= 1, "n_views", self.n_views, "at least 1")
        require(self.random_points >= 1, "random_points", self.random_points, "at least 1")
        require(self.max_points >= 0, "max_points", self.max_points, "0 or a number of points")
        require(
            self.ignore_label != 0,
            "ignore_label",
            self.ignore_label,
            "another value; for 0 there is --zero_label ignore",
        )
        require(
            self.background_seeds >= -1,
            "background_seeds",
            self.background_seeds,
            "-1, 0 or a number of points",
        )


@dataclass(frozen=True)
class PipelineParams:
    """Of what splats are and how views are rendered."""

    primitive: str = option(
        "2dgs", "what a splat is: a flat disc, or an ellipsoid (3DGS)", choices=("2dgs", "3dgs")
    )
    backend: str = option(
        "auto", "rasterizer", choices=("auto", "cuda", "cpu", "reference"), harmless=True
    )
    depth_ratio: float = option(0.0, "surface depth: 0 expected, 1 median, or between")
    convert_SHs_python: bool = option(False, "changes nothing", inert=True)
    compute_cov3D_python: bool = option(False, "changes nothing", inert=True)
    debug: bool = option(False, "changes nothing", inert=True)

    def __post_init__(self) -> None:
        require(0 <= self.depth_ratio <= 1, "depth_ratio", self.depth_ratio, "between 0 and 1")


@dataclass(frozen=True)
class OptimizationParams:
    """How the scene is reconstructed (2DGS, 3DGS)."""

    iterations: int = option(30000, "steps of the reconstruction (joint route: of everything)")
    batch_size: int = option(
        1, "views a step, in all stages that learn; torchrun deals them out to its processes"
    )
    lr_scale: float = option(1.0, "multiplies all rates; 0: sqrt(30000 / iterations) in [1, 5]")
    lr_final: float = option(1.0, "final fraction of the rates other than position")
    warmup_steps: int = option(0, "first steps, over which all rates rise from zero")
    position_lr_init: float = option(0.00016, "first rate of positions, times the scene's extent")
    position_lr_final: float = option(0.0000016, "last rate of positions")
    position_lr_delay_mult: float = option(0.01, "inert as in 2DGS", inert=True)
    position_lr_max_steps: int = option(30000, "steps over which it falls; 0: --iterations")
    feature_lr: float = option(0.0025, "rate of colours (higher bands: a twentieth)")
    opacity_lr: float = option(0.05, "rate of opacities")
    scaling_lr: float = option(0.005, "rate of scales")
    rotation_lr: float = option(0.001, "rate of rotations")
    sh_interval: int = option(1000, "one more band of spherical harmonics every so many steps")
    lambda_dssim: float = option(0.2, "weight of 1 - SSIM against L1")
    lambda_dist: float = option(0.0, "weight of the depth distortion")
    lambda_normal: float = option(0.05, "weight of the normal consistency (3dgs: 0)")
    dist_from_iter: int = option(3000, "first step of the distortion term")
    normal_from_iter: int = option(7000, "first step of the normal term")
    exposure: bool = option(
        False, "fit a colour transform for every training view: what its camera metered"
    )
    exposure_lr_init: float = option(0.01, "first rate of these transforms")
    exposure_lr_final: float = option(0.001, "last rate of these transforms")
    lambda_exposure: float = option(0.1, "weight of their distance from the identity")
    opacity_reg: float = option(0.0, "weight of the mean opacity (relocation: 0.01)")
    scale_reg: float = option(0.0, "weight of the mean scale over the extent (relocation: 0.01)")
    random_background: bool = option(False, "another colour behind everything in every step")
    densify_rule: str = option(
        "threshold",
        "2DGS's threshold, a budget that grows to --splat_cap, or one whose transparent splats "
        "are relocated and wander (3DGS-MCMC)",
        choices=("threshold", "budget", "relocation"),
    )
    splat_cap: int = option(
        0, "with --densify_rule budget, relocation: number of splats to grow to; 0: auto"
    )
    noise_lr: float = option(500_000.0, "--densify_rule relocation: how far faint splats wander")
    densify_grad_threshold: float = option(0.0002, "screen gradient above which a splat divides")
    percent_dense: float = option(0.01, "small splats clone, large split: share of the extent")
    densification_interval: int = option(100, "steps between densifications")
    densify_from_iter: int = option(500, "first densification")
    densify_until_iter: int = option(15000, "last densification")
    opacity_cull: float = option(0.05, "prune splats fainter than this")
    opacity_reset_interval: int = option(3000, "steps between opacity resets; 0: never")

    def __post_init__(self) -> None:
        require(self.iterations >= 1, "iterations", self.iterations, "at least 1")
        require(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1")
        require(0 <= self.lambda_dssim <= 1, "lambda_dssim", self.lambda_dssim, "in [0, 1]")
        require(
            self.densification_interval >= 1,
            "densification_interval",
            self.densification_interval,
            "at least 1",
        )
        require(self.lr_scale >= 0, "lr_scale", self.lr_scale, "0 or positive")
        require(0 <= self.opacity_cull < 1, "opacity_cull", self.opacity_cull, "in [0, 1)")
        require_at_least(self, 0, "lambda_dist", "lambda_normal", "splat_cap", "warmup_steps")
        require_at_least(self, 0, "opacity_reset_interval", "opacity_reg", "scale_reg", "noise_lr")
        require_at_least(self, 0, "lambda_exposure")
        for name in ("exposure_lr_init", "exposure_lr_final"):
            require(getattr(self, name) > 0, name, getattr(self, name), "positive")


@dataclass(frozen=True)
class SegmentationParams:
    """How instances are learned, whatever the method; the method has a group of its own."""

    method: str = option("iqgs", "way to learn instances; see iqgs/methods/")
    matching: str = option(
        "", "id: --method iqgs, hungarian: --method iqgs-h", choices=("", "id", "hungarian")
    )
    route: str = option(
        "two-stage",
        "reconstruct, freeze, then learn instances; or both together",
        choices=("two-stage", "joint"),
    )
    instance_moves_geometry: bool = option(
        False, "joint route: let the instance loss move splats (Gaussian Grouping does)"
    )
    repair_masks: str = option(
        "off",
        "auto: identities of the masks are found in 3D first; ids that the views contradict are "
        "mended, and with --method iqgs-h, or where ids mean nothing, found",
        choices=("auto", "off"),
    )
    instance_iterations: int = option(30000, "steps that learn instances on the frozen splats")
    instance_dim: int = option(16, "D_obj, of the attribute that every splat carries")
    instance_std: float = option(0.1, "standard deviation of the attribute at the start")
    lr_instance: float = option(0.0025, "Adam rate of the instance attribute")
    lr_instance_opacity: float = option(
        0.0,
        "two-stage route, sampled pixels: rate of opacities for instances; 0: the colours' serve",
    )
    lr_iqgs: float = option(0.0005, "Adam rate of the method's own parameters")
    lr_iqgs_final: float = option(1.0, "final fraction of these rates, by a cosine")
    pixels_per_step: int = option(4096, "pixels of the view that a step looks at; 0: all")
    edge_pixels: float = option(
        0.0, "two-stage route: share of them that is drawn from the edges of the masks"
    )
    splat_labels: str = option(
        "method",
        "labels of the saved splats: the method's, or what its masks show in the training views",
        choices=("method", "views"),
        harmless=True,
    )
    cache_gb: float = option(3.0, "room for cached blending weights; 0: recompute every step")
    cache_path: str = option("", "keep them in this folder instead of in memory", harmless=True)

    def __post_init__(self) -> None:
        require_at_least(self, 1, "instance_dim")
        require_at_least(
            self, 0, "instance_iterations", "pixels_per_step", "cache_gb", "lr_instance_opacity"
        )
        require(0 <= self.edge_pixels <= 1, "edge_pixels", self.edge_pixels, "0 to 1")
        require(
            not self.cache_path or self.cache_gb > 0,
            "cache_path",
            self.cache_path,
            "empty where --cache_gb is 0: nothing is kept then",
        )


@dataclass(frozen=True)
class TrainParams:
    """What `train.py` does besides learning."""

    preset: str = option(
        "default",
        "a named set of defaults; the README has the table",
        choices=("default", "paper", "paper-literal", "2dgs"),
    )
    config_file: str = option("", "JSON file of settings, below the command line", harmless=True)
    seed: int = option(0, "of every random choice")
    device: str = option("auto", "where to compute", choices=("auto", "cpu", "cuda"), harmless=True)
    threads: int = option(0, "CPU threads; 0: all", harmless=True)
    test_iterations: list[int] = option([], "evaluate after these steps; -1: never", harmless=True)
    save_iterations: list[int] = option(
        [], "write the PLY after these steps (the last always)", harmless=True
    )
    checkpoint_iterations: list[int] = option(
        [], "write a checkpoint after these steps", harmless=True
    )
    checkpoint_interval: int = option(
        0, "also write one every so many steps; 0: only at the end", harmless=True
    )
    start_checkpoint: str = option("", "go on from this checkpoint", harmless=True)
    start_ply: str = option(
        "", "learn instances on these splats (PLY); no reconstruction", harmless=True
    )
    decoder: str = option(
        "",
        "--start_ply: learn the attribute of the splats for the decoder of this run, which stays "
        "as it is",
    )
    flatten_ply: bool = option(False, "--start_ply: drop the shortest axis of 3D Gaussians")
    resume: str = option(
        "", "auto: go on from the newest good checkpoint", choices=("", "auto"), harmless=True
    )
    overwrite: bool = option(
        False, "start anew in a folder that already holds a run", harmless=True
    )
    quiet: bool = option(False, "no progress bar", harmless=True)
    detect_anomaly: bool = option(
        False,
        "torch's anomaly detection: slow, names the operation; every gradient is looked at",
        harmless=True,
    )
    skip_nonfinite: int = option(
        0, "leave out so many steps whose loss is not finite before one stops it", harmless=True
    )
    deterministic: bool = option(
        False, "refuse operations that are not deterministic", harmless=True
    )
    ip: str = option("127.0.0.1", "training opens no port", inert=True)
    port: int = option(6009, "training opens no port", inert=True)
    debug_from: int = option(-1, "changes nothing", inert=True)
    use_wandb: bool = option(False, "scalars go to TensorBoard", inert=True)
    num_classes: int = option(0, "see --num_queries", inert=True)

    def __post_init__(self) -> None:
        require(self.threads >= 0, "threads", self.threads, "0 or positive")
        require(self.skip_nonfinite >= 0, "skip_nonfinite", self.skip_nonfinite, "0 or positive")
        require(self.seed >= 0, "seed", self.seed, "0 or positive")
        require(
            not self.decoder or bool(self.start_ply),
            "decoder",
            self.decoder,
            "given together with --start_ply",
        )
        require(
            not self.flatten_ply or bool(self.start_ply),
            "flatten_ply",
            self.flatten_ply,
            "given together with --start_ply",
        )


@dataclass(frozen=True)
class RunConfig:
    """All groups of one run: what `config.json` holds."""

    model: ModelParams
    pipeline: PipelineParams
    optimization: OptimizationParams
    segmentation: SegmentationParams
    method: Any  # the record of the method that `segmentation.method` names
    train: TrainParams

    def __post_init__(self) -> None:
        require(
            not (self.optimization.exposure and self.train.start_ply),
            "exposure",
            True,
            "left out with --start_ply: splats and colours do not move then",
        )
        if self.pipeline.primitive != "3dgs":
            return
        weight = self.optimization.lambda_normal
        require(
            weight == 0,
            "lambda_normal",
            weight,
            "0 with --primitive 3dgs: ellipsoids have no surface normal to learn",
        )
        require(
            not self.train.flatten_ply,
            "flatten_ply",
            self.train.flatten_ply,
            "left out with --primitive 3dgs: it makes discs",
        )


GROUPS: dict[str, type] = {
    "model": ModelParams,
    "pipeline": PipelineParams,
    "optimization": OptimizationParams,
    "segmentation": SegmentationParams,
    "train": TrainParams,
}
