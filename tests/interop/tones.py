"""Tones for phones to play, and the ear that finds them in a recording (Goertzel's algorithm)."""

from __future__ import annotations

import array
import math
import wave
from pathlib import Path

RATE = 8000


def write_tone(path: Path, frequency: float, seconds: float) -> None:
    """Writes a sine of that frequency, in hertz, as a mono 16-bit WAV file at 8000 samples a second."""
    samples = array.array(
        "h", (int(12000 * math.sin(2 * math.pi * frequency * number / RATE)) for number in range(int(seconds * RATE)))
    )
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.tobytes())


def read_samples(path: Path) -> tuple[int, array.array[int]]:
    """Samples a second, and the first channel, of a 16-bit WAV file, also of one whose header was never finished."""
    data = path.read_bytes()
    rate = int.from_bytes(data[24:28], "little")
    channels = int.from_bytes(data[22:24], "little")
    start = data.find(b"data") + 8
    samples = array.array("h", data[start : start + (len(data) - start) // 2 * 2])
    return rate, samples[::channels]


def strength(samples: array.array[int], rate: int, frequency: float) -> float:
    """The part of the signal's power, 0 to 1, that lies at a frequency in hertz; the mean of blocks of 50 ms, silent
    blocks left out."""
    size = rate // 20
    parts = []
    for start in range(0, len(samples) - size, size):
        block = samples[start : start + size]
        power = sum(sample * sample for sample in block)
        if power < size * 10_000:
            continue
        factor = 2 * math.cos(2 * math.pi * frequency / rate)
        one = two = 0.0
        for sample in block:
            one, two = sample + factor * one - two, one
        parts.append(2 * (one * one + two * two - factor * one * two) / (power * size))
    return sum(parts) / len(parts) if parts else 0.0
