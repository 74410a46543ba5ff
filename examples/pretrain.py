"""Pre-train a tiny model for a few steps and use it.

python examples/pretrain.py [FOLDER]        without a folder: synthetic voices
"""

import sys

import torch

import s3prl_aalbert as aalbert
from s3prl_aalbert.speech.synthetic.corpus import synthesise_corpus

speech = sys.argv[1] if len(sys.argv) > 1 else synthesise_corpus("result/examples/speech")
folder = aalbert.pretrain(
    [speech],
    "result/examples/pretrain",
    model="demo",  # for a model to work with: aalbert_6l, and config="pretrain_default"
    config="pretrain_debug",
    settings={"config.runner.total_steps": 20},
    resume=True,  # an interrupted run goes on where it stopped
)

model = aalbert.load(folder)
hidden_states = model([torch.randn(16000), torch.randn(8000)])["hidden_states"]  # of a batch, any lengths
print(f"{folder}: {sum(p.numel() for p in model.parameters()):,} parameters")
print(f"{len(hidden_states)} hidden states of (utterances, tokens, width) = {tuple(hidden_states[0].shape)}")
