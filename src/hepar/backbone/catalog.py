"""Which networks there are, what each expects of a picture or volume, where it can be frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from hepar.errors import BackboneError
from hepar.registry import Registry

__all__ = ["BACKBONES", "BackboneSpec"]

Triple = tuple[float, float, float]

_IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
_IMAGENET_STD: Triple = (0.229, 0.224, 0.225)
_HALF: Triple = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class BackboneSpec:
    """A pretrained convolutional network, without its classifier.

    Mean and std are the default for weights that do not say otherwise; a weights file's own input
    contract wins.

    Attributes:
        name: as in `hepar backbones`.
        timm_name: the architecture in timm, whose state-dict names the weights carry; "" for a
            network of our own, which has no pretrained weights and is trained from scratch.
        hub_id: repository of timm's own weights on the model hub; "" where there are none.
        licence: of those weights.
        input_size: side in pixels the weights were trained for.
        min_size: smallest height or width in pixels the network accepts.
        feature_dim: channels of the last maps, and length of the pooled features.
        maps_shape: (c, h, w) of the last maps at `input_size`, or (c, d, h, w) of a volume's.
        params_millions: parameters without the classifier.
        gflops: floating point operations of one image at `input_size`, 2 per multiply-add.
        freeze_boundaries: stage -> prefixes of the state-dict names in it, from the input to the
            output; freezing up to a stage freezes it and all before it.
        ignored: prefixes of state-dict names that belong to a classifier and are not used.
        mean: per channel (RGB), of pixels in 0-1.
        std: per channel (RGB), of pixels in 0-1.
        create_kwargs: how timm makes it.
        variants: `create_kwargs` a weights file may ask for instead -> suffix of its graph.
        depth: planes of a volume at `input_size`, of one channel; 0 for a network of pictures. Its
            weights carry the names of MONAI's state dict.
        fitted_to: "labels" for a network that gradients train; "lesions" for one that learns from
            the pixels of lesion masks, and "nothing" for a rule.
    """

    name: str
    timm_name: str
    hub_id: str
    licence: str
    input_size: int
    min_size: int
    feature_dim: int
    maps_shape: tuple[int, ...]
    params_millions: float
    gflops: float
    freeze_boundaries: Mapping[str, tuple[str, ...]]
    ignored: tuple[str, ...]
    mean: Triple = _IMAGENET_MEAN
    std: Triple = _IMAGENET_STD
    create_kwargs: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    variants: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: MappingProxyType({}))
    depth: int = 0
    fitted_to: Literal["labels", "lesions", "nothing"] = "labels"

    def input_shape(self, size: int) -> tuple[int, ...]:
        """Return (3, size, size), or of a volume (1, planes, size, size).

        Example:
            >>> BACKBONES.get("resnet10_3d").input_shape(96)
            (1, 32, 96, 96)
        """
        if not self.depth:
            return 3, size, size
        return 1, self.depth * size // self.input_size, size, size

    def graph_name(self, create_kwargs: Mapping[str, object]) -> str:
        """Return the name of the graph for a way of making the network.

        Args:
            create_kwargs: what a weights file says timm must be given; `num_classes` is ignored.

        Returns:
            The stem of a file in `graphs/`.

        Raises:
            BackboneError: there is no graph for these arguments.
        """
        asked = {key: value for key, value in create_kwargs.items() if key != "num_classes"}
        if asked == dict(self.create_kwargs):
            return self.name
        for suffix, kwargs in self.variants.items():
            if asked == dict(kwargs):
                return f"{self.name}_{suffix}"
        known = [dict(self.create_kwargs), *map(dict, self.variants.values())]
        raise BackboneError(
            f"backbone {self.name!r}: expected weights made with one of {known}, got {asked}. "
            "Use weights of the plain timm architecture."
        )

    def frozen_prefixes(self, boundary: str) -> tuple[str, ...]:
        """Return the state-dict prefixes that stay fixed when freezing up to a stage.

        Args:
            boundary: a stage of the network; "none", "early" (all stages but the last) or "all".

        Raises:
            BackboneError: the network has no such stage.

        Example:
            >>> BACKBONES.get("resnet50").frozen_prefixes("layer1")
            ('conv1.', 'bn1.', 'layer1.')
        """
        stages = list(self.freeze_boundaries)
        count = {"none": 0, "early": len(stages) - 1, "all": len(stages)}.get(boundary)
        if count is None and boundary not in stages:
            raise BackboneError(
                f"backbone {self.name!r}: expected a freeze boundary out of none, "
                f"{', '.join(stages)}, early, all; got {boundary!r}."
            )
        frozen = stages[: stages.index(boundary) + 1 if count is None else count]
        return tuple(prefix for stage in frozen for prefix in self.freeze_boundaries[stage])


BACKBONES: Registry[BackboneSpec] = Registry("backbone", "`hepar backbones` lists all.")


def _stages(**stages: str) -> Mapping[str, tuple[str, ...]]:
    """Return stage -> prefixes from stage="module module"; every prefix ends in a dot."""
    return MappingProxyType(
        {stage: tuple(f"{module}." for module in text.split()) for stage, text in stages.items()}
    )


def _vgg_stages(*ends: int) -> Mapping[str, tuple[str, ...]]:
    """Return the five blocks of a VGG from the index after each block's last layer."""
    starts = (0, *ends[:-1])
    blocks = {
        f"block{number}": " ".join(f"features.{index}" for index in range(start, end))
        for number, (start, end) in enumerate(zip(starts, ends, strict=True), start=1)
    }
    return _stages(**blocks)


