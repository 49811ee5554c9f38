# Each target sets up what it needs, in the active virtual environment or in .venv.
VENV := $(if $(VIRTUAL_ENV),$(VIRTUAL_ENV),.venv)
PYTHON := $(VENV)/bin/python
READY := $(VENV)/.iaside-ready
FROST := imagecorruptions-imaug==1.1.5  # only for its frost textures: its code is never imported
LATEST := .venv-latest
export OMP_NUM_THREADS ?= 1

.PHONY: demo demo-picture demo-digits test test-captum-0.8 test-latest lint docs notebooks bench figures gpu-check setup

demo: setup  # with as many threads as there are cores
	env -u OMP_NUM_THREADS $(PYTHON) -m iaside_plugins.cli demo

demo-picture: demo  # of docs/demo.md
	cp iaside-demo/why-efficientnet_lite0.png docs/demo.png

demo-digits: setup
	$(PYTHON) -m iaside_plugins.cli demo --digits

test: setup  # ARGS="-k absence", ARGS="tests/spectral", ARGS='-m "not slow"'
	$(PYTHON) -m pytest -n auto --dist worksteal $(ARGS)

test-captum-0.8: setup  # the published wheel asks for an older numpy than it needs
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --upgrade \
		--target $(VENV)/captum-0.8 captum==0.8.0
	PYTHONPATH=$(VENV)/captum-0.8 $(PYTHON) -m pytest -n auto -m captum \
		$$(grep -rl --include='*.py' 'mark.captum' tests)

# The newest of everything, also of what RobustBench pins (timm), in an environment of its own.
test-latest:
	python3 -m venv $(LATEST)
	$(LATEST)/bin/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	$(LATEST)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade \
		torch torchvision timm numpy pandas captum shapiq
	$(LATEST)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps $(FROST)
	$(LATEST)/bin/python -m pytest -n auto $(ARGS)

lint: setup
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	$(VENV)/bin/lint-imports

# The site, in docs/_build/html; needs no network. A warning or a dead link within it fails.
docs: setup
	$(PYTHON) -m sphinx -W --keep-going -q -b html docs docs/_build/html

notebooks: setup  # with new outputs
	$(PYTHON) docs/_ext/notebooks.py

bench: setup
	$(PYTHON) tests/bench/bench_importance.py
	$(PYTHON) tests/bench/bench_captum.py
	$(PYTHON) tests/bench/bench_cluster.py
	$(PYTHON) tests/bench/bench_statistics.py
	$(PYTHON) tests/bench/bench_board.py
	$(PYTHON) tests/bench/bench_answer.py

# Every committed picture, from the JSON files beside it.
figures: setup
	$(PYTHON) -m iaside_plugins.leaderboard.studies.adversarial    # leaderboard/adversarial/adversarial.png
	$(PYTHON) -m iaside_plugins.leaderboard.studies.attributions   # leaderboard/attributions/profiles.png
	$(PYTHON) -m iaside_plugins.leaderboard.studies.decomposition  # leaderboard/decomposition/decomposition.png
	$(PYTHON) -m iaside_plugins.leaderboard.studies.equal_accuracy # leaderboard/criteria/equal-accuracy.png
	$(PYTHON) -m iaside_plugins.leaderboard.studies.views          # leaderboard/criteria/views.png
	$(PYTHON) -m iaside_plugins.leaderboard.studies.quantised      # leaderboard/quantised/quantised.png
	$(PYTHON) -m iaside_plugins.leaderboard.studies.sensitivity    # leaderboard/sensitivity/sensitivity.png
	$(PYTHON) -m iaside_plugins.leaderboard.studies.spectra        # leaderboard/spectra/spectra.png
	$(PYTHON) -m iaside_plugins.leaderboard.studies.temperature    # leaderboard/temperature/temperature.png
	$(PYTHON) -m iaside_plugins.leaderboard.studies.training       # leaderboard/training/training.png

# Needs no network and no set-up: with a venv its Python, else the system's. ARGS="--quick"
gpu-check:
	$(if $(wildcard $(PYTHON)),$(PYTHON),python3) tests/bench/gpu_check.py $(ARGS)

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	test -x $(PYTHON) || python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps $(FROST)
	touch $(READY)
