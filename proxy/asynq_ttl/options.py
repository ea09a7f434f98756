"""What every command shares: how options are declared, what they can be, and how to end. Quick to import."""

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import click

from asynq_ttl.address import Address, AddressError, parse_address
from asynq_ttl.sink import SinkAddress, parse_sink

# Exit statuses; 0 is done.
FAILED, WRONG = 1, 2

Command = TypeVar("Command", bound=Callable[..., Any])


def option(*names: str, **attributes: Any) -> Callable[[Command], Command]:  # noqa: ANN401 - click's own types
    """Declare an option that is also ASYNQ_TTL_<OPTION> in the environment."""
    variable = "ASYNQ_TTL_" + names[0].removeprefix("--").replace("-", "_").upper()
    return click.option(*names, envvar=variable, show_envvar=True, show_default=True, **attributes)


class Listen(click.ParamType[Address]):
    """An address to listen at or to connect to."""

    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Address:  # noqa: ANN401 - click's signature
        """Return the address that was typed."""
        if isinstance(value, Address):
            return value
        try:
            return parse_address(value)
        except AddressError as error:
            self.fail(str(error), param, ctx)


class SinkType(click.ParamType[SinkAddress]):
    """A sink: a file or a webhook."""

    name = "sink"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> SinkAddress:  # noqa: ANN401 - click's signature
        """Return where the sink is."""
        if isinstance(value, SinkAddress):
            return value
        try:
            return parse_sink(value)
        except ValueError as error:
            self.fail(f"{value!r}: {error}", param, ctx)


def fail(message: str, status: int = FAILED) -> NoReturn:
    """End with one line on standard error and a status."""
    click.echo(message, err=True)
    raise SystemExit(status)
