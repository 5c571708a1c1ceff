"""Settings: one frozen dataclass per stage, filled from one TOML file."""

from hepar.config.describe import describe_settings
from hepar.config.reading import LEVELS, PRESETS, config_from, merge, read_config, read_settings
from hepar.config.stages import (
    AuditConfig,
    AugmentConfig,
    BackboneConfig,
    ControlsConfig,
    DecideConfig,
    EvaluateConfig,
    ExplainConfig,
    FinderConfig,
    FinetuneConfig,
    HeadConfig,
    IngestConfig,
    RecipeConfig,
    RunConfig,
    SegmentConfig,
    SplitConfig,
)

__all__ = [
    "LEVELS",
    "PRESETS",
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
    "config_from",
    "describe_settings",
    "merge",
    "read_config",
    "read_settings",
]
