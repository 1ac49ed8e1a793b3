"""The results of a group: its runs by setting, the lowest mean of their final losses first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shared.library.groups import SEED, Member, Ranked, rank, reward_of, setting_of
from shared.library.groups import results_of as compared
from shared.run.records import RunState
from trainer.config.resolve import Settings
from trainer.sweep.axes import short_names
from trainer.sweep.groups import Grouped


@dataclass(frozen=True)
class Results:
    """`metric` is what is compared: rewards, validation losses, or training losses.

    `keys` are what is swept, the seed last.
    """

    group: str
    metric: str
    keys: tuple[str, ...]
    settings: tuple[Ranked, ...]
    states: Mapping[str, RunState]

    @property
    def seed(self) -> str:
        """The key of the seed."""
        return SEED

    @property
    def titles(self) -> list[str]:
        """A short heading for each key."""
        short = short_names(self.keys)
        return [short[key] for key in self.keys]

    @property
    def has_seeds(self) -> bool:
        """Whether settings were tried with several seeds."""
        return any(len(ranked.results) > 1 for ranked in self.settings)

    def swept(self, run_id: str) -> Settings:
        """What is swept with the values of a run; None where it has none."""
        return {key: self.states[run_id].swept.get(key) for key in self.keys}


def results_of(group: str, members: Sequence[Grouped], statuses: Mapping[str, str]) -> Results:
    """The results of a group. `statuses` are what its runs are seen to be, by id."""
    states = {member.run.run_id: member.state for member in members}
    keys = dict.fromkeys(key for state in states.values() for key in state.swept)
    ordered = [key for key in keys if key != SEED] + [key for key in keys if key == SEED]
    metric, found = compared(
        Member(
            run_id,
            setting_of(state.swept),
            state.val_loss,
            state.current_loss,
            completed=statuses[run_id] == "completed",
            reward=reward_of(state.best_metric, state.best_loss),
        )
        for run_id, state in states.items()
    )
    return Results(group, metric, tuple(ordered), tuple(rank(found, metric)), states)
