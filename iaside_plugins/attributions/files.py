"""Saved agreement reports that are to stand beside another one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from iaside_plugins.attributions.agreement import AgreementReport
from iaside_plugins.errors import InputError
from iaside_plugins.protocol import Protocol


def load_reports(paths: Iterable[Path | str], protocol: Protocol) -> list[AgreementReport]:
    """Saved reports that can stand beside one of such a protocol.

    Raises:
        InputError: As `AgreementReport.load`, or for other bands.
    """
    reports = []
    for path in paths:
        reports.append(AgreementReport.load(path))
        found = reports[-1].protocol
        if (found.n_bands, found.band_norm) != (protocol.n_bands, protocol.band_norm):
            raise InputError(
                f"{path} has {found.n_bands} {found.band_norm} bands, this comparison "
                f"{protocol.n_bands} {protocol.band_norm} ones"
            )
    return reports


def by_model(reports: Iterable[AgreementReport]) -> dict[str, AgreementReport]:
    """Reports by the name of their model; a name that came before gets a number."""
    named: dict[str, AgreementReport] = {}
    for report in reports:
        name = str(report.info["model"].get("name", "model"))
        number = sum(other.split(" #")[0] == name for other in named) + 1
        named[name if number == 1 else f"{name} #{number}"] = report
    return named
