"""What commands share: how options are declared, what they can be, and how to end with a failure.

`ready` and `drain` import it every few seconds beside a busy worker: nothing here costs time to import.
"""

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from asynq_ttl.cli.standard_output import tell
from asynq_ttl.net.address import Address, parse_address

# Exit statuses: what was asked for failed, or was asked for wrongly. 0 is done.
FAILED, WRONG = 1, 2

Command = TypeVar("Command", bound=Callable[..., Any])
Value = TypeVar("Value")


def option(*names: str, **attributes: Any) -> Callable[[Command], Command]:  # noqa: ANN401 - click's own types
    """Declare an option that is also ASYNQ_TTL_<OPTION> in the environment."""
    variable = "ASYNQ_TTL_" + names[0].removeprefix("--").replace("-", "_").upper()
    return click.option(*names, envvar=variable, show_envvar=True, show_default=True, **attributes)


class Parsed(click.ParamType[Value]):
    """The type of an option whose text is read by a function, which raises ValueError for what it cannot read."""

    kind: type[Value]
    """The type of the value. A default that is one already stays as it is."""
    parse: Callable[[str], Value]
    """Reads the text."""
    quotes: bool = False
    """Whether the error repeats what was typed."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Value:  # noqa: ANN401 - click's signature
        """Return what the typed text means."""
        if isinstance(value, self.kind):
            return value
        try:
            return self.parse(value)
        except ValueError as error:
            self.fail(f"{value!r}: {error}" if self.quotes else str(error), param, ctx)


class Listen(Parsed[Address]):
    """An address to listen at or to connect to."""

    name = "address"
    kind = Address
    parse = staticmethod(parse_address)


class Choice(click.Choice[str]):
    """One of several words, in any case. `warn` is `warning` where that is one of them."""

    def __init__(self, choices: Iterable[str]) -> None:
        super().__init__(list(choices), case_sensitive=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ANN401 - click's signature
        """Return the word as it is listed."""
        word = str(value).strip()
        if word.lower() == "warn" and "warning" in self.choices:
            word = "warning"
        return super().convert(word, param, ctx)


class FilePath(click.Path):
    """The path of a file. An empty one, as of a variable that is not set, would be the current folder.

    Args:
        dir_okay: whether it may be a folder.
        allow_dash: whether `-` is standard input or output; elsewhere it would become the name of a file.
    """

    def __init__(self, *, dir_okay: bool = True, allow_dash: bool = False) -> None:
        super().__init__(dir_okay=dir_okay, allow_dash=allow_dash, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401 - click's signature
        """Return the path."""
        if value == "":
            self.fail("a path is empty: name a file, or leave the option out", param, ctx)
        if value == "-" and not self.allow_dash:
            self.fail("`-` is no file here: name a file (`./-` is one), or leave the option out", param, ctx)
        return super().convert(value, param, ctx)


class Amount(click.FloatRange):
    """A number from 0 to a milliard, such as seconds; what is no number (`nan`) is none either."""

    def __init__(self) -> None:
        super().__init__(min=0, max=1e9)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: ANN401 - click's signature
        """Return the number."""
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value!r} is no number", param, ctx)
        return number


def admin_option(command: Command) -> Command:
    """Add the option that says which sidecar is asked."""
    text = "Where the sidecar's admin server listens: HOST:PORT or unix:PATH."
    return option("--admin", type=Listen(), default="127.0.0.1:9180", help=text)(command)


def fail(message: str, status: int = FAILED) -> NoReturn:
    """End with one line on standard error and a status."""
    tell(message)
    raise SystemExit(status)
