@dataclass(frozen=True)
class AwaitEffect(EffectBase):
    awaitable: Awaitable[Any]
