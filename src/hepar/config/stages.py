"""A frozen dataclass per stage: every setting, its default and what it means."""

from __future__ import annotations

from dataclasses import dataclass, field

from hepar.errors import ConfigError

__all__ = [
    "AuditConfig",
    "AugmentConfig",
    "BackboneConfig",
    "ControlsConfig",
    "DecideConfig",
    "EvaluateConfig",
    "ExplainConfig",
    "FinderConfig",
    "FinetuneConfig",
    "HeadConfig",
    "IngestConfig",
    "RecipeConfig",
    "RunConfig",
    "SegmentConfig",
    "SplitConfig",
]


@dataclass(frozen=True)
class IngestConfig:
    """How a source becomes a manifest.

    Attributes:
        labels_csv: table of labels by patient_id, study_id or series_id; "" for none. A column
            `mask` in it names a mask file.
        patient_pattern: regular expression over the relative path; its first group is patient_id.
        patients_unknown: go on without patient ids, with image-level folds, and say so everywhere.
        label_order: labels in order of severity, comma-separated; "" to infer it.
        label_column: name of the label column in a table.
        series_column: name of the column that tells a patient's series apart in a table.
        mask_values: such as "liver=127,lesion=255"; "" to infer them from the masks.
        flip_vertical: pictures are stored upside down.
        allow_gaps: accept a series with missing or unevenly spaced slices.
        pixels: "grey", or "rgb" for stained tiles in colour; colours are never guessed.
        findings: columns of 0 and 1, comma-separated, each a model of its own; "all" for every such
            column; "" where `label_column` holds the label.
        max_megapixels: refuse one slice or picture above this many million pixels.
        max_megabytes: refuse a file or volume that would decode to more than this many MB.
    """

    labels_csv: str = ""
    patient_pattern: str = ""
    patients_unknown: bool = False
    label_order: str = ""
    label_column: str = "label"
    series_column: str = "series_id"
    mask_values: str = ""
    flip_vertical: bool = False
    allow_gaps: bool = False
    pixels: str = "grey"
    findings: str = ""
    max_megapixels: float = 20.0
    max_megabytes: float = 1024.0


@dataclass(frozen=True)
class SplitConfig:
    """How patients are divided.

    Attributes:
        folds: number of cross-validation folds; fewer patients than folds gives leave-one-out.
        test: share of patients held out as test partition, 0 for none; 0.2 is the paper's 80/20.
        seed: of the assignment.
        column: a column of the source table that already holds the split (a fold number or
            "test"); "" to make one.
        unit: "patient", or "image" to let one patient's images fall on both sides, as papers do:
            for showing what that does to the numbers, and said in all of them.
    """

    folds: int = 5
    test: float = 0.0
    seed: int = 0
    column: str = ""
    unit: str = "patient"


@dataclass(frozen=True)
class SegmentConfig:
    """Who outlines the liver where nobody has drawn it, and how that is taught.

    Attributes:
        model: folder of a segmenter that `hepar segment fit` wrote, or liver-unet, the pretrained
            3D network (HU with spacing alone; not for patients of LiTS); "" for none: then a rule
            guesses the liver of new patients.
        folds: of patients, each outlined by a segmenter that never saw them.
        size: side of the square network input in pixels, a multiple of 32.
        steps: of training.
        batch: slices a step.
        learning_rate: the highest, of one cycle.
        seed: of the first weights, the drawn slices and their views.
    """

    model: str = ""
    folds: int = 5
    size: int = 160
    steps: int = 500
    batch: int = 16
    learning_rate: float = 1e-3
    seed: int = 0


@dataclass(frozen=True)
class FinderConfig:
    """How lesion masks teach a lesion finder.

    Attributes:
        pixels: of lesions, and again of the liver around them, all patients alike.
        steps: of 512 pixels, at least; all pixels are gone through four times anyway.
    """

    pixels: int = 120_000
    steps: int = 1000


@dataclass(frozen=True)
class RecipeConfig:
    """How pixels become network input.

    Attributes:
        name: "auto" (liver where every sample has a mask, else ct for HU, else picture; histology
            for RGB) or the name of a recipe.
        size: side of the square network input in pixels; 0 for the backbone's own.
        windows: of a volume along z, each overlapping half of the next: more are finer, for
            together they reach as far as one alone. Answers are averaged over them.
    """

    name: str = "auto"
    size: int = 0
    windows: int = 1


