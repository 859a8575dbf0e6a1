"""Numbers and times, shortened the same way everywhere."""

from __future__ import annotations


def short_number(number: int) -> str:
    """842, 9.2k, 1.3M."""
    for limit, unit in ((1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")):
        if number >= limit - limit // 20_000:  # 999,950 is 1.0M, never 1000.0k
            return f"{number / limit:.1f}{unit}"
    return str(number)


def short_size(size: int) -> str:
    """Bytes: 842 B, 64.0 KiB, 1.5 GiB."""
    number, unit = float(size), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if number < 1023.95 or unit == "TiB":
            break
        number /= 1024
    return f"{size} B" if unit == "B" else f"{number:.1f} {unit}"


def short_time(seconds: float | None) -> str:
    """0.8s, 42s, 12:07, 3:05:00; empty when unknown."""
    if seconds is None:
        return ""
    if seconds < 10 and (text := f"{seconds:.1f}s") != "10.0s":
        return text
    whole = max(10, int(seconds))
    if whole < 60:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def short_latency(seconds: float) -> str:
    """As `short_time`, but 12ms in place of 0.0s."""
    text = short_time(seconds)
    return f"{round(seconds * 1e3)}ms" if text == "0.0s" else text


def short_cost(cost: float) -> str:
    """US dollars: $0.0042, $0.42, $42.10, $4.2k."""
    if cost >= 999.995:
        return f"${short_number(round(cost))}"
    return f"${cost:.4f}" if 0 < cost < 0.00995 else f"${cost:.2f}"


def short_age(seconds: float) -> str:
    """How long ago: 42s, 12m, 5h, 3d."""
    for length, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= length:
            return f"{int(seconds // length)}{unit}"
    return f"{int(seconds)}s"


def count_of(number: int, noun: str) -> str:
    """1 turn, 2 turns."""
    return f"{number:,} {noun}{'s' * (number != 1)}"
