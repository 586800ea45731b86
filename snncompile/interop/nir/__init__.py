"""NIR, the Neuromorphic Intermediate Representation: files of the `nir` package become networks."""

from snncompile.interop.nir.importing import from_nir

__all__ = ["from_nir"]
