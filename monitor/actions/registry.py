"""The one list of keys: bindings, footer, help and command palette are made from it."""

from __future__ import annotations

from dataclasses import dataclass

#: The groups of actions on the selected run, other actions on it, and the exceptions.
_OF_A_RUN = frozenset({"Charts", "Steer", "Keep"})
_ON_A_RUN = frozenset({"mark", "mark_group", "compare"})
_OF_NO_RUN = frozenset({"undo"})
_ONLY_OURS = frozenset({"Steer", "Keep"})


@dataclass(frozen=True)
class Action:
    """`keys` (Textual names) do what the app's controller of `name` does.

    `shown` is the key as displayed, `label` the word in the footer (empty: not in the footer).
    """

    name: str
    keys: tuple[str, ...]
    shown: str
    label: str
    help: str
    group: str

    @property
    def words(self) -> str:
        """What the command palette finds it by: its words in the footer and in the help."""
        known = self.help.casefold()
        names = [self.label, self.name.replace("_", " ")]
        unsaid = (name for name in names if any(word not in known for word in name.split()))
        first = next(unsaid, "")
        return f"{first}: {self.help}" if first else self.help

    @property
    def needs_run(self) -> bool:
        """Whether it acts on a run, so that there must be one in the list."""
        if self.name in _ON_A_RUN:
            return True
        return self.group in _OF_A_RUN and self.name not in _OF_NO_RUN

    @property
    def writes(self) -> bool:
        """Whether it needs a run directory, to write into it or for what is only there."""
        return self.group in _ONLY_OURS and self.name not in _OF_NO_RUN

    @property
    def call(self) -> str:
        """The action as Textual runs it, on the app."""
        return f"act({self.name!r})"


