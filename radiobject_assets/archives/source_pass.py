"""What one pass over an archive did and found, in numbers and in a sentence."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SourcePass:
    """What one pass over a source did and found; names nobody."""

    source: str
    studies: int = 0
    """That fit the query."""
    delivered: int = 0
    """That became an arrival in this pass, or a larger one."""
    fetched: int = 0
    """Instances that came."""
    duplicates: int = 0
    """Instances that came a second time."""
    settling: int = 0
    """Studies that are whole here, and may still grow there."""
    short: int = 0
    """Studies of which the archive announces more than it sent."""
    left: int = 0
    """Studies that the next pass works on."""
    withdrawn: int = 0
    """Instances that were delivered and that the archive no longer lists, of the studies looked into."""
    left_query: int = 0
    """Studies of which something waits here, and that the archive no longer lists."""
    examples: tuple[str, ...] = ()
    """Of the short ones: the numbers of some series."""
    problem: str = ""
    """What ended the pass early, or puts its result in doubt."""
    wait_s: float | None = None
    """Seconds until the first of the settling can be delivered."""

    @property
    def is_sound(self) -> bool:
        """Whether nothing is short or was lost sight of, and nothing went wrong."""
        return not self.short and not self.left_query and not self.problem

    def sentence(self) -> str:
        """All of it in one sentence."""
        parts = [f"source {self.source}: {self.studies} studies, {self.delivered} delivered"]
        parts += [f"{self.fetched} instances fetched"] if self.fetched else []
        parts += [f"{self.duplicates} came twice"] if self.duplicates else []
        parts += [f"{self.settling} may still grow"] if self.settling else []
        parts += [f"{self.short} short ({'; '.join(self.examples)})"] if self.short else []
        parts += [f"{self.left_query} left the query before they were whole"] if self.left_query else []
        parts += [f"{self.withdrawn} instances withdrawn by the archive, kept here"] if self.withdrawn else []
        parts += [f"{self.left} left for the next pass"] if self.left else []
        return ", ".join([*parts, *filter(None, [self.problem])])
