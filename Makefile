# Everything from a fresh machine with Python 3.11 or newer and make. UNLIKE_VENV names another virtual environment.
PYTHON ?= python3
VENV := $(or $(UNLIKE_VENV),.venv)
BIN := $(VENV)/bin
export OMP_WAIT_POLICY := PASSIVE

.PHONY: demo serve test check coverage format docs clean

demo: $(VENV)/demo.stamp          ## fit, evaluate and report on real solar cells
	$(BIN)/unlike demo -o unlike-demo

serve: $(VENV)/serve.stamp        ## serve a detector of real solar cells: REST, and a page on http://127.0.0.1:8000/
	$(BIN)/unlike serve unlike-serve --demo

test: check                       ## set everything up and pass every check and test

check: $(VENV)/dev.stamp          ## what to run before a commit
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/make_reference.py --check
	$(BIN)/python docs/make_architecture.py --check
	$(BIN)/python docs/make_export.py --check
	$(BIN)/python docs/make_inputs.py --check
	$(BIN)/python docs/make_measured.py --check
	$(BIN)/python docs/make_metrics.py --check
	$(BIN)/python docs/make_reports.py --check
	$(BIN)/python docs/make_scale.py --check
	$(BIN)/python -m pytest -n 2 --dist loadfile

coverage: $(VENV)/dev.stamp       ## which lines no test reaches (apart, for it makes the suite half as slow again)
	$(BIN)/python -m pytest -n 2 --dist loadfile --cov --cov-report=term:skip-covered

format: $(VENV)/dev.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/dev.stamp           ## write the pages and pictures that are made from code and results
	$(BIN)/python docs/make_reference.py
	$(BIN)/python docs/make_architecture.py
	$(BIN)/python docs/make_export.py
	$(BIN)/python docs/make_inputs.py
	$(BIN)/python docs/make_measured.py
	$(BIN)/python docs/make_metrics.py
	$(BIN)/python docs/make_reports.py
	$(BIN)/python docs/make_scale.py
	$(BIN)/python docs/make_growth.py

$(VENV)/demo.stamp: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	touch $@

$(VENV)/serve.stamp: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[demo,serve]'
	touch $@

$(VENV)/dev.stamp: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) unlike-demo unlike-serve build dist .coverage .mypy_cache .ruff_cache .pytest_cache
