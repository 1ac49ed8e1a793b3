"""User settings, kept in a file between sessions.

`$XDG_CONFIG_HOME/train-monitor/settings.yaml`, by default under `~/.config`. An invalid file is
reported and left alone.
"""

from __future__ import annotations

import dataclasses
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.files import open_file, replace_file
from shared.text import nearest, one_line

MAX_BYTES = 64 << 10
SORTS = ("activity", "newest", "name", "progress", "loss", "best")
THEMES = ("night", "day", "clear")
AXES = ("step", "relative", "time", "training", "tokens", "metric")
#: How large charts are in the grid.
CHART_SIZES = ("large", "medium", "small", "tiny")
_CHOICES = {"theme": THEMES, "sort": SORTS, "x_axis": AXES, "chart_size": CHART_SIZES}
_METRICS = ("log_y", "folded")
_NAMES = ("main_metric", "x_metric")
_HEADER = "# The settings of train-monitor. Edit freely; keys such as T, o, x and M do so too.\n"


@dataclass(frozen=True)
class Settings:
    """The settings. `smoothing` is a weight from 0 to 0.999."""

    theme: str = "night"
    sort: str = "activity"
    group: bool = False
    show_archived: bool = False
    smoothing: float = 0.0
    x_axis: str = "step"
    #: Metrics with a logarithmic scale.
    log_y: tuple[str, ...] = ()
    #: The columns of the table of runs, such as `config:optim.learning_rate` and `min:val_loss`;
    #: none: the usual ones. `table_sort` is one of them, or `name`.
    columns: tuple[str, ...] = ()
    table_sort: str = ""
    table_descending: bool = False
    #: Whether panes are shown; None: if there is room.
    machine: bool | None = None
    details: bool | None = None
    #: Whether the list of runs is shown.
    run_list: bool = True
    #: The metric to show first; empty: the loss, or what takes its place.
    main_metric: str = ""
    #: The metric on the x axis where `x_axis` is "metric".
    x_metric: str = ""
    chart_size: str = "medium"
    #: Groups of metrics of which only the heading is shown.
    folded: tuple[str, ...] = ()


def settings_path(environment: Mapping[str, str]) -> Path | None:
    """The path of the file; None without a home directory."""
    configured = environment.get("XDG_CONFIG_HOME", "")
    # The XDG specification has relative paths ignored.
    if configured.startswith("/"):
        return Path(configured) / "train-monitor" / "settings.yaml"
    home = environment.get("HOME", "")
    return Path(home) / ".config" / "train-monitor" / "settings.yaml" if home else None


class SettingsFile:
    """The file, read once. `problem` says what is wrong with it, if anything.

    `settings` are the current ones; `save` writes them.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._kept: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._writable = path is not None
        self.settings = self._saved = Settings()
        self.problem = ""
        if path is not None:
            self._read(path)

    def _read(self, path: Path) -> None:
        import yaml

        from shared.yaml_text import DuplicateKeyError, load_yaml

        shown = one_line(path)
        try:
            with open_file(path) as file:
                raw = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            return
        except OSError as error:
            self._give_up(f"{shown} cannot be read ({error.strerror}); the defaults are used.")
            return
        try:
            value = load_yaml(raw.decode()) if len(raw) <= MAX_BYTES else raw
        except DuplicateKeyError as error:
            self._give_up(
                f"{shown}: {error.problem}; the defaults are used and the file is left alone."
            )
            return
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            mark = getattr(error, "problem_mark", None)
            where = f" (line {mark.line + 1})" if mark else ""
            self._give_up(
                f"{shown} is not YAML{where}; the defaults are used and the file is left alone."
            )
            return
        if value is None:
            return
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            self._give_up(
                f"{shown} contains no settings; the defaults are used and the file is left alone."
            )
            return
        self._kept = value
        self._saved, problems = _parsed(value)
        self.settings = self._saved
        if problems:
            self.problem = f"{shown}: {problems[0]}"

    def _give_up(self, problem: str) -> None:
        self.problem, self._writable = problem, False

    def save(self) -> str:
        """Write what differs from the file; returns a message if that fails.

        Unknown keys are kept. An invalid file is never overwritten.
        """
        import yaml

        with self._lock:
            settings = self.settings
            changed = {
                f.name: _plain(getattr(settings, f.name))
                for f in dataclasses.fields(settings)
                if getattr(settings, f.name) != getattr(self._saved, f.name)
            }
            if not changed or not self._writable or self._path is None:
                return ""
            kept = {**self._kept, **changed}
            text = _HEADER + yaml.safe_dump(kept, sort_keys=False, allow_unicode=True)
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                # Symlinks are followed: dotfiles are often links into a repository.
                replace_file(self._path.resolve(), text.encode())
            except OSError as error:
                self._writable = False
                return f"{one_line(self._path)} cannot be written: {error.strerror}."
            self._kept, self._saved = kept, settings
            return ""


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _parsed(value: Mapping[str, Any]) -> tuple[Settings, list[str]]:
    """The valid settings, and a message for each invalid one."""
    used: dict[str, Any] = {}
    problems: list[str] = []
    names = [f.name for f in dataclasses.fields(Settings)]
    for key, given in value.items():
        if key not in names:
            problems.append(f"there is no setting {one_line(key, 40)}{nearest(key, names)}.")
        elif (wanted := _wanted(key, given)) is None:
            used[key] = _used(key, given)
        else:
            problems.append(f"{key} cannot be {one_line(given, 40)}; {wanted}.")
    return Settings(**used), problems


def _used(key: str, given: Any) -> Any:
    if key == "smoothing":
        return float(given)
    return tuple(given) if key in (*_METRICS, "columns") else given


def _is_column(spec: object) -> bool:
    return isinstance(spec, str) and re.fullmatch(r"(run|config|last|min|max):.+", spec) is not None


def _wanted(key: str, given: object) -> str | None:
    """What `key` accepts, if `given` is invalid; otherwise None."""
    if key in _CHOICES:
        return None if given in _CHOICES[key] else "one of " + ", ".join(_CHOICES[key])
    if key == "smoothing":
        number = isinstance(given, (int, float)) and not isinstance(given, bool)
        return None if number and 0 <= given <= 0.999 else "a weight from 0 to 0.999"  # type: ignore[operator]
    if key in _METRICS:
        names = isinstance(given, list) and all(isinstance(name, str) for name in given)
        return None if names else "a list of metrics"
    if key in _NAMES:
        return None if isinstance(given, str) else "the name of a metric"
    if key == "columns":
        fits = isinstance(given, list) and all(_is_column(spec) for spec in given)
        return None if fits else "a list of columns such as config:optim.learning_rate"
    if key == "table_sort":
        fits = isinstance(given, str) and (given in ("", "name") or _is_column(given))
        return None if fits else "name, or a column such as min:val_loss"
    if key in ("machine", "details") and given is None:
        return None
    return None if isinstance(given, bool) else "true or false"
