"""A classifier of one's own on frozen features: who is speaking, with scikit-learn.

python examples/speakers.py [FOLDER]        of SPEAKER/*.wav; without a folder: synthetic voices
"""

import sys
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import s3prl_aalbert as aalbert
from s3prl_aalbert.speech.synthetic.corpus import synthesise_corpus

speech = Path(sys.argv[1] if len(sys.argv) > 1 else synthesise_corpus("result/examples/speech"))
files = [file for speaker in sorted(speech.iterdir()) for file in sorted(speaker.glob("*.wav"))[:8]]
speakers = [file.parent.name for file in files]

# The mean over time of the input features is zero (CMVN), that of the model's layers is not.
for name in ("aalbert_features", "aalbert_tiny"):
    model = aalbert.load(name)
    means = np.stack([aalbert.features(model, file).mean(dim=0) for file in files])
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    accuracy = cross_val_score(classifier, means, speakers, cv=4).mean()
    print(f"{name}: {accuracy:.1%} of {len(files)} utterances, {len(set(speakers))} speakers")
