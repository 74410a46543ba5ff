"""S3PRL's options for the tasks of a SUPERB submission; a module of its own, so that ``--help`` imports nothing."""

OPTIONS = {
    "pr": "phoneme recognition",
    "sid": "speaker identification",
    "ks": "keyword spotting",
    "ic": "intent classification",
    "er_fold1": "emotion recognition, fold 1",
    "er_fold2": "fold 2",
    "er_fold3": "fold 3",
    "er_fold4": "fold 4",
    "er_fold5": "fold 5",
    "asr_no_lm": "speech recognition",
    "asr_with_lm": "speech recognition with a language model",
    "qbe": "query by example",
    "sf": "slot filling",
    "sv": "speaker verification",
    "sd": "speaker diarisation",
    "se": "speech enhancement",
    "ss": "source separation",
    "st": "speech translation",
}
