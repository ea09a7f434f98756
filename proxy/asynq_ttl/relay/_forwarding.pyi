from asynq_ttl.events import Decision, Outcome

def install(
    classes: tuple[type, ...],
    no_pause: object,
    special: frozenset[bytes],
    turn_bytes: int,
    decision: type[Decision],
    outcome: type[Outcome],
    /,
) -> None: ...
def install_routed(classes: tuple[type, ...], unusual: frozenset[bytes], /) -> None: ...
