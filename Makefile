# make demo [INPUT=video|picture|folder|0]   try it: hands over DDS, an overlay video, a recording
# make test                                  all tests that run without ROS and without a GPU
# make lint                                  style
PYTHON ?= python3
INPUT ?=
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint clean

demo: $(VENV)/demo.stamp
	$(BIN)/hand-perception demo $(if $(INPUT),--input "$(INPUT)")

test: $(VENV)/test.stamp
	$(BIN)/python -m pytest

lint: $(VENV)/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	rm -rf $(VENV)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo.stamp: pyproject.toml | $(BIN)/python
	$(BIN)/pip install -e ".[dds]"
	touch $@

# torch on its own and pinned: left to choose, pip may take a build with gigabytes of CUDA.
$(VENV)/test.stamp: pyproject.toml | $(BIN)/python
	$(BIN)/pip install torch==2.13.0
	$(BIN)/pip install -e ".[dds,train,template,test]"
	touch $@ $(VENV)/demo.stamp
