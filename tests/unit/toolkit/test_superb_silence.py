"""SoX's effect silence: against hand-made signals, and sample by sample against the program sox where there is one."""

import shutil
import subprocess

import numpy as np
import pytest
import soundfile
import torch

from s3prl_aalbert.toolkit.repairs import sox_effects, sox_silence

RATE = 16000
TRIM = ["1", "0.1", "0.1%"]
EVERYWHERE = [*TRIM, "-1", "0.1", "0.1%"]


def kept(wav, arguments):
    return sox_silence.kept(np.atleast_2d(wav), RATE, sox_silence.parse(arguments, RATE))


def square(amplitude, samples):
    """A wave of constant loudness: its root mean square over any window is its amplitude."""
    return amplitude * np.where(np.arange(samples) % 2 == 0, 1.0, -1.0)


def test_silence_before_sound_goes_and_the_sound_stays():
    wav = np.concatenate([np.zeros(5000), square(0.5, 4000), np.zeros(4000)])
    keep = kept(wav, TRIM)
    # One sample of 0.5 makes a 20 ms window (320 samples) 0.5 / sqrt(320) = 0.028 loud, over 0.001.
    assert keep.tolist() == [False] * 5000 + [True] * 8000


def test_silence_in_the_middle_goes_from_where_the_window_has_emptied():
    sound, gap = square(0.5, 4000), np.zeros(4000)
    keep = kept(np.concatenate([sound, gap, sound]), EVERYWHERE)
    # The window still holds sound for 319 samples; 0.1 s (1600 samples) later the cut is sure.
    assert keep.tolist() == [True] * 4319 + [False] * 3681 + [True] * 4000


def test_short_sounds_and_short_pauses_are_not_noticed():
    click = np.concatenate([np.zeros(3000), square(0.5, 1000), np.zeros(3000)])
    assert not kept(click, TRIM).any()
    pause = np.concatenate([square(0.5, 3000), np.zeros(1500), square(0.5, 3000)])
    assert kept(pause, EVERYWHERE).all()


def test_the_threshold_is_a_percentage_of_full_scale():
    for amplitude, heard in ((0.00099, False), (0.00101, True)):
        assert kept(square(amplitude, 8000), TRIM).any() == heard


def test_any_channel_counts_and_all_are_cut_alike():
    quiet, sound = np.zeros(6000), np.concatenate([np.zeros(2000), square(0.5, 4000)])
    wav, _ = sox_effects.apply_effects_tensor(
        torch.tensor(np.stack([quiet, sound])).float(), RATE, [["silence", *TRIM]]
    )
    assert tuple(wav.shape) == (2, 4000)
    assert not wav[0].any() and bool(wav[1].all())


@pytest.mark.skipif(shutil.which("sox") is None, reason="the program sox is not installed")
def test_cuts_where_sox_cuts(tmp_path):
    effects = [["channels", "1"], ["rate", "16000"], ["gain", "-3.0"], ["silence", *EVERYWHERE]]
    for seed in range(20):
        generator = np.random.default_rng(seed)
        parts = []
        for _ in range(6):
            parts.append(generator.uniform(0.001, 0.5) * generator.standard_normal(generator.integers(500, 9000)))
            parts.append(np.zeros(generator.integers(0, 6000)))
        wav = np.concatenate(parts) + 10 ** generator.uniform(-5, -3) * generator.standard_normal(sum(map(len, parts)))
        soundfile.write(tmp_path / "in.wav", wav.clip(-1, 1), RATE, subtype="PCM_16")
        command = ["sox", "in.wav", "-e", "float", "-b", "32", "out.wav", *(word for e in effects for word in e)]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
        expected, _ = soundfile.read(tmp_path / "out.wav")
        found = sox_effects.apply_effects_file(tmp_path / "in.wav", effects)[0][0].numpy()
        assert len(found) == len(expected)
        assert np.allclose(found, expected, atol=1e-6)
