#!/usr/bin/env bash
# SUPERB ASR: the characters of LibriSpeech, chosen by word error rate. With LM, a KenLM file of words (and LEXICON, their
# spellings), it is evaluated once more with that language model. Arguments and further variables: common.sh.
. "$(dirname "$0")/common.sh"
prepare "$PYTHON" -m s3prl_aalbert.submission.superb_lengths LibriSpeech
grid asr superb_asr dev-clean-best.ckpt test-clean
if [ -n "${LM:-}" ]; then
  decoder=config.downstream_expert.datarc.decoder_args
  evaluate "$RESULT/best/dev-clean-best.ckpt" test-clean \
    "$decoder.decoder_type=kenlm,,$decoder.kenlm_model=$LM,,$decoder.lexicon=${LEXICON:-librispeech_lexicon.lst}"
fi
