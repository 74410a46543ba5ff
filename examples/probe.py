"""Which layer knows most about phones? Trains a linear probe and two deeper ones on every layer, and draws the report.

python examples/probe.py [FOLDER]           with TIMIT's .phn beside the audio; without a folder: synthetic voices
"""

import sys

import s3prl_aalbert as aalbert
from s3prl_aalbert.speech.synthetic.corpus import synthesise_corpus

speech = sys.argv[1] if len(sys.argv) > 1 else synthesise_corpus("result/examples/speech")
probes = aalbert.probe(
    "aalbert_tiny",
    "result/examples/probe",
    tasks=["phone"],
    config="aalbert_probe_demo",  # of TIMIT: aalbert_probe_timit
    settings={"config.downstream_expert.datarc.phone.audio": str(speech), "config.runner.total_steps": 40},
    resume=True,
)
for each in probes:
    print(f"layer {each.layer}, {each.classifier}: {each.test_accuracy:.1%} of the frames")
linear = [each for each in probes if each.classifier == "linear"]
print(f"best for a linear probe, by dev: layer {max(linear, key=lambda each: each.dev_accuracy).layer}")
print(f"report: {aalbert.report(['result/examples/probe'], 'result/examples/report')}")
