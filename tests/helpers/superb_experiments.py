"""Experiment folders as S3PRL leaves them after the evaluation of SUPERB's tasks, with a few predictions each."""

import argparse
from pathlib import Path

import h5py
import numpy as np
import torch

LINES = {
    "pr": {"test-hyp.ark": "61-1-0000 AH0 T\n61-1-0001 \n", "test-ref.ark": "61-1-0000 AH0 T\n61-1-0001 S\n"},
    "sid": {"test_predict.txt": "id10001-a-1 id10001\nid10002-b-1 id11251\n"},
    "ks": {"test_predict.txt": "yes-a_nohash_0.wav yes\n_silence_-b.wav _silence_\n"},
    "ic": {"test_predict.csv": "aa-0,increase,volume,none\nbb-1,change language,none,none\n"},
    **{
        f"er_fold{fold}": {f"test_fold{fold}_predict.txt": f"Ses0{fold}F_0 neu\nSes0{fold}F_1 ang\n"}
        for fold in range(1, 6)
    },
    "asr_no_lm": {"test-clean-noLM-hyp.ark": "61-1-0000 A CAT\n61-1-0001 \n"},
    "asr_with_lm": {"test-clean-LM-hyp.ark": "61-1-0000 THE CAT\n61-1-0001 NO\n"},
    "qbe": {
        "benchmark.stdlist.xml": "<stdlist>\n"
        '<detected_termlist termid="q1">\n<term file="d1" score="0.5" decision="NO"/>\n'
        '<term file="d2" score="2.5" decision="YES"/>\n</detected_termlist>\n'
        '<detected_termlist termid="q2">\n<term file="d2" score="-1" decision="NO"/>\n'
        '<term file="d1" score="0" decision="NO"/>\n</detected_termlist>\n</stdlist>\n'
    },
    "sf": {"test-hyp.ark": "Brian-0 PLAY B-artist BIRD E-artist\nBrian-1 OFF\n"},
    "sv": {"test_predict.txt": "id1-a-1_id2-b-2 0.25\nid1-a-1_id1-c-3 -0.5\n"},
    "sd": {"frame_shift": "480\n"},
    "se": {"test_metrics.txt": "pesq 2.5\nstoi 0.9\n"},
    "ss": {"test_metrics.txt": "si_sdr 9.25\n"},
    "st": {"output-st-test.tsv": "utt_id\thyp\tref\nc1\tEin Hund\tEin Hund\nc2\t\tKatze\n"},
}
DOWNSTREAM = {"pr": "ctc", "sf": "ctc", "sv": "sv_voxceleb1", "asr_no_lm": "asr"}


def experiment(folder: Path, option: str) -> Path:
    """Write the predictions of one task and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in LINES[option].items():
        (folder / name).write_text(text)
    if option == "sd":
        predictions = folder / "scoring/predictions"
        predictions.mkdir(parents=True)
        for number in range(2):
            with h5py.File(predictions / f"mix{number}.h5", "w") as file:
                file.create_dataset("T_hat", data=np.full((5 + number, 2), 0.25, dtype=np.float32))
    return folder


def checkpoint(path: Path, score: float, option: str = "ks", **args: object) -> Path:
    """Write a checkpoint as S3PRL's runner saves it: 10 + 3 parameters, and the best score on dev."""
    settings = {"upstream": "fbank", "upstream_ckpt": None, "upstream_feature_selection": "hidden_states", "seed": 7}
    states = {
        "Args": argparse.Namespace(downstream=DOWNSTREAM.get(option, "any"), **(settings | args)),
        "Config": {
            "runner": {"total_steps": 30, "gradient_accumulate_steps": 2},
            "optimizer": {"name": "TorchOptim", "torch_optim_name": "Adam", "lr": 1e-3},
            "downstream_expert": {"datarc": {"train_batch_size": 8}, "metric_higher_better": option != "pr"},
        },
        "Downstream": {"linear.weight": torch.zeros(2, 5), "best_score": torch.full((1,), score)},
        "Featurizer": {"weights": torch.zeros(3)},
        "Step": 20,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(states, path)
    return path
