"""The machine in a few lines: GPUs, processor, memory, disk. Unavailable figures are left out."""

from __future__ import annotations

import textwrap

from rich.cells import cell_len
from textual.geometry import Size
from textual.strip import Strip

from monitor.data.machine import GpuView, MachineView
from monitor.palette import Colours
from monitor.widgets.cells import Piece, bar, fit, line
from monitor.widgets.panel import Panel
from shared.text import format_bytes, plural

Line = list[Piece]
_WIDE = 60  # columns from which there is room for long bars
_LABELS = 15  # cells of a name and a percentage
_ALMOST = 0.9  # a share from which something is nearly full
_HOT = 84  # °C


class MachinePanel(Panel):
    """A heading with the host, one line for each GPU, processor, memory, disk."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._machine: MachineView | None = None
        self._elsewhere: tuple[tuple[str, str], ...] = ()
        self._tight = False

    def show(
        self,
        machine: MachineView | None,
        elsewhere: tuple[tuple[str, str], ...],
        *,
        tight: bool = False,
    ) -> None:
        """Show this machine; `elsewhere` are other hosts and a summary of their runs.

        `tight`: in as few lines as may be.
        """
        if (machine, elsewhere, tight) == (self._machine, self._elsewhere, self._tight):
            return
        before = self._count()
        self._machine, self._elsewhere, self._tight = machine, elsewhere, tight
        if self._count() != before:
            self.refresh(layout=True)
        self.redraw()

    def _count(self) -> int:
        return 1 + max(1, len(self._lines(80, self.colours))) if self.is_mounted else 1

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """One line per part; CSS limits the height."""
        return self._count()

    def draw(self, width: int, height: int) -> list[Strip]:
        """The heading and the lines."""
        colours = self.colours
        muted = colours.style("muted")
        host = self._machine.host if self._machine else ""
        heading: Line = [(" machine", muted), (f"  {host}", colours.style("foreground"))]
        strips = [line(heading, width, self.base + self.heading_style())]
        lines = self._lines(width, colours) or [[(" No figures yet.", muted)]]
        return [*strips, *[line(x, width, self.base) for x in lines[: max(0, height - 1)]]]

    def _lines(self, width: int, colours: Colours) -> list[Line]:
        machine = self._machine
        if machine is None:
            return []
        if machine.unknown:
            words = textwrap.wrap(machine.unknown, width - 2)
            why: list[Line] = [[(f" {x}", colours.style("muted"))] for x in words]
            return [*why, *_others(self._elsewhere, colours)]
        if self._tight:
            return _tight(machine, self._elsewhere, colours)
        lines = [x for gpu in machine.gpus for x in _gpu(gpu, width, colours)]
        use, disk = machine.host_use, machine.disk
        if use.cpu is not None:
            cores = plural(use.cores, "core") if use.cores else ""
            lines.append(_row("CPU", use.cpu, cores, width, colours, alarming=False))
        if use.ram_used is not None and use.ram_total:
            share = use.ram_used / use.ram_total
            told = f"{format_bytes(use.ram_used)} of {format_bytes(use.ram_total)}"
            lines.append(_row("RAM", share, told, width, colours))
        if disk.free is not None and disk.total:
            share = 1 - disk.free / disk.total
            told = f"{format_bytes(disk.free)} free"
            lines.append(_row("disk", share, told, width, colours))
        return [*lines, *_others(self._elsewhere, colours)]


def _others(elsewhere: tuple[tuple[str, str], ...], colours: Colours) -> list[Line]:
    """A line for each other host with runs."""
    muted, text = colours.style("muted"), colours.style("foreground")
    return [[(f" {host}", text), (f"  {told}", muted)] for host, told in elsewhere]


def _tight(
    machine: MachineView, elsewhere: tuple[tuple[str, str], ...], colours: Colours
) -> list[Line]:
    """A line for each GPU, one for everything else, one for other hosts."""
    muted, text = colours.style("muted"), colours.style("foreground")
    lines: list[Line] = []
    for gpu in machine.gpus:
        pieces: Line = [(" " + fit(f"GPU {gpu.index}", 7), muted)]
        if gpu.use is not None:
            pieces += bar(
                min(max(gpu.use, 0.0), 1.0), 8, colours.style("good"), colours.style("faint")
            )
            pieces.append((f" {gpu.use:4.0%}", text))
        if gpu.memory_used is not None and gpu.memory_total:
            told = f"{format_bytes(gpu.memory_used)} of {format_bytes(gpu.memory_total)}"
            full = gpu.memory_used / gpu.memory_total >= _ALMOST
            pieces += [("  mem ", muted), (told, colours.style("warning") if full else text)]
        lines.append([*pieces, ("  ", muted), *_heat(gpu, colours)])
    use, disk = machine.host_use, machine.disk
    facts: Line = []
    if use.cpu is not None:
        facts += [(" CPU ", muted), (f"{use.cpu:.0%} ", text)]
    if use.ram_used is not None and use.ram_total:
        told = f"{format_bytes(use.ram_used)} of {format_bytes(use.ram_total)} "
        facts += [(" RAM ", muted), (told, text)]
    if disk.free is not None and disk.total:
        full = 1 - disk.free / disk.total >= _ALMOST
        facts += [
            (" disk ", muted),
            (format_bytes(disk.free), colours.style("warning") if full else text),
        ]
        facts.append((" free", muted))
    if facts:
        lines.append(facts)
    if elsewhere:
        lines.append([(" " + " · ".join(f"{host} {told}" for host, told in elsewhere), muted)])
    return lines


def _heat(gpu: GpuView, colours: Colours) -> Line:
    """Temperature, power and name, as far as the driver reports them."""
    muted, warning = colours.style("muted"), colours.style("warning", bold=True)
    more: Line = []
    if gpu.temperature is not None:
        hot = gpu.temperature >= _HOT
        more.append((f"{gpu.temperature:.0f} °C  ", warning if hot else muted))
    if gpu.power is not None:
        limit = f" of {gpu.power_limit:.0f}" if gpu.power_limit else ""
        more.append((f"{gpu.power:.0f}{limit} W  ", muted))
    return [*more, (gpu.name, muted)]


def _gpu(gpu: GpuView, width: int, colours: Colours) -> list[Line]:
    """Use with temperature and power, then memory, as far as the driver reports them."""
    muted, more = colours.style("muted"), _heat(gpu, colours)
    lines: list[Line] = []
    name = f"GPU {gpu.index}"
    if gpu.use is not None:
        row = _row(name, gpu.use, "", width, colours, alarming=False)
        lines.append([*row, *more])
    else:
        lines.append([(" " + fit(name, 7), muted), *more])
    if gpu.memory_used is not None and gpu.memory_total:
        share = gpu.memory_used / gpu.memory_total
        told = f"{format_bytes(gpu.memory_used)} of {format_bytes(gpu.memory_total)}"
        lines.append(_row("  mem", share, told, width, colours))
    return lines


def _row(
    name: str, share: float, told: str, width: int, colours: Colours, *, alarming: bool = True
) -> Line:
    """Name, bar, percent, words."""
    full = colours.style("warning" if alarming and share >= _ALMOST else "good")
    pieces: Line = [(" " + fit(name, 7), colours.style("muted"))]
    length = 16 if width >= _WIDE else max(4, min(8, width - _LABELS - cell_len(told)))
    pieces += bar(min(1.0, max(0.0, share)), length, full, colours.style("faint"))
    pieces.append((f" {share:4.0%}  ", colours.style("foreground")))
    pieces.append((told, colours.style("muted")))
    return pieces