_MOBILE_STAGES = _stages(
    stem="conv_stem bn1",
    **{f"block{number}": f"blocks.{number}" for number in range(6)},
    block6="blocks.6 conv_head bn2",
)

_RESNET_STAGES = _stages(
    stem="conv1 bn1", layer1="layer1", layer2="layer2", layer3="layer3", layer4="layer4"
)
_DENSENET_STAGES = _stages(
    stem="features.conv0 features.norm0",
    block1="features.denseblock1 features.transition1",
    block2="features.denseblock2 features.transition2",
    block3="features.denseblock3 features.transition3",
    block4="features.denseblock4 features.norm5",
)

BACKBONES.add("efficientnet_lite0")(
    BackboneSpec(
        name="efficientnet_lite0",
        timm_name="tf_efficientnet_lite0",
        hub_id="timm/tf_efficientnet_lite0.in1k",
        licence="Apache-2.0",
        input_size=224,
        min_size=32,
        feature_dim=1280,
        maps_shape=(1280, 7, 7),
        params_millions=3.37,
        gflops=0.77,
        freeze_boundaries=_MOBILE_STAGES,
        ignored=("classifier.",),
        mean=_HALF,
        std=_HALF,
    )
)
BACKBONES.add("mobilenetv2")(
    BackboneSpec(
        name="mobilenetv2",
        timm_name="mobilenetv2_100",
        hub_id="timm/mobilenetv2_100.ra_in1k",
        licence="Apache-2.0",
        input_size=224,
        min_size=32,
        feature_dim=1280,
        maps_shape=(1280, 7, 7),
        params_millions=2.22,
        gflops=0.60,
        freeze_boundaries=_MOBILE_STAGES,
        ignored=("classifier.",),
        variants=MappingProxyType({"same": MappingProxyType({"pad_type": "same"})}),
    )
)
BACKBONES.add("resnet50")(
    BackboneSpec(
        name="resnet50",
        timm_name="resnet50",
        hub_id="timm/resnet50.a1_in1k",
        licence="Apache-2.0",
        input_size=224,
        min_size=32,
        feature_dim=2048,
        maps_shape=(2048, 7, 7),
        params_millions=23.51,
        gflops=8.17,
        freeze_boundaries=_RESNET_STAGES,
        ignored=("fc.",),
    )
)
BACKBONES.add("densenet121")(
    BackboneSpec(
        name="densenet121",
        timm_name="densenet121",
        hub_id="timm/densenet121.ra_in1k",
        licence="Apache-2.0",
        input_size=224,
        min_size=32,
        feature_dim=1024,
        maps_shape=(1024, 7, 7),
        params_millions=6.95,
        gflops=5.66,
        freeze_boundaries=_DENSENET_STAGES,
        ignored=("classifier.",),
    )
)
BACKBONES.add("efficientnet_b2")(
    BackboneSpec(
        name="efficientnet_b2",
        timm_name="efficientnet_b2",
        hub_id="timm/efficientnet_b2.ra_in1k",
        licence="Apache-2.0",
        input_size=256,
        min_size=32,
        feature_dim=1408,
        maps_shape=(1408, 8, 8),
        params_millions=7.70,
        gflops=1.73,
        freeze_boundaries=_MOBILE_STAGES,
        ignored=("classifier.",),
    )
)
BACKBONES.add("inception_v3")(
    BackboneSpec(
        name="inception_v3",
        timm_name="inception_v3",
        hub_id="timm/inception_v3.tv_in1k",
        licence="Apache-2.0",
        input_size=299,
        min_size=75,
        feature_dim=2048,
        maps_shape=(2048, 8, 8),
        params_millions=21.79,
        gflops=11.43,
        freeze_boundaries=_stages(
            stem="Conv2d_1a_3x3 Conv2d_2a_3x3 Conv2d_2b_3x3 Conv2d_3b_1x1 Conv2d_4a_3x3",
            mixed5="Mixed_5b Mixed_5c Mixed_5d",
            mixed6="Mixed_6a Mixed_6b Mixed_6c Mixed_6d Mixed_6e",
            mixed7="Mixed_7a Mixed_7b Mixed_7c",
        ),
        ignored=("fc.", "AuxLogits."),
        mean=_HALF,
        std=_HALF,
    )
)
BACKBONES.add("vgg16")(
    BackboneSpec(
        name="vgg16",
        timm_name="vgg16",
        hub_id="timm/vgg16.tv_in1k",
        licence="BSD-3-Clause",
        input_size=224,
        min_size=32,
        feature_dim=512,
        maps_shape=(512, 7, 7),
        params_millions=14.71,
        gflops=30.69,
        freeze_boundaries=_vgg_stages(5, 10, 17, 24, 31),
        ignored=("pre_logits.", "head."),
    )
)
BACKBONES.add("vgg19")(
    BackboneSpec(
        name="vgg19",
        timm_name="vgg19",
        hub_id="timm/vgg19.tv_in1k",
        licence="BSD-3-Clause",
        input_size=224,
        min_size=32,
        feature_dim=512,
        maps_shape=(512, 7, 7),
        params_millions=20.02,
        gflops=39.04,
        freeze_boundaries=_vgg_stages(5, 10, 19, 28, 37),
        ignored=("pre_logits.", "head."),
    )
)
BACKBONES.add("small_cnn")(
    BackboneSpec(
        name="small_cnn",
        timm_name="",
        hub_id="",
        licence="none",
        input_size=224,
        min_size=32,
        feature_dim=256,
        maps_shape=(256, 14, 14),
        params_millions=0.39,
        gflops=1.47,
        freeze_boundaries=_stages(
            **{f"block{number}": f"conv{number} bn{number}" for number in range(1, 5)}
        ),
        ignored=(),
        mean=_HALF,
        std=_HALF,
    )
)
BACKBONES.add("lesion_finder")(
    BackboneSpec(
        name="lesion_finder",
        timm_name="",
        hub_id="",
        licence="none",
        input_size=192,
        min_size=32,
        feature_dim=2,
        maps_shape=(2, 24, 24),
        params_millions=0.02,
        gflops=1.27,
        freeze_boundaries=_stages(layers="layer1 layer2 layer3"),
        ignored=(),
        variants=MappingProxyType(
            {str(n): MappingProxyType({"labels": str(n)}) for n in range(2, 5)}
        ),
        fitted_to="lesions",
    )
)
BACKBONES.add("darkest_point")(
    BackboneSpec(
        name="darkest_point",
        timm_name="",
        hub_id="",
        licence="none",
        input_size=192,
        min_size=32,
        feature_dim=1,
        maps_shape=(1, 24, 24),
        params_millions=0.0,
        gflops=0.00737,
        freeze_boundaries=_stages(rule="dark"),
        ignored=(),
        fitted_to="nothing",
    )
)
BACKBONES.add("resnet10_3d")(
    BackboneSpec(
        name="resnet10_3d",
        timm_name="",
        hub_id="",
        licence="none",
        input_size=96,
        min_size=48,
        feature_dim=512,
        maps_shape=(512, 1, 3, 3),
        params_millions=14.36,
        gflops=5.01,
        freeze_boundaries=_RESNET_STAGES,
        ignored=("fc.",),
        depth=32,
    )
)
BACKBONES.add("resnet18_3d")(
    BackboneSpec(
        name="resnet18_3d",
        timm_name="",
        hub_id="",
        licence="none",
        input_size=96,
        min_size=48,
        feature_dim=512,
        maps_shape=(512, 1, 3, 3),
        params_millions=33.16,
        gflops=8.83,
        freeze_boundaries=_RESNET_STAGES,
        ignored=("fc.",),
        depth=32,
    )
)
BACKBONES.add("densenet121_3d")(
    BackboneSpec(
        name="densenet121_3d",
        timm_name="",
        hub_id="",
        licence="none",
        input_size=96,
        min_size=96,
        feature_dim=1024,
        maps_shape=(1024, 1, 3, 3),
        params_millions=11.24,
        gflops=12.07,
        freeze_boundaries=_DENSENET_STAGES,
        ignored=("class_layers.",),
        depth=32,
    )
)
