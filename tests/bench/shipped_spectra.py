"""Make the spectra that are shipped: the 15 corruptions at five severities, ring by ring.

    python tests/bench/shipped_spectra.py SIZE IMAGES [--images N] [--out FILE]

SIZE is 32 or 224 pixels, IMAGES a folder of class folders: CIFAR-10 images, or photographs, which
are resized to 256 and cropped to 224. As many bands as there are rings of whole cycles, so that any
number of chebyshev bands is an exact sum of them. Seed 0; --images takes so many, seeded.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from iaside_plugins.spectra.report import SpectrumReport
from iaside_plugins.spectra.stored import SHIPPED, save_spectra
from iaside_plugins.spectral.partition import SpectralPartition
from iaside_plugins.storage.provenance import provenance
from iaside_plugins.value_table.progress import Progress
from iaside_plugins.workflows.source import DataSource
from iaside_plugins.workflows.spectrum import CorruptionSpectra
from iaside_plugins.workflows.spectrum_plan import spectrum_plan


def main(arguments: list[str] | None = None) -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("size", type=int, help="32 or 224")
    parser.add_argument("data", type=Path, help="folder of class folders")
    parser.add_argument("--images", type=int)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    plan = spectrum_plan(DataSource(options.data, n_images=options.images), None)
    assert plan.corruptions is not None
    partition = SpectralPartition(options.size // 2)
    spectra = CorruptionSpectra(plan, plan.corruptions, partition, None, None)
    channels, height, width = spectra.shape
    assert (height, width) == (options.size, options.size)
    with Progress(None, True) as bar:
        conditions = tuple(
            spectra.condition(name, severity, bar)
            for name in plan.corruptions.names
            for severity in plan.severities
        )
    report = SpectrumReport(conditions, partition, (height, width), channels, None, {"model": None})
    command = f"python tests/bench/shipped_spectra.py {options.size} {options.data.name}"
    if options.images is not None:
        command += f" --images {options.images}"
    info = {
        "images": options.data.resolve().name,
        "command": command,
        "corruptions": dict(plan.corruptions.settings),
        "provenance": provenance("cpu"),
    }
    save_spectra(options.out or SHIPPED / f"{options.size}.json", report.stored(), info)


if __name__ == "__main__":
    main()
