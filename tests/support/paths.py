"""Where the parts of the project are."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "proxy" / "asynq_ttl"
DEPLOY = ROOT / "deploy"
DOCS = ROOT / "docs"
LUA = PACKAGE / "lua"
