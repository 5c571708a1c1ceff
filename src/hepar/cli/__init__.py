"""A thin face: parse, call, print. Every rule lives in the room it belongs to."""

from hepar.cli import audit, claims, jobs, look, models, segment, stages
from hepar.cli.face import app, main

__all__ = ["app", "audit", "claims", "jobs", "look", "main", "models", "segment", "stages"]
