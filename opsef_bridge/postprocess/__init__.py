"""Postprocessing: labels -> labels."""

from opsef_bridge.postprocess.clean import Postprocess, clean

__all__ = ["Postprocess", "clean"]
