"""Seconds-long corpora in the layouts of SUPERB's datasets, spoken by the project's own synthesiser.

Each function writes one corpus into ``root`` as it lies on disk after the official download and preparation.
"""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
import soundfile

from s3prl_aalbert.speech.synthetic.corpus import make_voice
from s3prl_aalbert.speech.synthetic.source_filter import PHONES, SAMPLE_RATE, render

# Words with ARPABET pronunciations, all of phones that the synthesiser has.
LEXICON = {
    "ALL": "AA1 L",
    "BED": "B EH1 D",
    "BIRD": "B ER1 D",
    "CAT": "K AE1 T",
    "DOWN": "D AE1 UW0 N",
    "GO": "G AA1 UW0",
    "HALL": "AA1 L",
    "KEY": "K IY1",
    "LAMP": "L AE1 M P",
    "LEFT": "L EH1 F T",
    "LESS": "L EH1 S",
    "MUSIC": "M Y UW1 Z EH0 K",
    "NEED": "N IY1 D",
    "NO": "N AA1 UW0",
    "OFF": "AA1 F",
    "ON": "AA1 N",
    "PLAY": "P L EH1 IY0",
    "READ": "R IY1 D",
    "RIGHT": "R AA1 IY0 T",
    "SEE": "S IY1",
    "SHOE": "SH UW1",
    "STOP": "S T AA1 P",
    "SUN": "S AH1 N",
    "THE": "D AH0",
    "TURN": "T ER1 N",
    "TWO": "T UW1",
    "UP": "AH1 P",
    "YES": "Y EH1 S",
}
# What the speaker of a session of IEMOCAP feels, by utterance. SUPERB takes excitement as happiness and leaves
# frustration out. S3PRL's random fifth for dev has all four: a constant answer scores above zero.
EMOTIONS = ("neu", "hap", "ang", "sad", "exc", "neu", "ang", "sad", "fru")
KEYWORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")


def speech(words: Sequence[str], speaker: int, seed: int) -> np.ndarray:
    """Return words of LEXICON said by a speaker, (samples,) float64 at 16 kHz."""
    generator = np.random.default_rng([speaker, seed])
    voice = make_voice(3, speaker)
    phones = ["h#", *(phone.rstrip("012").lower() for word in words for phone in LEXICON[word].split()), "h#"]
    seconds = [PHONES[phone].duration_ms / 1000 / voice.rate * generator.uniform(0.9, 1.1) for phone in phones]
    boundaries = np.rint(np.cumsum([0, *seconds]) * SAMPLE_RATE).astype(np.int64)
    wav = render(phones, boundaries, voice, generator)
    wav = 0.4 * wav / np.abs(wav).max()
    return wav + 1e-4 * generator.standard_normal(len(wav))


def sentences(speaker: int, count: int, length: int = 3) -> Iterator[tuple[str, ...]]:
    """Yield word sequences, different ones for different speakers."""
    generator = np.random.default_rng([speaker, 99])
    for _ in range(count):
        yield tuple(generator.choice(sorted(LEXICON), size=length).tolist())


def write(path: Path, wav: np.ndarray, rate: int = SAMPLE_RATE) -> Path:
    """Write 16-bit audio, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wav, rate, subtype="PCM_16")
    return path


def write_lines(path: Path, lines: Sequence[str]) -> Path:
    """Write lines of text, making the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def librispeech(root: Path, utterances: int = 4) -> Path:
    """SPLIT/SPEAKER/CHAPTER/SPEAKER-CHAPTER-NNNN.flac and .trans.txt; the PR task's lexicon beside it.

    All speakers say the same in the same voice, so that a few steps of training show on dev.
    """
    for split, speakers in (("train-clean-100", (19, 26)), ("dev-clean", (84,)), ("test-clean", (61,))):
        for speaker in speakers:
            chapter = root / split / str(speaker) / "198"
            lines = []
            for number, words in enumerate(sentences(0, utterances)):
                name = f"{speaker}-198-{number:04d}"
                write(chapter / f"{name}.flac", speech(words, 19, number))
                lines.append(f"{name} {' '.join(words)}")
            write_lines(chapter / f"{speaker}-198.trans.txt", lines)
    write_lines(root / "lexicon.txt", [f"{word}\t{phones}" for word, phones in LEXICON.items()])
    return root


def _is_dev_speaker(name: str) -> bool:
    """Tell whether the data set's rule (its README) puts a speaker into the 10 % for validation."""
    largest = 2**27 - 1
    return int(hashlib.sha1(name.encode()).hexdigest(), 16) % (largest + 1) * (100 / largest) < 10


def _is_test_speaker(name: str) -> bool:
    largest = 2**27 - 1
    return 10 <= int(hashlib.sha1(name.encode()).hexdigest(), 16) % (largest + 1) * (100 / largest) < 20


