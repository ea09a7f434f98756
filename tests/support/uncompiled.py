"""A module as it is where there was no C compiler."""

import importlib.util
import sys
from types import ModuleType

import pytest


def uncompiled(module: ModuleType, part: str) -> ModuleType:
    """Load a module once more, without a compiled part.

    Args:
        module: the module.
        part: the name of the part, such as `asynq_ttl.wire._resp`.
    """
    spec = importlib.util.spec_from_file_location(f"uncompiled_{module.__name__.rpartition('.')[2]}", module.__file__)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, part, None)
        spec.loader.exec_module(loaded)
    return loaded
