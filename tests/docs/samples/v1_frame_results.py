@dataclass(frozen=True)
class ContinueValue:
    value: Any
    env: Environment
    store: Store
    k: Kontinuation

@dataclass(frozen=True)
class ContinueProgram:
    program: ProgramLike
    env: Environment
    store: Store
    k: Kontinuation

@dataclass(frozen=True)
class ContinueError:
    error: BaseException
    env: Environment
    store: Store
    k: Kontinuation

@dataclass(frozen=True)
class ContinueGenerator:
    generator: Generator[Any, Any, Any]
    send_value: Any | None
    throw_error: BaseException | None
    env: Environment
    store: Store
    k: Kontinuation
    program_call: KleisliProgramCall | None = None