def speech_commands(root: Path, words: Sequence[str] = KEYWORDS) -> tuple[Path, Path]:
    """Return the folders of v0.01 and of its test set: WORD/SPEAKER_nohash_N.wav, one second each.

    Three speakers for dev, of which S3PRL draws at random: a constant answer should score above zero.
    """
    train, test = root / "speech_commands_v0.01", root / "speech_commands_test_set_v0.01"
    names = [f"{number:08x}" for number in range(0xA0, 0x400)]
    dev = [name for name in names if _is_dev_speaker(name)][:3]
    others = [name for name in names if not _is_dev_speaker(name) and not _is_test_speaker(name)][:2]
    for word in (*words, "bed", "bird"):
        for number, name in enumerate((*others, *dev)):
            second = np.resize(speech([word.upper()], number, 1), SAMPLE_RATE)
            write(train / word / f"{name}_nohash_0.wav", second)
        folder = word if word in words else "_unknown_"
        write(
            test / folder / f"{names[9]}_nohash_{len(word)}.wav", np.resize(speech([word.upper()], 9, 2), SAMPLE_RATE)
        )
    noise = np.random.default_rng(0).standard_normal(SAMPLE_RATE * 2)
    write(train / "_background_noise_" / "pink_noise.wav", 0.01 * noise)
    write(test / "_silence_" / "silence_0.wav", 0.01 * noise[:SAMPLE_RATE])
    return train, test


def voxceleb1(root: Path) -> Path:
    """{dev,test}/wav/SPEAKER/VIDEO/NNNNN.wav, with the lists of the SID and ASV tasks beside them."""
    identification, trials = [], []
    for split, speakers in (("dev", (10001, 10002, 10003)), ("test", (10270, 10271))):
        for speaker in speakers:
            for number in range(1, 4):
                name = f"id{speaker}/video{number}/{number:05d}.wav"
                words = next(sentences(speaker + number, 1, length=6))
                write(root / split / "wav" / name, speech(words, speaker, number))
                identification.append(f"{number} {name}")
    for split, (one, two) in {"dev": ("id10001", "id10002"), "test": ("id10270", "id10271")}.items():
        lines = []
        for number in (2, 3):
            first, other = f"{one}/video1/00001.wav", f"video{number}/{number:05d}.wav"
            lines += [f"1 {first} {one}/{other}", f"0 {first} {two}/{other}"]
        trials.append(write_lines(root / f"{split}_trials.txt", lines))
    write_lines(root / "veri_test_class.txt", identification)
    return root


def fluent_commands(root: Path) -> Path:
    """wavs/speakers/SPEAKER/NAME.wav and data/{train,valid,test}_data.csv."""
    said = {
        "TURN UP THE MUSIC": ("increase", "volume", "none"),
        "LAMP ON": ("activate", "lights", "bedroom"),
        "LAMP OFF": ("deactivate", "lights", "bedroom"),
    }
    for split, speakers in (("train", ("aa", "bb")), ("valid", ("cc",)), ("test", ("dd",))):
        rows = [",path,speakerId,transcription,action,object,location"]
        for speaker in speakers:
            for number, (text, slots) in enumerate(said.items()):
                path = f"wavs/speakers/{speaker}/{speaker}-{number}.wav"
                write(root / path, speech(text.split(), ord(speaker[0]), number))
                rows.append(f"{len(rows) - 1},{path},{speaker},{text.capitalize()},{','.join(slots)}")
        write_lines(root / "data" / f"{split}_data.csv", rows)
    return root


def iemocap(root: Path) -> Path:
    """SessionN/sentences/wav/DIALOG/UTTERANCE.wav and SessionN/dialog/EmoEvaluation/DIALOG.txt."""
    for session in range(1, 6):
        dialog = f"Ses0{session}F_impro01"
        lines = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]
        for number, emotion in enumerate(EMOTIONS):
            name = f"{dialog}_F{number:03d}"
            words = next(sentences(number, 1, length=2))
            write(root / f"Session{session}/sentences/wav/{dialog}/{name}.wav", speech(words, session, number))
            lines.append(f"[{number}.0000 - {number}.9000]\t{name}\t{emotion}\t[2.5000, 2.5000, 2.5000]")
            lines.append("C-E2:\tNeutral;\t()")
        write_lines(root / f"Session{session}/dialog/EmoEvaluation/{dialog}.txt", lines)
    return root