@dataclass(frozen=True)
class BackboneConfig:
    """Which pretrained network, and where its weights are.

    Attributes:
        name: from `hepar backbones`; "a+b" puts the pooled features of both side by side.
        weights: a safetensors file; "" to search; "package" for those installed with hepar;
            "random" for untrained weights.
        batch: images per call of the network.
        workers: threads that decode and preprocess; 0 for one per core.
        threads: threads inside the network; 0 for one per core.
    """

    name: str = "efficientnet_lite0"
    weights: str = ""
    batch: int = 32
    workers: int = 0
    threads: int = 0


@dataclass(frozen=True)
class HeadConfig:
    """How the head is fitted.

    Attributes:
        kind: "linear" (logistic regression), "svm" (linear), "svm-rbf", "attention" (weighs the
            slices of a patient; learns from patients' labels alone), or "dense": layers trained
            with the network (see finetune).
        views: of each image that the head learns from and averages over in prediction; 1 is the
            image as it is, more are augmented.
        penalties: candidate L2 strengths (inverse of scikit-learn's C), the best chosen by
            patient-grouped inner folds.
        inner_folds: number of inner folds.
        centre: features less their mean over each patient's own slices, in training and in service:
            what a scanner adds to all of them is gone, and so is what a patient's slices share, a
            label of the whole patient among it: for labels of slices.
        beside: share of each neighbouring slice of the series in a slice's features, 0 to 1/3.
        aggregate: how slices become a patient: "mean", "top" (mean of the top_k), "max",
            "noisy-or" (is any slice not the most harmless label?), or "attention" (for a head of
            that kind).
        top_k: slices that "top" averages.

    Raises:
        ConfigError: there is no penalty, or one that is not above 0.
    """

    kind: str = "linear"
    views: int = 1
    penalties: tuple[float, ...] = (1e0, 1e1, 1e2, 1e3, 1e4, 1e5)
    inner_folds: int = 3
    centre: bool = False
    beside: float = 0.0
    aggregate: str = "mean"
    top_k: int = 3

    def __post_init__(self) -> None:
        if not self.penalties or not all(0 < p < float("inf") for p in self.penalties):
            raise ConfigError(
                f"head.penalties: expected one or more numbers above 0, got {self.penalties}."
            )


@dataclass(frozen=True)
class AugmentConfig:
    """What other views of an image look like: random, but never another diagnosis.

    Attributes:
        views: distinct views of each image that training shows in turn, the plain one included;
            1 for no augmentation.
        rotation: largest, in degrees either way.
        zoom: largest relative change of size.
        shift: largest, as a share of the side.
        flip_lr: mirror half of the views left to right, which moves the liver to the wrong side.
        flip_ud: mirror half of the views top to bottom.
        gain: largest relative change of contrast.
        offset: largest shift of grey values, in standard deviations of the network's input.
        noise: largest sigma of added Gaussian noise, in the same unit.
        stain: largest relative change of each stain of an RGB tile, and largest shift of its
            optical density.
        blur: largest sigma of a Gaussian, in pixels of the network's input.

    Raises:
        ConfigError: a value makes no sense, such as a negative rotation.
    """

    views: int = 8
    rotation: float = 15.0
    zoom: float = 0.1
    shift: float = 0.05
    flip_lr: bool = False
    flip_ud: bool = False
    gain: float = 0.1
    offset: float = 0.1
    noise: float = 0.05
    stain: float = 0.0
    blur: float = 0.0

    def __post_init__(self) -> None:
        limits = {
            "rotation": 180, "zoom": 0.9, "shift": 1, "gain": 0.9, "offset": 10, "noise": 10,
            "stain": 0.9, "blur": 20,
        }  # fmt: skip
        for name, limit in limits.items():
            value = getattr(self, name)
            if not 0 <= value <= limit:
                raise ConfigError(f"augment.{name}: expected 0 to {limit}, got {value}.")
        if self.views < 1:
            raise ConfigError(f"augment.views: expected 1 (none) or more, got {self.views}.")


