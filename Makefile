# make demo: train and compare on two CPU cores. make test: the gate. All of them make .venv first.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
export OMP_NUM_THREADS := 1
export TOKENIZERS_PARALLELISM := false
# Without bytecode every process of the tests would compile torch and transformers anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo demo-full test lint clean

# The main packages without their test tools: enough to train, summarize and evaluate.
$(VENV)/.installed: setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

demo: $(VENV)/.installed
	$(RUN) -m trainer.demo --output runs/demo --variants text-only sampler dvp mm-dvp

# The same folder with the concat variant, too: what demo has trained is kept.
demo-full: $(VENV)/.installed
	$(RUN) -m trainer.demo --output runs/demo

test: lint
	$(RUN) -m pytest --numprocesses 2 --dist loadgroup

lint: $(VENV)/.installed-test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

clean:
	rm -rf $(VENV) build *.egg-info
