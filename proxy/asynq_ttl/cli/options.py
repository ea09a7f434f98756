"""What every command shares: how options are declared, what they can be, and how to end. Quick to import."""

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import click

from asynq_ttl.net.address import Address, parse_address
from asynq_ttl.sweep.sink import SinkAddress, parse_sink

# Exit statuses; 0 is done.
FAILED, WRONG = 1, 2

Command = TypeVar("Command", bound=Callable[..., Any])
Value = TypeVar("Value")


def option(*names: str, **attributes: Any) -> Callable[[Command], Command]:  # noqa: ANN401 - click's own types
    """Declare an option that is also ASYNQ_TTL_<OPTION> in the environment."""
    variable = "ASYNQ_TTL_" + names[0].removeprefix("--").replace("-", "_").upper()
    return click.option(*names, envvar=variable, show_envvar=True, show_default=True, **attributes)


class Parsed(click.ParamType[Value]):
    """What is typed, read by a function that raises ValueError with the fault."""

    kind: type[Value]
    """What it becomes; what is that already, such as a default, stays as it is."""
    parse: Callable[[str], Value]
    quotes: bool = False
    """Whether a fault is told with what was typed."""

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


class SinkType(Parsed[SinkAddress]):
    """A sink: a file or a webhook."""

    name = "sink"
    kind = SinkAddress
    parse = staticmethod(parse_sink)
    quotes = True


def fail(message: str, status: int = FAILED) -> NoReturn:
    """End with one line on standard error and a status."""
    click.echo(message, err=True)
    raise SystemExit(status)
