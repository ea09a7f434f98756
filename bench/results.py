"""The folder of results: JSON files, one for each part, that measurements add to and the report is made from."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from comparison import Sample
from script_cost import Cost


class Results:
    """What has been measured so far, in a folder.

    `comparison.json` has the samples and the environment, `scripts.json` the cost of each script by server,
    `refusals.json` what twemproxy answers.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def samples(self) -> list[Sample]:
        """All samples of all runs."""
        return [Sample(**sample) for sample in self._read("comparison").get("samples", [])]

    @property
    def environment(self) -> dict[str, Any]:
        """The environment of the last comparison."""
        return dict(self._read("comparison").get("environment", {}))

    @property
    def costs(self) -> dict[str, list[Cost]]:
        """The scripts' costs by server."""
        return {server: [Cost(**cost) for cost in costs] for server, costs in self._read("scripts").items()}

    @property
    def refusals(self) -> list[list[str]]:
        """What twemproxy answers: pairs of a command and the reply."""
        return list(self._read("refusals").get("replies", []))

    def add_samples(self, samples: list[Sample], environment: dict[str, Any]) -> None:
        """Keep more samples; those of the same loads and contestants from earlier runs are replaced."""
        again = {(sample.load, sample.contestant) for sample in samples}
        kept = [sample for sample in self.samples if (sample.load, sample.contestant) not in again]
        rows = [asdict(sample) for sample in (*kept, *samples)]
        self._write("comparison", {"environment": environment, "samples": rows})

    def add_costs(self, server: str, costs: list[Cost]) -> None:
        """Keep the scripts' costs on a server."""
        self._write("scripts", {**self._read("scripts"), server: [asdict(cost) for cost in costs]})

    def add_refusals(self, replies: list[tuple[str, str]]) -> None:
        """Keep what twemproxy answers."""
        self._write("refusals", {"replies": replies})

    def _read(self, part: str) -> dict[str, Any]:
        file = self.folder / f"{part}.json"
        return dict(json.loads(file.read_text())) if file.exists() else {}

    def _write(self, part: str, content: dict[str, Any]) -> None:
        (self.folder / f"{part}.json").write_text(json.dumps(content, indent=1) + "\n")
