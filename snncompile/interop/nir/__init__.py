"""NIR, the Neuromorphic Intermediate Representation: files of the `nir` package become networks, and networks files."""

from snncompile.interop.nir.exporting import NirExport, export_nir
from snncompile.interop.nir.importing import from_nir

__all__ = ["NirExport", "export_nir", "from_nir"]
