# make run: a server from nothing.  make test: everything that is tested.  See README.md.

VENV ?= .venv
STATE ?= state
SOURCES = $(shell find sipd twisted -name '*.py') setup.cfg pyproject.toml
PIP = $(VENV)/bin/python -m pip --disable-pip-version-check --quiet

COMPILED = .venv-compiled

# For each target of `make fuzz`.
FUZZ_SECONDS ?= 60

.PHONY: run test test-core test-real mutants fuzz compiled test-compiled lint bench bench-quick bench-scale bench-micro bench-overload bench-events docs clean

run: $(VENV)/.installed
	$(VENV)/bin/twistd -n --pidfile= sipd --state-dir '$(STATE)' \
		--listen udp:0.0.0.0:5060 --listen 'udp:[::]:5060' --listen tcp:0.0.0.0:5060 --listen 'tcp:[::]:5060' \
		--listen tls:0.0.0.0:5061 --listen 'tls:[::]:5061'

test: test-core test-real

# Virtual time and loopback, minutes.
test-core: $(VENV)/.installed-dev
	$(VENV)/bin/python tools/run_tests.py core

# Real programs and load; alone on the machine.
test-real: $(VENV)/.installed-dev
	tools/apt-install tests/apt-packages.txt
	$(VENV)/bin/python tools/run_tests.py real

# Breaks a copy of the core in more than two hundred ways; each must make a test fail. Minutes: tools/mutants.py.
mutants: $(VENV)/.installed-dev
	$(VENV)/bin/python tools/mutants.py

# What reads the network, fed by a fuzzer that looks for new code: tools/fuzz.py. FUZZ_SECONDS=600 make fuzz
fuzz: $(VENV)/.installed-fuzz
	$(VENV)/bin/python tools/fuzz.py --seconds '$(FUZZ_SECONDS)'

# The same sources with what every message passes compiled by mypyc, in an environment of its own: see setup.py.
compiled: $(COMPILED)/.compiled

test-compiled: $(COMPILED)/.compiled
	$(COMPILED)/bin/python tools/run_tests.py compiled

$(COMPILED)/.compiled: $(SOURCES) setup.py
	tools/apt-install tools/compiler-apt-packages.txt
	tools/make-venv '$(COMPILED)'
	rm -rf build
	SIPD_COMPILE=1 $(COMPILED)/bin/python -m pip --disable-pip-version-check --quiet install '.[dev]'
	rm -rf build
	touch $@

lint: $(VENV)/.installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

# sipd, its compiled build and Kamailio side by side: about 30 minutes, alone on the machine; bench/RESULTS.md.
bench: $(VENV)/.installed $(COMPILED)/.compiled
	tools/apt-install bench/apt-packages.txt
	$(VENV)/bin/python bench/run.py --compiled '$(COMPILED)'

# Two rows, one round, a minute; nothing is written.
bench-quick: $(VENV)/.installed
	tools/apt-install bench/apt-packages.txt
	$(VENV)/bin/python bench/run.py --rows register-500,call-udp-500 --rounds 1 --seconds 5 --no-highest --output -

# Much state: minutes, and 2 GB of memory. What a stage of a message costs: two minutes.
bench-scale: $(VENV)/.installed
	tools/apt-install bench/apt-packages.txt
	$(VENV)/bin/python bench/scale.py

bench-micro: $(VENV)/.installed-dev
	$(VENV)/bin/python bench/micro.py

# What is left of the best rate of calls when twice as many come: five minutes, alone on the machine.
bench-overload: $(VENV)/.installed
	tools/apt-install bench/apt-packages.txt
	$(VENV)/bin/python bench/overload.py

# Ten thousand subscriptions, and one user whom 500 watch while others have calls: three minutes; bench/EVENTS.md.
bench-events: $(VENV)/.installed
	$(VENV)/bin/python bench/events.py

docs: $(VENV)/.installed-dev
	$(VENV)/bin/python tools/conformance.py
	$(VENV)/bin/python tools/cli_page.py

$(VENV)/bin/python:
	tools/make-venv '$(VENV)'

# What an earlier build left in build/ would be installed with the rest.
$(VENV)/.installed: $(VENV)/bin/python $(SOURCES)
	rm -rf build
	$(PIP) install .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	rm -rf build
	$(PIP) install '.[dev]'
	touch $@

$(VENV)/.installed-fuzz: $(VENV)/.installed-dev
	rm -rf build
	$(PIP) install '.[fuzz]'
	touch $@

clean:
	rm -rf build *.egg-info _trial_temp* .mypy_cache .ruff_cache