@dataclass(frozen=True)
class FinetuneConfig:
    """How a network is trained behind its freeze boundary; all frozen, nothing is.

    Attributes:
        freeze: "all", "early" (all stages but the last), "none", or the last stage to freeze.
        epochs: at most.
        batch: images a step, over all processes.
        learning_rate: of Adam, at the start.
        weight_decay: of Adam.
        hidden: widths of the dense layers between the pooled features and the output.
        dropout: share of a dense layer's outputs that a training step leaves out.
        label_smoothing: share of the target given to all labels alike.
        tune: share of the training patients that stop the training and learn nothing.
        patience: epochs without a better tune loss before training stops.
        plateau: epochs without a better tune loss before the learning rate is halved.
        freeze_norm: BatchNorm keeps its pretrained statistics behind the boundary, too.
        start: "random" output layer, or "linear": the head fitted on frozen features first
            (LP-FT, Kumar 2022); takes no hidden layers.
        cache: "auto", "on" or "off": keep the frozen part's output on disk.
        cache_gb: "auto" caches up to this many GB.
        seed: of the first weights, the order of rows, and dropout.
    """

    freeze: str = "all"
    epochs: int = 50
    batch: int = 32
    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    hidden: tuple[int, ...] = (256,)
    dropout: float = 0.5
    label_smoothing: float = 0.0
    tune: float = 0.2
    patience: int = 10
    plateau: int = 4
    freeze_norm: bool = False
    start: str = "random"
    cache: str = "auto"
    cache_gb: float = 8.0
    seed: int = 0


@dataclass(frozen=True)
class AuditConfig:
    """What is looked for before anything is learned.

    Attributes:
        copies: look for copies and near-copies of images, across patients and labels.
        groups: where patient ids are unknown, join images that look like one patient's, and leave
            such groups out in turn; False for image-level folds.
    """

    copies: bool = True
    groups: bool = True


@dataclass(frozen=True)
class DecideConfig:
    """How scores become answers: calibrated, a set of labels or none, and a threshold.

    Attributes:
        calibration: "temperature", "vector", "isotonic" or "none"; fitted on left-out patients.
        conformal: how sets of labels are made: "lac" or "aps"; "none" for no sets.
        coverage: share of patients, of each label, whose set is to hold their label.
        sensitivity: for the most severe label, that the operating point is chosen for.
        bound: "estimate", or "lower" where the interval's lower end is to reach that sensitivity.
        gate: refuse images unlike those the model was made from.
        gate_share: share of proper slices of new patients that the gate may refuse.
    """

    calibration: str = "temperature"
    conformal: str = "lac"
    coverage: float = 0.9
    sensitivity: float = 0.95
    bound: str = "estimate"
    gate: bool = True
    gate_share: float = 0.05


@dataclass(frozen=True)
class ControlsConfig:
    """What a model is compared with to see that it looks at the right thing.

    Attributes:
        run: make the controls and the leakage meter; False leaves them out of the report.
        permutations: of the labels.
        seed: of the permutations and of the learning curve's draws.
    """

    run: bool = True
    permutations: int = 20
    seed: int = 0


@dataclass(frozen=True)
class ExplainConfig:
    """What is shown and checked of where a model looks.

    Attributes:
        run: make heat maps and check them; False leaves them out of the report.
        method: "grad-cam", "hirescam", "grad-cam++", or "occlusion": slow, and for volumes, whose
            last maps are too coarse to say where, the one of the level; or "auto": for lesion
            finders how likely each pixel is a lesion, else "grad-cam".
        slices: at most, whose maps are compared with lesion masks.
        checked: slices at most, each of another patient, whose maps are checked by changing images.
        known: training slices, about, that the bundle keeps as features and labels, so that
            `hepar explain` can say whom a new slice resembles; 0 keeps none.
        seed: of the random order that maps are compared with.
    """

    run: bool = True
    method: str = "auto"
    slices: int = 200
    checked: int = 12
    known: int = 1000
    seed: int = 0


@dataclass(frozen=True)
class EvaluateConfig:
    """How intervals are made.

    Attributes:
        resamples: bootstrap resamples of patients.
        level: coverage of the intervals.
        seed: of the bootstrap.
    """

    resamples: int = 2000
    level: float = 0.95
    seed: int = 0


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides the result of `hepar run`."""

    ingest: IngestConfig = field(default_factory=IngestConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    segment: SegmentConfig = field(default_factory=SegmentConfig)
    finder: FinderConfig = field(default_factory=FinderConfig)
    recipe: RecipeConfig = field(default_factory=RecipeConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    audit: AuditConfig = field(default_factory=AuditConfig)
    decide: DecideConfig = field(default_factory=DecideConfig)
    controls: ControlsConfig = field(default_factory=ControlsConfig)
    explain: ExplainConfig = field(default_factory=ExplainConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
