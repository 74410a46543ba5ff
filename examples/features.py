"""The features of a few files, and which files sound alike.

python examples/features.py [FILE ...]      without files: synthetic voices
"""

import sys

import torch

import s3prl_aalbert as aalbert
from s3prl_aalbert.speech.synthetic.corpus import synthesise_corpus

files = sys.argv[1:] or sorted(synthesise_corpus("result/examples/speech").glob("*/*.wav"))[::40]
model = aalbert.load("aalbert_tiny")  # or any upstream of `aalbert list models --all`, or a folder of your own model

means = []
for file in files:
    tokens = aalbert.features(model, file, layer=-1)  # (tokens, width); layer="all" gives (layers, tokens, width)
    means.append(tokens.mean(dim=0))
    print(f"{file}: {tokens.size(0)} tokens of 30 ms, {tokens.size(1)} values each")

directions = torch.nn.functional.normalize(torch.stack(means), dim=1)
print("cosine of their means:")
for row in directions @ directions.T:
    print("  " + "  ".join(f"{value:5.2f}" for value in row))