ACTIONS: tuple[Action, ...] = (
    Action("next_run", ("j", "down"), "j ↓", "", "select the next run, or move down", "Move"),
    Action("previous_run", ("k", "up"), "k ↑", "", "select the previous run, or move up", "Move"),
    Action("first_run", ("g", "home"), "g Home", "", "go to the first run, or to the top", "Move"),
    Action("last_run", ("G", "end"), "G End", "", "go to the last run, or to the end", "Move"),
    Action("pages_up", ("pageup",), "PgUp", "", "scroll up by one screen", "Move"),
    Action("pages_down", ("pagedown",), "PgDn", "", "scroll down by one screen", "Move"),
    Action("switch_pane", ("tab", "shift+tab"), "Tab", "", "switch between list and page", "Move"),
    Action("open", ("enter",), "Enter", "", "open the run's page, or a single chart", "Move"),
    Action("leave", ("escape",), "Esc", "", "go back: leave a chart, page or filter", "Move"),
    Action("page_overview", ("1",), "1", "", "page: overview", "Pages"),
    Action("page_charts", ("2",), "2", "", "page: charts of every metric", "Pages"),
    Action("page_dynamics", ("3",), "3", "", "page: dynamics (slope, gap, gradient norm)", "Pages"),
    Action("page_checkpoints", ("4",), "4", "", "page: checkpoints", "Pages"),
    Action("page_events", ("5",), "5", "", "page: events", "Pages"),
    Action("page_log", ("6",), "6", "", "page: log", "Pages"),
    Action("page_config", ("7",), "7", "", "page: configuration", "Pages"),
    Action("page_samples", ("8",), "8", "", "page: text samples", "Pages"),
    Action("page_table", ("9",), "9", "", "table of all runs: columns, sorting, CSV", "Pages"),
    Action("columns", ("w",), "w", "", "choose which columns the table has", "Pages"),
    Action("details", ("d",), "d", "details", "show or hide the details of the run", "Pages"),
    Action("machine", ("m",), "m", "", "show or hide GPU, processor, memory, disk", "Pages"),
    Action("filter", ("slash",), "/", "filter", "filter runs or metrics: words, /regex/", "List"),
    Action("run_list", ("H",), "H", "", "hide or show the run list", "List"),
    Action("sort", ("o",), "o", "", "sort: by the next column; the table by its column", "List"),
    Action("group", ("O",), "O", "", "group runs by sweep or name", "List"),
    Action("archived", ("A",), "A", "", "show or hide archived runs", "List"),
    Action("mark", ("space",), "Space", "", "mark a run to overlay, a checkpoint to prune", "List"),
    Action(
        "mark_group", ("B",), "B", "", "overlay the runs of a sweep, the best of them first", "List"
    ),
    Action("compare", ("C",), "C", "", "compare the configurations of two marked runs", "List"),
    Action("zoom_in", ("plus", "equals_sign"), "+", "", "zoom in, around the crosshair", "Charts"),
    Action("zoom_out", ("minus",), "-", "", "zoom out", "Charts"),
    Action("pan_left", ("left",), "←", "", "pan left, or go to the chart on the left", "Charts"),
    Action(
        "pan_right", ("right",), "→", "", "pan right, or go to the chart on the right", "Charts"
    ),
    Action("zoom_reset", ("0",), "0", "", "show the whole range", "Charts"),
    Action("log_y", ("l",), "l", "", "toggle log scale of the y axis", "Charts"),
    Action("log_x", ("L",), "L", "", "toggle log scale of the x axis", "Charts"),
    Action("x_axis", ("x",), "x", "", "switch x axis: steps, time, tokens", "Charts"),
    Action("choose_x", ("X",), "X", "", "choose the x axis: any metric", "Charts"),
    Action("find_metric", ("J",), "J", "", "jump to a metric by name", "Charts"),
    Action("main_metric", ("M",), "M", "", "choose the main metric", "Charts"),
    Action("chart_size", ("z",), "z", "", "chart size in the grid: large to tiny", "Charts"),
    Action("fold", ("f",), "f", "", "fold or unfold a group of metrics", "Charts"),
    Action("fold_all", ("F",), "F", "", "fold or unfold all groups of metrics", "Charts"),
    Action("smooth_more", ("right_square_bracket",), "]", "", "smooth more", "Charts"),
    Action("smooth_less", ("left_square_bracket",), "[", "", "smooth less", "Charts"),
    Action("crosshair_left", ("comma",), ",", "", "move crosshair left", "Charts"),
    Action("crosshair_right", ("full_stop",), ".", "", "move crosshair right", "Charts"),
    Action(
        "crosshair_far_left",
        ("less_than_sign",),
        "<",
        "",
        "move crosshair ten columns left",
        "Charts",
    ),
    Action(
        "crosshair_far_right",
        ("greater_than_sign",),
        ">",
        "",
        "move crosshair ten columns right",
        "Charts",
    ),
    Action(
        "previous_mark",
        ("left_curly_bracket",),
        "{",
        "",
        "move crosshair to the previous mark",
        "Charts",
    ),
    Action(
        "next_mark", ("right_curly_bracket",), "}", "", "move crosshair to the next mark", "Charts"
    ),
    Action("pause", ("p",), "p", "pause", "pause or continue the run", "Steer"),
    Action("checkpoint", ("c",), "c", "save", "save a checkpoint now", "Steer"),
    Action("stop", ("s",), "s", "stop", "save and stop the run (asks first)", "Steer"),
    Action("resume", ("R",), "R", "resume", "resume a crashed or stopped run", "Steer"),
    Action("prune", ("P",), "P", "prune", "prune checkpoints (with a preview)", "Keep"),
    Action("upload", ("u",), "u", "upload", "upload a checkpoint to the Hugging Face Hub", "Keep"),
    Action("verify", ("v",), "v", "", "verify the checksums of a checkpoint", "Keep"),
    Action("export", ("e",), "e", "", "export the chart, the data, the page or the table", "Keep"),
    Action("tag", ("t",), "t", "", "tag the run", "Keep"),
    Action("note", ("n",), "n", "", "write a note about the run", "Keep"),
    Action("rename", ("N",), "N", "", "rename: show the run under another name", "Keep"),
    Action("archive", ("a",), "a", "", "archive or unarchive the run", "Keep"),
    Action("delete", ("D",), "D", "", "delete: move the run to the trash (asks first)", "Keep"),
    Action("undo", ("U",), "U", "", "undo: restore pruned checkpoints or deleted runs", "Keep"),
    Action("copy_command", ("y",), "y", "", "copy the command that repeats the run", "Keep"),
    Action("refresh", ("r",), "r", "", "refresh: reload everything now", "Leave"),
    Action("theme", ("T",), "T", "", "next theme: dark, light, colour-blind safe", "Leave"),
    Action(
        "command_palette",
        ("ctrl+p",),
        "^p",
        "",
        "command palette: find an action or a run",
        "Leave",
    ),
    Action("suspend", ("ctrl+z",), "^z", "", "suspend; `fg` in the shell comes back", "Leave"),
    Action("help", ("question_mark",), "?", "help", "show or hide this help", "Leave"),
    Action("quit", ("q", "ctrl+c"), "q", "quit", "quit (exit); training continues", "Leave"),
)