def libri2mix(root: Path) -> Path:
    """{train,dev,test} in Kaldi's style, as LibriMix's preparation for diarisation writes them."""
    for split, recordings in (("train", 4), ("dev", 2), ("test", 2)):
        tables: dict[str, list[str]] = {name: [] for name in ("wav.scp", "segments", "utt2spk", "spk2utt", "reco2dur")}
        for number in range(recordings):
            ids = (f"{number}1", f"{number}2")
            one, two = (speech(next(sentences(int(speaker), 1)), int(speaker), number) for speaker in ids)
            start = 4000
            mixture = np.zeros(max(len(one), start + len(two)))
            mixture[: len(one)] += one
            mixture[start : start + len(two)] += two
            rec = f"{ids[0]}-198-0000_{ids[1]}-198-0000"
            path = write(root / split / "wav" / f"{rec}.wav", 0.5 * mixture)
            tables["wav.scp"].append(f"{rec} {path}")
            tables["reco2dur"].append(f"{rec} {len(mixture) / SAMPLE_RATE:.4f}")
            for speaker, begin, wav in ((ids[0], 0, one), (ids[1], start, two)):
                utterance = f"{speaker}_{rec}"
                end = (begin + len(wav)) / SAMPLE_RATE
                tables["segments"].append(f"{utterance} {rec} {begin / SAMPLE_RATE:.2f} {end:.2f}")
                tables["utt2spk"].append(f"{utterance} {speaker}")
                tables["spk2utt"].append(f"{speaker} {utterance}")
        for name, lines in tables.items():
            write_lines(root / split / name, lines)
    return root


def snips(root: Path) -> Path:
    """{train,valid,test}/SPEAKER-snips-SPLIT-N.wav, all.iob.snips.txt and slots.txt.

    A sentence has no slot: a model that finds none there scores above zero on dev, however little it has learned.
    """
    said = {
        "PLAY THE MUSIC": "O O genre",
        "READ TWO KEY": "O rating_value object_name",
        "PLAY BIRD SUN": "O artist artist",
        "TURN OFF THE LAMP": "O O O object_name",
        "STOP": "O",
    }
    lines = []
    voices = {"train": ("Ivy", "Joey"), "valid": ("Aditi",), "test": ("Brian",)}
    for split, speakers in voices.items():
        for speaker in speakers:
            for number, (text, slots) in enumerate(said.items()):
                name = f"{speaker}-snips-{split}-{number}"
                write(root / split / f"{name}.wav", speech(text.split(), len(speaker), number))
                lines.append(f"{name} BOS {text} EOS\tO {slots} O")
    write_lines(root / "all.iob.snips.txt", lines)
    (root / "slots.txt").write_text("\n".join(["O", "artist", "genre", "object_name", "rating_value"]))
    return root


def quesst14(root: Path) -> Path:
    """Audio/*.wav, {dev,eval}_queries/*.wav at 8 kHz and the language keys in scoring/."""
    words = cycle(("LAMP", "BIRD", "MUSIC"))
    folders = {"utterances": ("Audio", 3), "dev": ("dev_queries", 2), "eval": ("eval_queries", 2)}
    for key, (folder, count) in folders.items():
        lines = [f"quesst14Database/{folder}/elsewhere.wav albanian"]
        for number in range(count):
            name = f"{folder}/quesst14_{key}_{number:05d}.wav"
            said = [next(words)] if key != "utterances" else ["PLAY", next(words), "ON"]
            write(root / name, speech(said, number, len(key))[::2], rate=8000)
            lines.append(f"quesst14Database/{name} nnenglish")
        write_lines(root / "scoring" / f"language_key_{key}.lst", lines)
    return root


def place(root: Path, *names: str) -> Path:
    """Write the corpora under the names that downstream_configs/superb_*.yaml use, with the lists of S3PRL's source.

    Args:
        root: the folder of all corpora.
        names: which tasks' corpora, e.g. "ks", "pr".
    """
    lists = root / "s3prl/s3prl/downstream"
    if {"pr", "asr"} & set(names):
        lexicon = librispeech(root / "LibriSpeech") / "lexicon.txt"
        lines = lexicon.read_text().splitlines()
        write_lines(lists / "ctc/lexicon/librispeech-lexicon-200k-g2p.txt", lines[::2])
        write_lines(lists / "ctc/lexicon/librispeech-lexicon-allothers-g2p.txt", lines[1::2])
        lexicon.unlink()
    if "ks" in names:
        speech_commands(root)
    if {"sid", "asv"} & set(names):
        corpus = voxceleb1(root / "VoxCeleb1")
        for source, target in {
            "veri_test_class.txt": "voxceleb1/veri_test_class.txt",
            "dev_trials.txt": "sv_voxceleb1/dev_meta_data/dev_meta_data.txt",
            "test_trials.txt": "sv_voxceleb1/voxceleb1_test_v2.txt",
        }.items():
            (lists / target).parent.mkdir(parents=True, exist_ok=True)
            (corpus / source).rename(lists / target)
    for name, make, folder in (
        ("ic", fluent_commands, "fluent_speech_commands_dataset"),
        ("er", iemocap, "IEMOCAP"),
        ("sd", libri2mix, "Libri2Mix/diarization"),
        ("sf", snips, "SNIPS"),
        ("qbe", quesst14, "quesst14Database"),
    ):
        if name in names:
            make(root / folder)
    return root
