"""Builds the compiled parts of the package, each `.c` file in it, where there is a C compiler.

Without one the package does the same in Python.
"""

import os
import shlex
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = Path("proxy/asynq_ttl")


class CompileParts(BuildHookInterface[Any]):
    """Compiles each C file with the compiler that `CC` names, or that Python itself was built with."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - the interface has it
        """Compile, and add what comes out to the wheel (an editable install finds it beside its source)."""
        if self.target_name != "wheel":
            return
        for found in sorted(Path(self.root, PACKAGE).rglob("*.c")):
            source = found.relative_to(self.root)
            program = source.with_suffix(sysconfig.get_config_var("EXT_SUFFIX"))
            if self._compile(source, program):
                build_data["force_include"][str(Path(self.root, program))] = str(program.relative_to("proxy"))
                build_data["pure_python"] = False
                build_data["infer_tag"] = True

    def _compile(self, source: Path, program: Path) -> bool:
        compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
        include = f"-I{sysconfig.get_path('include')}"
        command = [*compiler, "-O2", "-fPIC", "-shared", include, str(source), "-o", str(program)]
        try:
            subprocess.run(command, cwd=self.root, check=True, capture_output=True, text=True)  # noqa: S603 - the user's own compiler
        except (OSError, subprocess.CalledProcessError) as error:
            detail = getattr(error, "stderr", "") or str(error)
            self.app.display_warning(f"{source} is not compiled, asynq-ttl does without it, more slowly: {detail}")
            return False
        return True
