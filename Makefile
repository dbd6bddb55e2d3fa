# make demo and make test need only Python 3.11 or later.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo docs test test-all test-reliability test-lowest bench check-wheel lint format clean

# The stamp is newer than the files it was installed from, so that a second make installs nothing.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(VENV)/installed  ## a released model, a new one and a report, in two to three minutes
	$(BIN)/elmolite demo $(DEMO)

# Two processes, of one thread each. Each begins with tests of its own half of the files, which share fixtures.
PYTEST := -m pytest -n 2 --dist worksteal

test: $(VENV)/installed  ## the quick tests; make test TEST=tests/nn for some of them
	$(BIN)/python $(PYTEST) -m "not (slow or multiprocess or reliability or notebooks)" $(TEST)

test-all: $(VENV)/installed  ## every test, those of tests/reliability as samples
	$(BIN)/python $(PYTEST) --hypothesis-profile all $(TEST)

test-reliability: $(VENV)/installed  ## killing, damage and untrusted files in full
	$(BIN)/python -m pytest --full -m reliability -rP $(TEST)

# The lowest allowed version of every dependency but torch. datasets 5.0 leaves a CSV file open; the warning of the garbage
# collector cannot be caught.
test-lowest: $(VENV)-lowest/installed
	$(VENV)-lowest/bin/python -m pytest -W ignore::pytest.PytestUnraisableExceptionWarning $(TEST)

$(VENV)-lowest/installed: pyproject.toml constraints-lowest.txt
	$(PYTHON) -m venv $(VENV)-lowest
	$(VENV)-lowest/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-lowest.txt \
		-e '.[all,test]'
	touch $@

bench: $(VENV)/installed  ## embedding and pretraining, against the systems in bench-peers/; see recipes/bench/README.md
	for comparison in new_words.py "new_words.py --preset original --repeats 3" seen_words.py text.py one.py \
			bf16.py minilm.py memory.py "memory.py --keep"; do \
		$(BIN)/python recipes/bench/embed_$$comparison --wait 300 $(BENCH) || exit 1; \
	done
	$(BIN)/python recipes/bench/pretrain.py --wait 300 $(BENCH)

docs: $(VENV)/installed  ## the documentation site, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

check-wheel: $(VENV)/installed  ## the built wheel, in an environment without this checkout
	bash tests/check_wheel.sh $(BIN)/python

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(VENV)-lowest build dist site *.egg-info .pytest_cache .ruff_cache .mypy_cache
