"""What a network is written as: an artifact, ONNX, NIR."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snncompile.interop.nir.exporting import NirExport
    from snncompile.onnx_export import OnnxExport


class WrittenNetwork:
    """What a compiled network has for being written to files."""

    def save(self: Any, path: str | Path) -> Path:
        """Write the network as an artifact directory; see :func:`snncompile.load`."""
        from snncompile.artifact import save_network

        return save_network(self, path)

    def to_onnx(
        self: Any,
        path: str | Path,
        form: str = "scan",
        *,
        steps: int | None = None,
        inline: bool = False,
        opset: int | None = None,
        check: bool = True,
        quantize: str | None = None,
        calibrate: Any = None,
    ) -> OnnxExport:
        """Write the network, as it is in ``eval()``, to an ONNX file, checked against the torch reference.

        Args:
            path: the file; it is replaced only if everything went well.
            form: ``"scan"`` (any batch and length; initial states are optional inputs), ``"step"`` (one time step,
                states in and out) or ``"unrolled"`` (``steps`` steps, plain operators only).
            steps: the length of the unrolled form.
            inline: write no local functions, for runtimes that know none.
            opset: the operator set; None takes the one that most runtimes understand.
            check: run the file in onnx's checker, ONNX Runtime (if installed) and onnx's reference evaluator, against
                the reference on random input.
            quantize: ``"int8"`` stores weights as int8, one scale per output channel; needs ``calibrate``.
            calibrate: data like that which the network will see: the path of a ``.npz`` or ``.npy`` file, or a mapping
                of arrays by input; ``labels`` beside them, a class for each sequence, lets accuracy be compared.

        Returns:
            what was written, what the checks found, and what quantising changed.

        Raises:
            InputError: for calibration data that does not fit.
            InterchangeError: for what ONNX cannot say, a path that cannot be written, or a file that fails a check.
        """
        from snncompile.onnx_export import export_onnx

        return export_onnx(
            self, path, form, steps=steps, inline=inline, opset=opset, check=check, quantize=quantize,
            calibrate=calibrate,
        )  # fmt: skip

    def to_nir(
        self: Any,
        path: str | Path,
        *,
        lossy: bool = False,
        method: str | None = None,
        dt: float | None = None,
        cycles: str = "delay",
    ) -> NirExport:
        """Write the network to a NIR file that :func:`snncompile.from_nir` reads back with the same outputs.

        Args:
            path: the file; it is replaced only if everything went well.
            lossy: write without what NIR has no word for (several spikes per step, a reset that subtracts, ...).
            method: ``"euler"`` chooses time constants with which a reader that uses Euler's method decays as this
                network does, up to rounding. None writes them as they are.
            dt: the time step of the reader; all times in the file are in proportion. Default: the network's.
            cycles: ``"delay"`` writes the last step's value in a cycle as a Delay of one step; ``"bare"`` leaves it to
                the reader, for those that know no Delay.

        Returns:
            what was written, the options to read it with, and what was lost.

        Raises:
            InterchangeError: for what NIR cannot say, by the node's name, and a path that cannot be written.
            UnsupportedError: where the package nir is not installed.
        """
        from snncompile.interop.nir.exporting import export_nir

        return export_nir(self, path, lossy=lossy, method=method, dt=dt, cycles=cycles)
