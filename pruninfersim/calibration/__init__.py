"""From timings to kernels that know their error: reading, fitting, judging, and carrying over to other GPUs."""

from pruninfersim._util.lazy import lazy, shows

__all__ = ["Band", "Calibration", "Residuals", "calibrate", "fit_kernel", "read_timings"]

__getattr__ = lazy(
    globals(),
    {
        "Band": "pruninfersim.calibration.record",
        "Calibration": "pruninfersim.calibration.record",
        "Residuals": "pruninfersim.calibration.record",
        "calibrate": "pruninfersim.calibration.fit",
        "fit_kernel": "pruninfersim.calibration.fit",
        "read_timings": "pruninfersim.calibration.timings",
    },
)

__dir__ = shows(__all__)
